"""Reading a multipart form as it comes: its texts, and one file, which is kept in memory while it is small."""

from dataclasses import dataclass, field
from email.message import Message
from tempfile import SpooledTemporaryFile

from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import RequestError
from app.images import IN_MEMORY_BYTES

_MAX_FIELDS = 32
_MAX_TEXT_BYTES = 2**20  # of all texts together; what is allowed of each is a matter of its field


@dataclass(slots=True)
class Form:
    """A form's (name, text) pairs in the order that they came in, and its file, open at its start; close it."""

    texts: list[tuple[str, str]]
    file: "SpooledTemporaryFile[bytes] | None"


async def read_form(request: Request, *, file_field: str) -> Form:
    """Read a form with one file at most, the part `file_field`; parts without a filename are texts, in UTF-8.

    Raises `RequestError` 400 for what is no form or ends too early, and what its body's limit raises. Nothing is left
    open or on disk then.
    """
    reader = _Reader(_boundary(request), file_field)
    try:
        async for chunk in request.stream():
            await reader.feed(chunk)
        return reader.ended()
    except BaseException:
        reader.close()
        raise


def invalid(field: str, kind: str, message: str) -> RequestValidationError:
    """Return a validation error like pydantic's own, for one field."""
    return RequestValidationError([{"type": kind, "loc": ("body", field), "msg": message}])


@dataclass(slots=True)
class _Part:
    """The part that is being read: its headers, then its text or that it is the file."""

    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    text: bytearray = field(default_factory=bytearray)


class _Reader:
    """Takes what the parser finds; the parser only calls, and the file is written to when it has finished a chunk."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self._file_field = file_field
        self._texts: list[tuple[str, str]] = []
        self._file: SpooledTemporaryFile[bytes] | None = None
        self._file_bytes = 0
        self._text_bytes = 0
        self._pending: list[bytes] = []  # of the file
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""
        self._is_whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    async def feed(self, chunk: bytes) -> None:
        """Go on with the next bytes of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        if self._file is None or not self._pending:
            return
        data, self._pending = b"".join(self._pending), []
        self._file_bytes += len(data)
        if self._file_bytes <= IN_MEMORY_BYTES:
            self._file.write(data)
        else:
            await run_in_threadpool(self._file.write, data)

    def ended(self) -> Form:
        """Return the form once the whole body has come."""
        if not self._is_whole:
            raise RequestError(400, "incomplete_body", "the multipart body ends before its closing boundary")
        if self._file is not None:
            self._file.seek(0)
        return Form(self._texts, self._file)

    def close(self) -> None:
        """Forget the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._part = _Part()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers[self._header_name.lower().decode("latin-1")] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers(self) -> None:
        kind, options = parse_options_header(self._part.headers.get("content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("each part must have a header Content-Disposition: form-data with a name")
        part = self._part
        part.name = _name(options[b"name"])
        part.is_file = b"filename" in options
        if not part.is_file:
            return
        if part.name != self._file_field:
            raise invalid(part.name, "text", "must be text, not a file")
        if self._file is not None:
            raise invalid(part.name, "repeated", "must be given only once")
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115  whoever asked for the form closes it

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._pending.append(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > _MAX_TEXT_BYTES:
            raise RequestError(
                413,
                "body_too_large",
                f"the form's texts must have at most {_MAX_TEXT_BYTES} bytes together",
                limit=_MAX_TEXT_BYTES,
            )
        self._part.text += data[start:end]

    def _on_part_end(self) -> None:
        part = self._part
        if part.is_file:
            return
        if len(self._texts) == _MAX_FIELDS:
            raise _malformed(f"a form must have at most {_MAX_FIELDS} fields")
        try:
            self._texts.append((part.name, part.text.decode()))
        except UnicodeDecodeError:
            raise invalid(part.name, "text", "must be text in UTF-8") from None

    def _on_end(self) -> None:
        self._is_whole = True


def _boundary(request: Request) -> bytes:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    boundary = message.get_boundary("")
    if not boundary:
        raise _malformed("the Content-Type names no boundary")
    try:
        return boundary.encode("ascii")
    except UnicodeEncodeError:
        raise _malformed("the boundary must be ASCII") from None


def _name(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("the name of a part must be UTF-8") from None


def _malformed(why: str) -> RequestError:
    return RequestError(400, "malformed_request", f"the body is no valid multipart form: {why}")
