"""Energy split over the jobs that shared it: the parts add up to what was used while any ran."""

import random

import pytest

from workers.energy import EnergyAccount


class Counter:
    """A GPU's energy counter, in joules."""

    def __init__(self, joules: float | None = 1000.0) -> None:
        self.joules = joules

    def __call__(self) -> float | None:
        return self.joules

    def use(self, joules: float) -> None:
        assert self.joules is not None
        self.joules += joules


def test_a_job_alone_is_charged_all_of_it_and_nothing_before_or_after() -> None:
    counter = Counter()
    account = EnergyAccount(counter)
    counter.use(50)
    account.turn(["a"])
    counter.use(300)
    account.turn([])
    counter.use(70)
    account.turn(["b"])
    assert account.close("a") == 300


def test_jobs_that_share_are_charged_equal_parts_for_the_time_they_share() -> None:
    counter = Counter()
    account = EnergyAccount(counter)
    account.turn(["a"])
    counter.use(100)
    account.turn(["a", "b"])
    counter.use(200)
    account.turn(["b"])
    counter.use(30)
    account.turn([])
    assert (account.close("a"), account.close("b")) == (200, 130)


def test_a_gpu_without_a_counter_charges_nobody() -> None:
    account = EnergyAccount(Counter(None))
    account.turn(["a"])
    account.turn([])
    assert account.close("a") is None


def test_a_counter_that_starts_anew_or_is_silent_for_a_while_charges_nothing_false() -> None:
    counter = Counter()
    account = EnergyAccount(counter)
    account.turn(["a"])
    counter.joules = 5.0  # the driver was reloaded
    account.turn(["b"])
    counter.use(10)
    account.turn(["c"])
    counter.joules = None
    account.turn(["d"])
    counter.joules = 9000.0
    account.turn(["e"])
    counter.use(1)
    account.turn([])
    assert [account.close(one) for one in "abcde"] == [None, 10, None, None, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_parts_add_up(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  reproducible
    counter, jobs = Counter(), list("abcdef")
    account, used, running = EnergyAccount(counter), 0.0, []
    account.turn([])
    for _ in range(100):
        joules = rng.uniform(0, 50)
        counter.use(joules)
        used += joules if running else 0.0
        running = rng.sample(jobs, rng.randint(0, 4))
        account.turn(running)
    account.turn([])
    assert sum(account.close(job) or 0.0 for job in jobs) == pytest.approx(used)


def test_the_counter_is_not_read_where_nothing_changes() -> None:
    """Between two jobs each reading would be a wait of the GPU."""
    counter = Counter()
    read: list[float | None] = []

    def count() -> float | None:
        read.append(counter())
        return read[-1]

    account = EnergyAccount(count)
    for _ in range(3):
        account.turn(["a"])
        counter.use(10)
    account.turn([])
    account.turn([])
    assert (len(read), account.close("a")) == (2, 30)
