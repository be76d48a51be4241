"""What one more card would have changed: the recorded arrivals once more, on the fleet with it and without. Pure.

Plans, sizes, fits and ranks are the scheduler's own (`offers`, `placement`, `rank`). Left out is what would make a
fleet faster than this: jobs that share a pass or a GPU. A GPU runs one job after another, and its weights are there.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler import catalog, offers, placement, rank
from scheduler.errors import Unschedulable
from scheduler.footprint import Footprint
from scheduler.footprints import Predictor
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.prices import known_sum
from scheduler.records import Gpu, ServedModel

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Card:
    """A card that could be bought or rented. `speed` is in multiples of the fleet's first GPU.

    `price` is what it costs once, `hour` what an hour of it does; None: not known.
    """

    name: str
    memory_bytes: int
    speed: float | None = None  # None: as the data sheets say
    price: float | None = None
    hour: float | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job as it came: `at` in seconds since 1970."""

    at: float
    model: str
    params: VideoParams
    priority: float = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """A GPU that runs one job after another: `speed` divides the seconds that are predicted for it."""

    gpu: Gpu
    speed: float = 1.0
    hour: float | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a fleet did: jobs that it ran, and that it could not hold; seconds of waiting, over all jobs that it ran.

    `videos_per_hour` is what it could do at most, of jobs as they came. `cost_per_video` counts all GPUs for all the
    time from the first arrival to the last end; None where a price is not known.
    """

    videos: int
    impossible: int
    wait_seconds_mean: float
    wait_seconds_p95: float
    videos_per_hour: float
    cost_per_video: float | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a card would have changed."""

    card: Card
    speed: float
    with_card: Replayed


@dataclass(frozen=True, slots=True)
class Comparison:
    """The fleet as it is, and with each of the cards, on the same `arrivals`."""

    arrivals: int
    as_is: Replayed
    trials: Sequence[Trial]


@dataclass(frozen=True, slots=True)
class _Need:
    """What jobs of a kind need: the footprint that they are ranked by, and their seconds on each seat that runs them.

    `seconds` are under the plan that was chosen; `fastest` under the best plan that fits each seat.
    """

    footprint: Footprint
    seconds: Mapping[int, float]
    fastest: Mapping[int, float]


def compare(
    fleet: Sequence[Seat],
    cards: Iterable[Card],
    arrivals: Sequence[Arrival],
    served: Mapping[str, ServedModel],
    predictor: Predictor,
    policy: Policy,
) -> Comparison | None:
    """Return what each card would change, put beside `fleet`; None where nothing came, or the fleet has no GPU.

    A card is like the first of the fleet in all but memory and speed. `arrivals` are in the order of their times.
    """
    graphics = [seat for seat in fleet if seat.gpu.info.kind != "cpu"]
    if not graphics or not arrivals:
        return None

    def run(seats: Sequence[Seat]) -> Replayed:
        return _replay(seats, arrivals, served, predictor, policy)

    trials = []
    for card in cards:
        seat = _seat(card, graphics[0])
        if seat is not None:
            trials.append(Trial(card, seat.speed, run([*fleet, seat])))
    return Comparison(len(arrivals), run(fleet), trials)


def _seat(card: Card, like: Seat) -> Seat | None:
    """The card as a GPU of the fleet; None where it has no more memory than is kept free."""
    info = like.gpu.info
    if card.memory_bytes <= info.headroom_bytes:
        return None
    speed = catalog.rates(card.name).half / catalog.rates(info.kind).half if card.speed is None else card.speed
    gpu = replace(like.gpu, info=replace(info, id=card.name, name=card.name, total_bytes=card.memory_bytes))
    return Seat(gpu, speed, card.hour)


def _replay(
    seats: Sequence[Seat],
    arrivals: Sequence[Arrival],
    served: Mapping[str, ServedModel],
    predictor: Predictor,
    policy: Policy,
) -> Replayed:
    need_of = _needs(seats, served, predictor, policy)
    queue = _Queue()
    free = dict.fromkeys(range(len(seats)), True)
    ends: list[tuple[float, int]] = []  # of what runs: when, and where
    waits: list[float] = []
    impossible, at = 0, 0.0
    coming = iter(arrivals)
    arrival = next(coming, None)
    while arrival is not None or ends:
        if arrival is not None and (not ends or arrival.at <= ends[0][0]):
            at = arrival.at
            need = need_of(arrival)
            if need is None:
                impossible += 1
            else:
                queue.add(arrival, need, policy)
            arrival = next(coming, None)
        else:
            at, seat = heapq.heappop(ends)
            free[seat] = True
        for seat in [seat for seat, is_free in free.items() if is_free]:
            taken = queue.take(seat)
            if taken is not None:
                came_at, seconds = taken
                waits.append(at - came_at)
                heapq.heappush(ends, (at + seconds, seat))
                free[seat] = False
    waits.sort()
    cost: float | None = 0.0
    for one in seats:
        cost = known_sum(cost, None if one.hour is None else one.hour * (at - arrivals[0].at) / _HOUR)
    return Replayed(
        videos=len(waits),
        impossible=impossible,
        wait_seconds_mean=sum(waits) / len(waits) if waits else 0.0,
        wait_seconds_p95=waits[int(0.95 * (len(waits) - 1))] if waits else 0.0,
        videos_per_hour=_capacity(len(seats), [need for one in arrivals if (need := need_of(one)) is not None]),
        cost_per_video=None if cost is None or not waits else cost / len(waits),
    )


class _Queue:
    """The waiting jobs: of each kind those with the highest rank first, as a claim looks at the head of each class."""

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[_Need, list[tuple[float, int, float]]]] = {}
        self._count = 0

    def add(self, arrival: Arrival, need: _Need, policy: Policy) -> None:
        """Put a job in its place."""
        _, place = rank.place(policy, need.footprint, priority=arrival.priority, virtual_at=arrival.at)
        _, line = self._kinds.setdefault(id(need), (need, []))
        heapq.heappush(line, (-place, self._count, arrival.at))
        self._count += 1

    def take(self, seat: int) -> tuple[float, float] | None:
        """Take the best job that may run on a seat: when it came, and how long it will run there."""
        heads = [(line[0], kind) for kind, (need, line) in self._kinds.items() if line and seat in need.seconds]
        if not heads:
            return None
        need, line = self._kinds[min(heads)[1]]
        return heapq.heappop(line)[2], need.seconds[seat]


def _needs(
    seats: Sequence[Seat], served: Mapping[str, ServedModel], predictor: Predictor, policy: Policy
) -> Callable[[Arrival], _Need | None]:
    """Return what looks up the need of a job; None for one that no seat can hold."""
    known: dict[tuple[str, VideoParams], _Need | None] = {}

    def look_up(arrival: Arrival) -> _Need | None:
        # Neither seed nor text changes a need.
        key = arrival.model, replace(arrival.params, seed=0, negative_prompt=None)
        if key not in known:
            known[key] = _need(seats, served.get(arrival.model), arrival.params, predictor, policy)
        return known[key]

    return look_up


def _need(
    seats: Sequence[Seat], served: ServedModel | None, params: VideoParams, predictor: Predictor, policy: Policy
) -> _Need | None:
    block = policy.memory_class_bytes
    offered: dict[int, list[placement.Offer]] = defaultdict(list)
    for number, seat in enumerate(seats):
        for offer in offers.offers(served, [seat.gpu], params, predictor):
            seconds = offer.footprint.seconds / seat.speed
            offered[number].append(replace(offer, footprint=replace(offer.footprint, seconds=seconds)))
    everywhere = [offer for found in offered.values() for offer in found]
    if not everywhere:
        return None
    try:
        chosen = placement.choose(everywhere, block).offer.footprint
    except Unschedulable:
        return None
    fitting = {
        number: [offer.footprint for offer in found if placement.fits(offer, block)]
        for number, found in offered.items()
    }
    return _Need(
        chosen,
        {number: need.seconds for number, needs in fitting.items() for need in needs if need.plan == chosen.plan},
        {number: min(need.seconds for need in needs) for number, needs in fitting.items() if needs},
    )


def _capacity(seats: int, needs: Sequence[_Need]) -> float:
    """The videos that all seats could make in an hour, each of the jobs that it can hold."""
    total = 0.0
    for seat in range(seats):
        seconds = [need.fastest[seat] for need in needs if seat in need.fastest]
        total += _HOUR * len(seconds) / sum(seconds) if seconds else 0.0
    return total
