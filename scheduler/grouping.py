"""Group commit: callers that come while one commit is under way share the next one."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class GroupCommit(Generic[_Item, _Answer]):
    """Turns single calls from many threads into calls of `commit` on as many items as wait, at most `largest`.

    `commit` answers each item with a value or an exception of its own. Where it raises, all of the group get the error
    if `is_shared` says that it is not one item's fault; otherwise each item is tried alone.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[_Item]], Sequence[_Answer | Exception]],
        *,
        is_shared: Callable[[Exception], bool],
        largest: int = 256,
    ) -> None:
        self._commit = commit
        self._is_shared = is_shared
        self._largest = largest
        self._waiting: list[_Ticket[_Item, _Answer]] = []
        self._joining = threading.Lock()  # guards _waiting
        self._leading = threading.Lock()  # held by the caller that commits for the others

    def __call__(self, item: _Item) -> _Answer:
        """Return the item's answer once its group has been committed; raises its exception."""
        ticket: _Ticket[_Item, _Answer] = _Ticket(item)
        with self._joining:
            self._waiting.append(ticket)
        with self._leading:
            while not ticket.answers:  # nobody has led it yet, so this caller leads, for those who came first too
                with self._joining:
                    group, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                self._lead(group)
        (answer,) = ticket.answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answers(self, items: Sequence[_Item]) -> list[_Answer | Exception]:
        """Commit `items` without waiting for others, and return each one's answer or exception."""
        groups = [items[start : start + self._largest] for start in range(0, len(items), self._largest)]
        return [answer for group in groups for answer in self._answers(group)]

    def _lead(self, group: Sequence["_Ticket[_Item, _Answer]"]) -> None:
        answers: Sequence[_Answer | Exception] = [RuntimeError("the commit was interrupted") for _ in group]
        try:
            answers = self._answers([ticket.item for ticket in group])
        finally:  # or the others would wait for ever for a leader that was told to exit
            for ticket, answer in zip(group, answers, strict=True):
                ticket.answers.append(answer)

    def _answers(self, items: Sequence[_Item]) -> Sequence[_Answer | Exception]:
        try:
            return self._commit(items)
        except Exception as error:  # noqa: BLE001  each caller gets it
            if len(items) == 1 or self._is_shared(error):
                return [error for _ in items]
        return [answer for item in items for answer in self._answers([item])]


class _Ticket(Generic[_Item, _Answer]):
    def __init__(self, item: _Item) -> None:
        self.item = item
        self.answers: list[_Answer | Exception] = []  # one, once its group has been committed
