"""What the front end itself can refuse, as types.

RequestError   this request is refused before the scheduler sees it; becomes a problem answer
CannotListen   the server cannot listen where it was told to; `str()` is one line fit for a user
"""

from collections.abc import Mapping

from starlette.exceptions import HTTPException


class RequestError(HTTPException):
    """A refused request: HTTP `status`, stable `code`, one line, and where it applies the `field` and the `limit`.

    It is an HTTPException so that the parsers of form and JSON bodies let it pass through unchanged.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        limit: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.field = field
        self.limit = limit


class CannotListen(Exception):
    """The address is taken, unknown, or open to others without leave."""
