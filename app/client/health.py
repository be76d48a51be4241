"""Whether the server can serve."""

from app.client.effects import Send, Steps
from app.client.errors import ApiError
from app.client.exchange import Server, exchange
from app.client.retry import ONCE


def ready(server: Server) -> Steps[bool]:
    """Tell whether the server says that it can serve; raises `ServerUnreachable` where nothing answers."""
    try:
        yield from exchange(server, Send("GET", "/readyz"), ONCE)
    except ApiError:
        return False
    return True
