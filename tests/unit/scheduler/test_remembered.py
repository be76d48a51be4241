"""What is costly is read rarely, by one thread at a time, and nobody waits who need not."""

import threading

import pytest

from scheduler.remembered import Remembered


class Source:
    """Reads 1, 2, 3 …, each of which takes `seconds` of its own clock."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.at, self.reads, self.seconds = 100.0, 0, seconds

    def clock(self) -> float:
        return self.at

    def read(self) -> int:
        self.at += self.seconds
        self.reads += 1
        return self.reads


@pytest.mark.parametrize(("cost", "used_for"), [(0.0, 2.0), (0.01, 2.0), (1.0, 50.0)])
def test_a_value_is_used_in_proportion_to_its_cost(cost: float, used_for: float) -> None:
    source = Source(cost)
    remembered: Remembered[str, int] = Remembered(2.0, source.clock)

    assert remembered.get("a", source.read) == 1
    source.at += used_for * 0.99
    assert remembered.get("a", source.read) == 1
    source.at += used_for * 0.02
    assert remembered.get("a", source.read) == 2


def test_each_key_has_a_value_of_its_own() -> None:
    source = Source()
    remembered: Remembered[str, int] = Remembered(2.0, source.clock)

    assert [remembered.get(key, source.read) for key in "abab"] == [1, 2, 1, 2]


def test_what_cannot_be_read_is_tried_again() -> None:
    remembered: Remembered[str, int] = Remembered(2.0)

    def broken() -> int:
        raise OSError("away")

    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            remembered.get("a", broken)
    assert remembered.get("a", lambda: 7) == 7


def test_while_one_reads_the_others_have_the_old_value() -> None:
    source = Source()
    remembered: Remembered[str, int] = Remembered(2.0, source.clock)
    remembered.get("a", source.read)
    source.at += 3.0

    def read_while_others_ask() -> int:
        assert remembered.get("a", source.read) == 1
        return 9

    assert remembered.get("a", read_while_others_ask) == 9
    assert remembered.get("a", source.read) == 9


def test_before_the_first_value_all_wait_for_one_read() -> None:
    source = Source()
    remembered: Remembered[str, int] = Remembered(2.0, source.clock)
    began, may_end = threading.Event(), threading.Event()
    values: list[int] = []

    def slow() -> int:
        began.set()
        assert may_end.wait(10)
        return source.read()

    first = threading.Thread(target=lambda: values.append(remembered.get("a", slow)))
    second = threading.Thread(target=lambda: values.append(remembered.get("a", source.read)))
    first.start()
    assert began.wait(10)
    second.start()
    may_end.set()
    first.join(10)
    second.join(10)

    assert (values, source.reads) == ([1, 1], 1)


def test_it_is_told_beforehand_whether_an_answer_takes_long() -> None:
    source = Source(1.0)
    remembered: Remembered[str, int] = Remembered(0.0, source.clock)
    assert not remembered.is_quick("a", 5.0), "nobody knows yet"
    remembered.get("a", source.read)
    assert remembered.is_quick("a", 0.5)
    source.at += 60.0
    assert not remembered.is_quick("a", 0.5)
    assert remembered.is_quick("a", 1.5)
