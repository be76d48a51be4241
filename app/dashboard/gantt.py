"""A timeline as geometry: bars in lanes, and memory below; in percent of the time, and in pixels of height."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.dashboard import charts, history
from app.dashboard.wording import plural, short
from app.formats import percent, size
from scheduler.bars import RUNNING, Bar, Key
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.states import Outcome
from scheduler.timeline import Ran, Row, Timeline

KINDS = (*(outcome.value for outcome in Outcome), OUT_OF_MEMORY, RUNNING)
LANE, BAR, MEMORY = 18, 14, 24  # pixels
_LEAST_WIDTH = 0.15  # percent: what is shorter would not be seen
_LABELLED_WIDTH = 7.0  # percent: there is room for an id
_MOST_MARKS = 1500  # of a page: so many links a browser still draws at once

Closer = Callable[[str, float], str]  # the page on which a GPU is seen closer around a time


@dataclass(frozen=True, slots=True)
class Mark:
    """A bar: an attempt, or a block of several. `href` leads to its job, or to where the block is seen closer."""

    kind: str
    key: str
    x: float
    y: int
    width: float
    words: str
    label: str
    href: str


@dataclass(frozen=True, slots=True)
class Track:
    """What ran on a GPU. Its bars are `marks`; where there are too many for that, `shapes`: one path for each kind."""

    row: Row
    lanes: int
    marks: Sequence[Mark]
    shapes: Sequence[tuple[str, str]]
    memory: str
    memory_words: str
    idle_share: float | None
    words: str

    @property
    def bars_height(self) -> int:
        """Pixels of all lanes."""
        return self.lanes * LANE


@dataclass(frozen=True, slots=True)
class Gantt:
    """All GPUs over one time. `counts` are the attempts of each kind; `dense`: the bars are shapes."""

    axis: charts.TimeAxis
    tracks: Sequence[Track]
    counts: Mapping[str, int]
    dense: bool
    idle_share: float | None


def lay_out(timeline: Timeline, closer: Closer) -> Gantt:
    """Return the geometry of a timeline."""
    axis = charts.TimeAxis(*timeline.window)
    dense = sum(len(row.bars) for row in timeline.gpus) > _MOST_MARKS
    counts: Counter[str] = Counter()
    tracks, online, busy = [], 0.0, 0.0
    for row in timeline.gpus:
        of_row = _counts(row.bars, timeline.attempts)
        counts.update(of_row)
        row_busy, row_online = _busy_seconds(row.bars, axis), _online_seconds(row, axis)
        busy, online = busy + row_busy, online + row_online
        tracks.append(_track(row, timeline.attempts, axis, closer, of_row, _idle_share(row_busy, row_online), dense))
    return Gantt(axis, tracks, counts, dense, _idle_share(busy, online))


def _track(
    row: Row,
    attempts: Mapping[Key, Ran],
    axis: charts.TimeAxis,
    closer: Closer,
    counts: Counter[str],
    idle_share: float | None,
    dense: bool,
) -> Track:
    known = [value for value in row.curve.used_bytes if value is not None]
    top = row.total_bytes or max(known, default=1.0)
    return Track(
        row=row,
        lanes=1 + max((bar.lane for bar in row.bars), default=0),
        marks=[] if dense else [_mark(row.gpu_id, bar, attempts, axis, closer) for bar in row.bars],
        shapes=_shapes(row.bars, attempts, axis) if dense else [],
        memory=history.drawn(row.curve, row.curve.used_bytes, axis, top, charts.area),
        memory_words=f"memory: mean {size(sum(known) / len(known))}, peak {size(max(known))}" if known else "",
        idle_share=idle_share,
        words=_told(counts) + ("" if idle_share is None else f"; idle {percent(idle_share)} of the time"),
    )


def _mark(gpu_id: str, bar: Bar, attempts: Mapping[Key, Ran], axis: charts.TimeAxis, closer: Closer) -> Mark:
    x, width = _extent(bar, axis)
    kind, y = _kind(bar, attempts), bar.lane * LANE
    if bar.key is None:
        href = closer(gpu_id, (bar.began_at + _end(bar, axis)) / 2)
        return Mark(kind, f"{bar.lane}-{bar.began_at}", x, y, width, _told(bar.outcomes), "", href)
    job_id, lease = bar.key
    lasted = f"{'has run for' if kind == RUNNING else _name(kind) + ' after'} {short(_end(bar, axis) - bar.began_at)}"
    words = _attempt_words(job_id, lasted, attempts.get(bar.key))
    label = job_id[-6:] if width >= _LABELLED_WIDTH else ""
    return Mark(kind, f"{job_id}-{lease}", x, y, width, words, label, f"/jobs/{job_id}")


def _attempt_words(job_id: str, lasted: str, ran: Ran | None) -> str:
    if ran is None:  # its job was deleted while it was looked up
        return f"{job_id}: {lasted}"
    began = f"{job_id}, attempt {ran.number}: {ran.model}, {ran.plan}, {ran.shape}"
    seconds = f"{lasted}, {short(ran.predicted_seconds)} predicted"
    peak = "" if ran.vram_peak_bytes is None else f"; peak {size(ran.vram_peak_bytes)}"
    error = f"; {_name(ran.error_code)}" if ran.error_code else ""
    return f"{began}; {seconds}{peak}, {size(ran.predicted_vram_bytes)} predicted{error}"


def _shapes(bars: Iterable[Bar], attempts: Mapping[Key, Ran], axis: charts.TimeAxis) -> list[tuple[str, str]]:
    paths: dict[str, list[str]] = {}
    for bar in bars:
        x, width = _extent(bar, axis)
        path = f"M{x} {bar.lane * LANE}h{width}v{BAR}h-{width}z"
        paths.setdefault(_kind(bar, attempts), []).append(path)
    return [(kind, "".join(parts)) for kind, parts in paths.items()]


def _extent(bar: Bar, axis: charts.TimeAxis) -> tuple[float, float]:
    """From where on a bar goes, and how wide it is, in percent; never too narrow to be seen."""
    start, end = axis.place(bar.began_at), axis.place(_end(bar, axis))
    width = max(_LEAST_WIDTH, end - start)
    return round(min(start, 100 - width), 2), round(width, 2)


def _end(bar: Bar, axis: charts.TimeAxis) -> float:
    return axis.until if bar.ended_at is None else bar.ended_at


def _kind(bar: Bar, attempts: Mapping[Key, Ran]) -> str:
    ran = attempts.get(bar.key) if bar.key else None
    return OUT_OF_MEMORY if ran is not None and ran.error_code == OUT_OF_MEMORY else bar.outcome


def _counts(bars: Iterable[Bar], attempts: Mapping[Key, Ran]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for bar in bars:
        if bar.key is not None:
            counts[_kind(bar, attempts)] += 1
        else:
            counts.update(bar.outcomes)
    return counts


def _busy_seconds(bars: Iterable[Bar], axis: charts.TimeAxis) -> float:
    """How long at least one of the bars, which are in the order of their beginnings, was there."""
    busy, until = 0.0, axis.since
    for bar in bars:
        end = min(axis.until, _end(bar, axis))
        busy += max(0.0, end - max(until, bar.began_at))
        until = max(until, end)
    return busy


def _online_seconds(row: Row, axis: charts.TimeAxis) -> float:
    """How long somebody looked at the GPU, to a step of its curve."""
    looked = sum(value is not None for value in row.curve.reserved_bytes) * row.curve.step_seconds
    return min(looked, axis.until - axis.since)


def _idle_share(busy: float, online: float) -> float | None:
    """The share of the time online in which nothing ran; None where it was never online."""
    whole = max(busy, online)
    return 1 - busy / whole if whole else None


def _told(counts: Mapping[str, int]) -> str:
    kinds = ", ".join(f"{counts[kind]} {_name(kind)}" for kind in KINDS if counts.get(kind))
    return f"{plural(sum(counts.values()), 'attempt')}{': ' if kinds else ''}{kinds}"


def _name(kind: str) -> str:
    return kind.replace("_", " ")
