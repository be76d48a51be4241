"""The stream of jobs: who asks for what, and when. A composite, and the same for every policy.

Times and users come from a recording or are drawn; shapes and steps are drawn, for no recording of videos is public.
Beside the others, one more user asks for a tenth as many jobs at one moment, halfway.
"""

import csv
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks.schedule.fleet import work_seconds
from scheduler.params import VideoParams

# Width, height and frames, with the share of the jobs. Under the fastest plan the last three need more than 24 GiB,
# and the last one more than 48.
MIX = {
    (512, 320, 16): 0.30,
    (512, 512, 16): 0.35,
    (704, 512, 24): 0.15,
    (1024, 576, 32): 0.10,
    (1280, 704, 32): 0.05,
    (1280, 704, 48): 0.03,
    (1536, 1024, 48): 0.02,
}
LARGEST = tuple(MIX)[-1]
_STEPS = (25, 30, 50)
_VARIATION = 10.0  # of the drawn gaps: their standard deviation over their mean, as in the recording
_SAME_USER = 0.2  # how often a job is of the user of the one before
_USERS = 100
FLOOD = "flood"
_FLOOD_SHARE = 0.1

TimesAndUsers = Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job as it comes: `at` in seconds since the first one."""

    number: int
    at: float
    tenant: str
    params: VideoParams

    @property
    def is_largest(self) -> bool:
        """Whether it is of the class that needs the most memory."""
        return (self.params.width, self.params.height, self.params.num_frames) == LARGEST


def stream(times_and_users: TimesAndUsers, load: float, seed: int) -> list[Arrival]:
    """Return jobs at these times, in order, and the flood.

    The times are stretched, or pressed together, so that the work is `load` times what the fleet can do until the last.
    """
    draw = random.Random(seed)  # noqa: S311  a stream that can be had again
    first, last = times_and_users[0][0], times_and_users[-1][0]
    flood = [((first + last) / 2, FLOOD)] * round(_FLOOD_SHARE * len(times_and_users))
    coming = sorted([*times_and_users, *flood], key=lambda one: one[0])
    shapes = draw.choices(tuple(MIX), tuple(MIX.values()), k=len(coming))
    jobs = [
        Arrival(
            number,
            at - first,
            tenant,
            VideoParams(
                *shape, num_inference_steps=draw.choice(_STEPS), guidance_scale=9.0, target_fps=16, seed=number
            ),
        )
        for number, ((at, tenant), shape) in enumerate(zip(coming, shapes, strict=True))
    ]
    stretch = sum(work_seconds(job.params) for job in jobs) / load / (last - first)
    return [replace(job, at=job.at * stretch) for job in jobs]


def drawn(jobs: int, seed: int) -> TimesAndUsers:
    """Return times and users that are drawn: gaps of a log-normal distribution, few users with most of the jobs."""
    draw = random.Random(seed)  # noqa: S311  likewise
    sigma = math.sqrt(math.log(1.0 + _VARIATION**2))
    times = itertools.accumulate(draw.lognormvariate(0.0, sigma) for _ in range(jobs))
    return list(zip(times, itertools.islice(_users(draw), jobs), strict=True))


def _users(draw: random.Random) -> Iterator[str]:
    names = [f"user-{number}" for number in range(_USERS)]
    weights = [1.0 / (1 + number) for number in range(_USERS)]
    user = names[0]
    while True:
        if draw.random() >= _SAME_USER:
            (user,) = draw.choices(names, weights)
        yield user


def recorded(path: Path, jobs: int, streams: int) -> Sequence[TimesAndUsers]:
    """Return so many successive stretches of a recording: a CSV file with `gmt_create` and `groupId`, in time order.

    Raises `ValueError` for a file that is not that, or is too short.
    """
    with path.open(newline="") as file:
        rows = list(itertools.islice(csv.DictReader(file), jobs * streams))
    if len(rows) < jobs * streams:
        raise ValueError(f"{path} has {len(rows)} requests, and {streams} streams of {jobs} were asked for")
    try:
        found = [(datetime.fromisoformat(row["gmt_create"]).timestamp(), row["groupId"].lower()) for row in rows]
    except KeyError as error:
        raise ValueError(f"{path} has no column {error}") from error
    stretches = [found[at : at + jobs] for at in range(0, len(found), jobs)]
    if any(stretch[0][0] >= stretch[-1][0] for stretch in stretches):
        raise ValueError(f"{path} is not in the order of gmt_create, or {jobs} of its requests came at one moment")
    return stretches
