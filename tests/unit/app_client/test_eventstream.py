"""Bytes of a stream of events become messages, however they are cut."""

import pytest

from app.client.eventstream import Message, MessageReader

STREAM = (
    '\ufeff: a comment\n\nevent: status\nid: 7-0\ndata: {"a":\ndata: "é"}\n\n'
    "retry: 1000\n\nevent: empty\n\ndata:no space\nunknown: x\nnothing\n\ndata: unfinished"
).encode()
MESSAGES = [Message("status", '{"a":\n"é"}', "7-0"), Message("message", "no space", "7-0")]


def read(*chunks):
    reader = MessageReader()
    return [message for chunk in chunks for message in reader.feed(chunk)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_any_cut_and_any_line_end(size, end):
    stream = STREAM.replace(b"\n", end)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert read(*chunks) == MESSAGES


def test_an_id_may_be_taken_back_and_must_not_hold_zero():
    assert [m.last_id for m in read(b"id: 1\ndata: a\n\nid: \0\ndata: b\n\nid\ndata: c\n\n")] == ["1", "1", ""]
