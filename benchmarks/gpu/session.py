"""One run of the benchmark: results so far, the time it may take, and what was left out, with the reason."""

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from workers.tracebacks import cleared


class Session:
    """Collects results. `keep` is called with them before every measurement: a run cut short leaves something."""

    def __init__(self, budget_seconds: float, keep: Callable[[dict[str, Any]], None]) -> None:
        self.results: dict[str, Any] = {"not_run": []}
        self._budget_seconds = budget_seconds
        self._keep = keep
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it runs already."""
        return time.monotonic() - self._began

    def say(self, line: str) -> None:
        """Tell the terminal how far it is."""
        print(f"{self.seconds:5.0f} s  {line}", file=sys.stderr, flush=True)

    def left_out(self, what: str, why: str) -> None:
        """Note something that is not measured."""
        self.results["not_run"].append({"what": what, "why": why})

    def measure(self, what: str, call: Callable[[], Any]) -> Any:
        """Return what `call` measures; None, and noted, where the time is up or it fails: the others go on."""
        if self.seconds > self._budget_seconds:
            self.left_out(what, f"the budget of {self._budget_seconds:.0f} s was used up")
            return None
        self._keep(self.results)
        self.say(what)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  a machine with a GPU is lent for minutes: the rest must be measured
            traceback.print_exc()
            self.left_out(what, f"failed with {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            cleared(error)
            return None
