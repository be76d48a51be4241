"""Group commit: who waits together is committed together, and answered each by itself."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduler.grouping import GroupCommit


class Ledger:
    """A commit that takes as long as the test wants, and remembers its groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.entered = threading.Event()
        self.go = threading.Event()

    def commit(self, items: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(items))
        self.entered.set()
        assert self.go.wait(10)
        return [ValueError(f"{item} is odd") if item % 2 else item * 10 for item in items]


def never(_: Exception) -> bool:
    return False


def waiting(group: GroupCommit[int, int]) -> int:
    with group._joining:
        return len(group._waiting)


def test_what_comes_during_a_commit_shares_the_next_one() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, is_shared=never)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(group, 0)
        assert ledger.entered.wait(10)
        others = [threads.submit(group, item) for item in range(2, 18, 2)]
        while waiting(group) < len(others):
            threading.Event().wait(0.001)
        ledger.go.set()

        assert first.result() == 0
        assert [other.result() for other in others] == [item * 10 for item in range(2, 18, 2)]

    assert ledger.groups[0] == [0]
    assert sorted(ledger.groups[1]) == list(range(2, 18, 2))
    assert len(ledger.groups) == 2


def test_a_group_is_never_larger_than_the_limit() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, is_shared=never, largest=3)
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(group, 0)]
        assert ledger.entered.wait(10)
        futures += [threads.submit(group, item) for item in range(2, 16, 2)]
        while waiting(group) < 7:
            threading.Event().wait(0.001)
        ledger.go.set()

        assert [future.result() for future in futures] == [item * 10 for item in range(0, 16, 2)]

    assert [len(one) for one in ledger.groups] == [1, 3, 3, 1]


def test_each_caller_gets_its_own_answer_or_error() -> None:
    ledger = Ledger()
    ledger.go.set()
    group = GroupCommit(ledger.commit, is_shared=never)

    assert group(4) == 40
    with pytest.raises(ValueError, match="5 is odd"):
        group(5)


def fail_on_seven(items: Sequence[int]) -> list[int | Exception]:
    if 7 in items:
        raise ZeroDivisionError
    return list(items)


def answers(group: GroupCommit[int, int], items: Sequence[int]) -> list[int | type[Exception]]:
    """What each of several callers hears that are one group."""
    with group._leading, ThreadPoolExecutor(len(items)) as threads:  # nobody leads before all have come
        futures = [threads.submit(group, item) for item in items]
        while waiting(group) < len(items):
            threading.Event().wait(0.001)
        group._leading.release()
        heard = [type(error) if (error := future.exception()) else future.result() for future in futures]
        group._leading.acquire()
    return heard  # type: ignore[return-value]


def test_one_item_that_breaks_the_group_is_alone_with_its_error() -> None:
    assert answers(GroupCommit(fail_on_seven, is_shared=never), [1, 7, 3]) == [1, ZeroDivisionError, 3]


def test_an_error_that_all_share_is_not_tried_again() -> None:
    calls = []

    def fail(items: Sequence[int]) -> list[int | Exception]:
        calls.append(items)
        raise ConnectionError

    heard = answers(GroupCommit(fail, is_shared=lambda error: isinstance(error, OSError)), [1, 2, 3])

    assert heard == [ConnectionError] * 3
    assert len(calls) == 1
