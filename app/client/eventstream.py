"""Server-sent events: bytes in, messages out (WHATWG HTML, section 9.2)."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One event: its type, its data, and the id to resume after, None where none was ever said."""

    event: str
    data: str
    last_id: str | None


class MessageReader:
    """Reads one stream; comments and what is not known are passed over."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = ""
        self._event = ""
        self._data: list[str] = []
        self._last_id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield the messages that `chunk` completes."""
        self._text += self._decoder.decode(chunk)
        while (line := self._line()) is not None:
            if line:
                self._field(*line.partition(":")[::2])
            elif (message := self._complete()) is not None:
                yield message

    def _line(self) -> str | None:
        """Take a line, which ends with CR, LF or both; None while it is not whole."""
        ends = [index for end in "\r\n" if (index := self._text.find(end)) >= 0]
        if not ends or self._text[min(ends) :] == "\r":  # its LF may be on the way
            return None
        end = min(ends)
        line = self._text[:end]
        self._text = self._text[end + (2 if self._text.startswith("\r\n", end) else 1) :]
        return line

    def _field(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_id = value

    def _complete(self) -> Message | None:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return Message(event, "\n".join(data), self._last_id) if data else None
