"""The command about oneself: account."""

from app.cli.console import print_json
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_account


def account(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show whose API key this is, and what its tenant may do and does."""
    with session(url, api_key, as_json=as_json) as client:
        found = client.account()
        if as_json:
            print_json(found)
        else:
            show_account(found)
