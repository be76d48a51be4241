"""The progress of a job, or of many, while someone waits: a moving bar on a terminal, plain lines elsewhere.

All of it on stderr.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.cli.console import clean, console, is_terminal, say
from app.cli.wording import ENDED, fraction, headline, line, note, steps

Show = Callable[[Mapping[str, Any]], None]
ShowBatch = Callable[[float, str], None]  # how many are done, parts of them included, and what to say of that
_LINE_EVERY = 0.1  # of the whole: ten lines for a job of any length


@contextmanager
def progress() -> Iterator[Show]:
    """Give a function that shows a job's newest state."""
    if is_terminal(sys.stderr):
        with _bar() as show:
            yield show
    else:
        yield _Lines()


@contextmanager
def batch_progress(total: int) -> Iterator[ShowBatch]:
    """Give a function that shows how far a batch of `total` is."""
    if is_terminal(sys.stderr):
        with _batch_bar(total) as show:
            yield show
    else:
        yield _BatchLines(total)


class _BatchLines:
    """Prints a line at each tenth of the whole."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = 0

    def __call__(self, done: float, counts: str) -> None:
        tenth = int(done / self._total / _LINE_EVERY)
        if tenth != self._last:
            self._last = tenth
            say(counts)


@contextmanager
def _batch_bar(total: int) -> Iterator[ShowBatch]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), TextColumn("eta"))
    out = console(sys.stderr)
    # Lines on a terminal go above the bar; those of a redirected stdout stay there.
    with Progress(*columns, TimeRemainingColumn(), console=out, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, counts: bar.update(task, completed=done, description=clean(counts))


class _Lines:
    """Prints a line when the state, the stage or the reason to wait changes, and at each tenth of the work."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] | None = None

    def __call__(self, job: Mapping[str, Any]) -> None:
        reason = job["queue"]["wait_reason"] if job["queue"] else None
        now = (job["status"], job["attempts"], headline(job), reason, int(fraction(job) / _LINE_EVERY))
        if now != self._last:
            self._last = now
            say(f"{job['id']}  {line(job)}")


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    out = console(sys.stderr)
    bar = Progress(
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[steps]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=out,
        expand=True,
        speed_estimate_period=120.0,
    )
    task = bar.add_task("waiting", total=None, steps="")
    below = Text(overflow="ellipsis", no_wrap=True, style="dim")

    with Live(bar, console=out, refresh_per_second=8) as live:

        def show(job: Mapping[str, Any]) -> None:
            queued = job["status"] == "queued"
            bar.update(
                task,
                description=clean(headline(job)),
                total=None if queued else 1.0,  # None: a bar that moves without saying how far
                completed=0.0 if queued else fraction(job),
                steps=steps(job),
            )
            below.plain = clean(note(job))
            if job["status"] in ENDED:
                bar.stop_task(task)
            live.update(Group(bar, below) if below.plain else bar, refresh=True)

        yield show
