"""What the load generator understands of HTTP."""

import pytest

from benchmarks.http.load import Answers

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\nhello"


@pytest.mark.parametrize("at", range(1, len(PLAIN)))
def test_an_answer_is_complete_wherever_it_is_cut(at: int) -> None:
    answers = Answers()
    assert answers.feed(PLAIN[:at]) is None
    assert answers.feed(PLAIN[at:]) == b"200"
    assert answers.feed(PLAIN) == b"200"


def test_what_has_no_body_ends_with_its_head() -> None:
    assert Answers().feed(b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n') == b"304"
    assert Answers().feed(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 700\r\n\r\n") == b"304"


def test_a_body_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="without a length"):
        Answers().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
