"""Capacity: GPUs are started for the work that is due and stopped after it, however many front ends keep it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any

import pytest

from scheduler.alarm import Alarm
from scheduler.alerts import Rule, Thresholds
from scheduler.calls import Call, CallStatus, HookFailed
from scheduler.capacity import CAPACITY, Limits
from scheduler.errors import NoModel
from scheduler.limits import TenantLimits
from scheduler.prices import Price, Prices, Terms
from scheduler.provision import EVERY_SECONDS, Provisioner, State
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.states import CapacityAction, GpuState, JobStatus
from scheduler.windows import read_windows
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, RESULT, RegisteredGpu, gpu_info, new_job, register_gpu

LIMITS = Limits(minimum=0, maximum=3, target_seconds=100.0, cooldown_seconds=200.0, idle_seconds=60.0)
LARGE = {"width": 768, "height": 768}  # too large for 10 GiB
START, STOP = CapacityAction.START, CapacityAction.STOP
TIMEOUT = 10.0
STEP = 4 * EVERY_SECONDS  # between two looks: seldom, but often enough
IDLE = 80.0  # until what idles is let go
DAY = 86_400.0


@dataclass
class Hook:
    """A hook that keeps what it was called for, and fails while `problem` says why."""

    calls: list[Call] = field(default_factory=list)
    problem: str | None = None

    def __call__(self, call: Call) -> None:
        self.calls.append(call)
        if self.problem is not None:
            raise HookFailed(self.problem)

    @property
    def told(self) -> list[tuple[str, int, str | None]]:
        """Action, count and host of each call."""
        return [(call.action, call.count, call.host) for call in self.calls]


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def keeper(scheduler: Scheduler) -> Provisioner:
    return make_keeper(scheduler)


def make_keeper(scheduler: Scheduler, **changes: Any) -> Provisioner:
    """Return what one front end keeps capacity with; `changes` are to the limits, or prices or windows."""
    prices, windows = changes.pop("prices", Prices()), changes.pop("windows", None)
    return Provisioner(
        scheduler.database,
        scheduler.queue._policy,
        scheduler.wakeup,
        scheduler.fleet,
        scheduler.footprints,
        limits=replace(LIMITS, **changes),
        prices=prices,
        windows=windows,
        timeout_seconds=TIMEOUT,
    )


@dataclass
class Days:
    """Lets time pass for a keeper, its hook and the hosts that are up."""

    scheduler: Scheduler
    clock: Clock
    keeper: Provisioner
    hook: Hook
    up: dict[str, RegisteredGpu] = field(default_factory=dict)

    def come(self, name: str, **changes: Any) -> RegisteredGpu:
        """Let a host of one GPU come up, with a worker."""
        changes = {"host": f"host-{name}", **changes}
        self.up[name] = register_gpu(self.scheduler, name, **changes)
        return self.up[name]

    def go(self, name: str) -> None:
        """Let a host vanish."""
        del self.up[name]

    def empty(self, name: str) -> None:
        """Let the workers of a GPU exit, as they do when it drains."""
        for worker in self.up[name].workers:
            self.scheduler.fleet.worker_gone(worker)
        self.up[name].workers.clear()

    def after(self, seconds: float) -> list[str]:
        """Let time pass, while hosts that are up are heard and the keeper looks; returns what it did."""
        done: list[str] = []
        until = self.clock.seconds + seconds
        while self.clock.seconds < until:
            self.clock.advance(min(STEP, until - self.clock.seconds))
            for name, gpu in self.up.items():
                self.scheduler.fleet.sample(name, GpuSample(0, 24 * GIB))
                for worker in gpu.workers:
                    self.scheduler.fleet.touch_worker(worker)
            done += self.keeper.run_once(self.hook)
        return done

    def state(self, name: str) -> tuple[str, str | None]:
        """The state of a GPU, and who has put it there."""
        gpu = self.scheduler.fleet.gpu(name)
        return gpu.state, gpu.actor


@pytest.fixture
def days(scheduler: Scheduler, clock: Clock, keeper: Provisioner, hook: Hook) -> Days:
    return Days(scheduler, clock, keeper, hook)


def must_state(keeper: Provisioner) -> State:
    state = keeper.state()
    assert state is not None
    return state


def submit(scheduler: Scheduler, count: int = 1, **changes: Any) -> list[str]:
    return [scheduler.queue.submit(new_job(**changes)).job.id for _ in range(count)]


def finish(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    """Run all that is queued, one after another."""
    while (lease := gpu.claim()) is not None:
        scheduler.leases.succeed(lease, RESULT, MEASURED)


def events(scheduler: Scheduler) -> list[str]:
    return [one.type for one in scheduler.events.read(limit=1000, subject=CAPACITY)]


def stopped(days: Days, name: str = "GPU-0") -> None:
    """Have a GPU come, be known, and be stopped for want of work."""
    days.come(name)
    days.after(IDLE)
    days.empty(name)
    days.after(15)
    days.go(name)
    days.after(15)
    assert days.hook.told[-1] == (STOP, 1, f"host-{name}")


def test_the_whole_round(days: Days, scheduler: Scheduler, hook: Hook, keeper: Provisioner) -> None:
    assert keeper.state() is None
    days.after(5)
    assert hook.told == [(START, 1, None)], "where no GPU is known one has to come"
    assert must_state(keeper).calls[0].status is CallStatus.DONE
    stopped(days)
    assert days.state("GPU-0") == (GpuState.DRAINED, CAPACITY)
    assert hook.told == [(START, 1, None), (STOP, 1, "host-GPU-0")]
    assert hook.calls[-1].gpus == ("GPU-0",)

    days.after(60)
    jobs = submit(scheduler, 2)
    done = days.after(5)
    assert hook.told[2:] == [(START, 2, None)]
    assert [line.split()[0] for line in done] == ["capacity.start", "capacity.start"]
    assert days.after(100) == [], "it is waited for"
    wait = scheduler.queue.explain(scheduler.queue.get(jobs[0]))
    assert wait is not None
    assert "started again when there is work" in wait.wait.message

    gpu = days.come("GPU-0")
    assert days.state("GPU-0") == (GpuState.ACTIVE, CAPACITY), "it was started again"
    finish(scheduler, gpu)
    days.after(IDLE)
    days.empty("GPU-0")
    days.after(15)
    assert [scheduler.queue.get(job).status for job in jobs] == [JobStatus.SUCCEEDED] * 2
    assert hook.told[3:] == [(STOP, 1, "host-GPU-0")]
    assert events(scheduler) == ["capacity.start", "capacity.stop"] * 2
    assert len({call.id for call in hook.calls}) == 4


def test_what_an_event_tells(days: Days, scheduler: Scheduler) -> None:
    days.come("GPU-0")
    submit(scheduler, 3)
    days.after(5)
    (event,) = [one for one in scheduler.events.read(limit=100) if one.type == "capacity.start"]
    assert (event.subject, event.actor) == (CAPACITY, CAPACITY)
    reason = event.data["reason"]
    assert event.data == {
        "id": days.hook.calls[0].id, "count": 1, "host": None, "gpus": [], "wanted": 2, "online": 1, "reason": reason
    }  # fmt: skip
    assert reason.startswith("3 jobs due, ")


def test_one_that_a_stop_was_asked_for_counts_as_able_to_hold_a_job(days: Days, scheduler: Scheduler) -> None:
    stopped(days)
    days.after(30)
    days.clock.advance(3 * DAY)
    scheduler.reaper.run_once()
    (job,) = submit(scheduler)
    for _ in range(8):
        days.after(20)
        scheduler.reaper.run_once()
    assert scheduler.queue.get(job).status is JobStatus.QUEUED
    assert scheduler.queue.quote(gpu_info().model, scheduler.queue.get(job).params)


def test_of_those_stopped_the_last_of_each_kind_is_remembered(days: Days, scheduler: Scheduler) -> None:
    for number in range(3):
        stopped(days, f"GPU-{number}")
    small = {"kind": "NVIDIA L4", "total_bytes": 22 * GIB}
    days.come("GPU-x", **small)
    days.after(IDLE)
    days.empty("GPU-x")
    days.after(15)
    days.go("GPU-x")
    days.clock.advance(2 * DAY)
    for _ in range(20):
        days.clock.advance(5)
        scheduler.reaper.run_once()
    assert [gpu.info.id for gpu in scheduler.fleet.gpus()] == ["GPU-2", "GPU-x"]


def test_without_a_stop_one_that_is_gone_is_forgotten(days: Days, scheduler: Scheduler) -> None:
    days.come("GPU-0")
    days.go("GPU-0")
    days.clock.advance(2 * DAY)
    with pytest.raises(NoModel):
        submit(scheduler)


def test_work_that_comes_while_it_is_emptied_takes_it_back(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    days.come("GPU-0")
    done = days.after(IDLE)
    assert done == ["GPU GPU-0 is let go: nothing is due, 0 at least"]
    assert days.state("GPU-0") == (GpuState.DRAINING, CAPACITY)
    submit(scheduler)
    (line,) = days.after(5)
    assert line.startswith("GPU GPU-0 is taken back: 1 job due")
    assert days.state("GPU-0") == (GpuState.ACTIVE, CAPACITY)
    assert hook.calls == []


def test_a_running_job_ends_before_its_host_is_stopped(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    first, second = days.come("GPU-0"), days.come("GPU-1")
    (job,) = submit(scheduler)
    lease = second.must_claim()
    days.after(IDLE)
    assert (days.state("GPU-0")[0], days.state("GPU-1")[0]) == (GpuState.DRAINING, GpuState.ACTIVE)
    assert first.claim() is None
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    assert scheduler.queue.get(job).status is JobStatus.SUCCEEDED
    assert hook.calls == [], "its worker is still there"
    days.empty("GPU-0")
    days.after(5)
    assert hook.told == [(STOP, 1, "host-GPU-0")]


def test_an_operators_drain_is_left_alone_and_not_counted(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    days.come("GPU-0")
    scheduler.fleet.drain("GPU-0", "new fans", "alice")
    days.empty("GPU-0")
    days.after(100)
    assert days.state("GPU-0") == (GpuState.DRAINED, "alice")
    assert hook.told == [(START, 1, None)], "none that could hold a job is known"
    hook.calls.clear()
    days.come("GPU-1")
    days.after(20)
    scheduler.fleet.drain("GPU-1", "spare it", CAPACITY)
    scheduler.fleet.drain("GPU-1", "mine now", "alice")
    submit(scheduler)
    days.after(20)
    assert days.state("GPU-1") == (GpuState.DRAINING, "alice")


def test_a_host_goes_as_a_whole(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    for name in ("GPU-0", "GPU-1"):
        days.come(name, host="twins")
    submit(scheduler)
    lease = days.up["GPU-0"].must_claim()
    days.after(120)
    assert [days.state(name)[0] for name in ("GPU-0", "GPU-1")] == [GpuState.ACTIVE] * 2, "one of them works"
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    days.after(IDLE)
    days.empty("GPU-0")
    days.after(10)
    assert hook.calls == [], "the other is not empty yet"
    days.empty("GPU-1")
    days.after(5)
    assert hook.told == [(STOP, 2, "twins")]
    assert hook.calls[0].gpus == ("GPU-0", "GPU-1")


def test_a_host_where_a_job_still_runs_is_not_stopped_though_its_gpu_is_silent(
    days: Days, scheduler: Scheduler, hook: Hook
) -> None:
    silent = days.come("GPU-0", host="twin")
    submit(scheduler)
    lease = silent.must_claim()
    days.come("GPU-1", host="twin")
    days.go("GPU-0")  # its supervisor has died, its worker has not
    days.after(2 * IDLE)
    days.empty("GPU-1")
    days.after(30)
    assert days.state("GPU-1") == (GpuState.DRAINED, CAPACITY)
    assert hook.told == []
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    days.after(15)
    assert hook.told == [(STOP, 1, "twin")]


@pytest.mark.parametrize(
    ("prices", "let_go"),
    [
        ({"GPU-0": Price(9.0, Terms.OWNED), "GPU-1": Price(1.0, Terms.SPOT)}, "GPU-1"),
        ({"GPU-0": Price(1.0, Terms.SPOT), "GPU-1": Price(2.0, Terms.ON_DEMAND)}, "GPU-1"),
        ({"GPU-0": Price(9.0, Terms.OWNED), "GPU-1": Price(9.0, Terms.OWNED)}, None),
    ],
)
def test_owned_ones_stay_and_the_dearest_goes_first(
    scheduler: Scheduler, clock: Clock, hook: Hook, prices: dict[str, Price], let_go: str | None
) -> None:
    days = Days(scheduler, clock, make_keeper(scheduler, minimum=1, prices=Prices(gpus=prices)), hook)
    days.come("GPU-0")
    days.come("GPU-1")
    days.after(120)
    leaving = [name for name in days.up if days.state(name)[0] is not GpuState.ACTIVE]
    assert leaving == ([let_go] if let_go else [])


def test_a_failed_call_is_tried_again_with_the_same_id(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    hook.problem = "exit code 3: no quota"
    days.after(5)
    (line,) = [line for line in days.after(5) if "failed" in line]
    assert line.endswith(": start, try 2: exit code 3: no quota")
    days.after(60)
    tries = len(hook.calls)
    assert 4 <= tries <= 5, "after 5, 10, 20, 40 seconds"
    assert len({call.id for call in hook.calls}) == 1
    call = must_state(days.keeper).calls[0]
    assert (call.status, call.error, call.tries) == (CallStatus.PENDING, hook.problem, tries)
    failed = [one for one in scheduler.events.read(limit=100) if one.type == "capacity.failed"]
    assert len(failed) == tries
    assert (failed[-1].data["action"], failed[-1].data["error"]) == ("start", hook.problem)

    alarm = Alarm(
        scheduler.database, scheduler.fleet, scheduler.samples, Thresholds(),
        host="node-1", disks=list, clear_seconds=0.0, retention_seconds=DAY,
    )  # fmt: skip
    for _ in range(7):
        days.clock.advance(10)
        alarm.run_once()
    assert [(one.rule, one.subject) for one in scheduler.alerts.told()] == [(Rule.CAPACITY_FAILED, call.id)]

    hook.problem = None
    days.after(100)
    assert len(hook.calls) == tries + 1
    assert must_state(days.keeper).calls[0].error is None


def test_a_start_that_nobody_needs_any_more_is_dropped(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    days.come("GPU-0")
    days.go("GPU-0")
    days.after(15)
    (job,) = submit(scheduler)
    hook.problem = "no quota"
    days.after(5)
    scheduler.queue.cancel(job)
    days.after(60)
    assert len(hook.calls) == 1
    assert must_state(days.keeper).calls[0].status is CallStatus.DROPPED
    hook.problem = None
    submit(scheduler)
    days.after(5)
    assert hook.calls[1].id != hook.calls[0].id


def test_a_stop_is_dropped_when_an_operator_wants_the_gpu(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    hook.problem = "away"
    days.come("GPU-0")
    days.after(IDLE)
    days.empty("GPU-0")
    days.after(5)
    assert hook.told == [(STOP, 1, "host-GPU-0")]
    scheduler.fleet.resume("GPU-0", "alice")
    submit(scheduler)
    days.after(60)
    assert len(hook.calls) == 1
    assert days.state("GPU-0") == (GpuState.ACTIVE, "alice")


def test_a_stop_is_dropped_when_a_silent_gpu_of_the_host_works_again(
    days: Days, scheduler: Scheduler, hook: Hook
) -> None:
    for name in ("GPU-0", "GPU-1"):
        days.come(name, host="twins")
    silent = days.up.pop("GPU-1")
    hook.problem = "no answer"
    days.after(2 * IDLE)
    days.empty("GPU-0")
    days.after(10)
    assert hook.told[0] == (STOP, 1, "twins")
    submit(scheduler)
    days.up["GPU-1"] = silent
    scheduler.fleet.sample("GPU-1", GpuSample(0, 24 * GIB))
    silent.must_claim()
    hook.calls.clear()
    days.after(100)
    assert hook.calls == []
    assert must_state(days.keeper).calls[0].status is CallStatus.DROPPED
    submit(scheduler, 8)
    days.after(5)
    assert days.state("GPU-0") == (GpuState.ACTIVE, CAPACITY), "it is taken back"


def test_one_that_does_not_come_is_asked_for_again(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    submit(scheduler)
    days.after(5)
    state = must_state(days.keeper)
    assert state.cooldown_until == state.calls[0].done_at + LIMITS.cooldown_seconds  # type: ignore[operator]  # known
    days.after(190)
    assert hook.told[1:] == [(START, 1, None)]
    days.after(15)
    assert hook.told[2:] == [(START, 1, None)]


def test_what_never_comes_is_asked_for_less_and_less_often(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    hook.calls.clear()
    submit(scheduler)
    days.after(5 + 2000)  # after 200, 400 and 800 seconds
    assert hook.told == [(START, 1, None)] * 4
    days.come("GPU-1")
    days.after(15)
    days.go("GPU-1")
    days.after(100)
    assert hook.told[4:] == [(START, 1, None)]
    days.after(200)
    assert hook.told[5:] == [(START, 1, None)], "one has come: what was before is forgotten"


def test_a_host_that_is_still_there_is_stopped_again(days: Days, hook: Hook) -> None:
    days.come("GPU-0")
    days.after(IDLE)
    days.empty("GPU-0")
    days.after(190)
    assert hook.told == [(STOP, 1, "host-GPU-0")]
    days.after(50)
    assert hook.told == [(STOP, 1, "host-GPU-0")] * 2


def test_jobs_that_are_not_due_or_could_not_run_are_no_pressure(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    hook.calls.clear()
    submit(scheduler, not_before=days.clock.seconds + 60)
    days.after(50)
    assert hook.calls == []
    scheduler.control.pause("power test", "alice")
    days.after(60)
    assert hook.calls == []
    scheduler.control.resume("alice")
    days.after(5)
    assert hook.told == [(START, 1, None)], "nobody claims, and it is due all the same"


def test_a_limited_tenant_is_pressure_up_to_its_limit(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    hook.calls.clear()
    scheduler.tenants.set("small", TenantLimits(max_running=1), "alice")
    submit(scheduler, 20, tenant="small")
    days.after(5)
    assert hook.told == [(START, 1, None)]


def test_a_held_model_is_no_pressure(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    hook.calls.clear()
    scheduler.control.hold_model(gpu_info().model, "black videos", "alice")
    submit(scheduler)
    days.after(60)
    assert hook.calls == []


def test_what_only_a_stopped_gpu_could_hold(days: Days, scheduler: Scheduler, hook: Hook) -> None:
    stopped(days)
    hook.calls.clear()
    days.come("small", total_bytes=10 * GIB)
    submit(scheduler, **LARGE)
    days.after(5)
    assert hook.told == [(START, 1, None)]


def test_what_no_gpu_that_can_come_could_hold_is_no_pressure(scheduler: Scheduler, clock: Clock, hook: Hook) -> None:
    prices = Prices(gpus={"large": Price(1.0, Terms.OWNED)})
    days = Days(scheduler, clock, make_keeper(scheduler, prices=prices, minimum=1), hook)
    days.come("small", total_bytes=10 * GIB)
    days.come("large")
    scheduler.fleet.drain("large", "new fans", "alice")
    submit(scheduler, 5, **LARGE)
    days.after(60)
    assert hook.calls == []


def test_only_inside_of_the_windows(scheduler: Scheduler, clock: Clock, hook: Hook) -> None:
    clock.seconds = 1_800_000_000.0 - 1_800_000_000.0 % DAY + 7.95 * 3600  # 07:57 UTC
    windows = read_windows("* 8-17 * * *", "UTC")
    days = Days(scheduler, clock, make_keeper(scheduler, windows=windows), hook)
    days.come("GPU-0")
    days.go("GPU-0")
    days.after(15)
    submit(scheduler)
    days.after(120)
    assert hook.calls == []
    assert must_state(days.keeper).reason == "outside of its windows, 0 at least"
    days.after(60)
    assert hook.told == [(START, 1, None)]


def test_several_front_ends_ask_once(scheduler: Scheduler, clock: Clock) -> None:
    hooks = [Hook() for _ in range(4)]
    keepers = [make_keeper(scheduler) for _ in hooks]
    barrier = Barrier(len(hooks))

    def keep(number: int) -> None:
        barrier.wait()
        keepers[number].run_once(hooks[number])

    with ThreadPoolExecutor(len(hooks)) as threads:
        for _ in range(3):
            list(threads.map(keep, range(len(hooks))))
            clock.advance(EVERY_SECONDS)
    assert [told for hook in hooks for told in hook.told] == [(START, 1, None)]
    assert events(scheduler) == ["capacity.start"]


class Died(BaseException):
    """The front end is gone in the middle of a call."""


def test_a_call_that_a_front_end_died_with_is_made_by_another(scheduler: Scheduler, clock: Clock) -> None:
    taken: list[Call] = []

    def die(call: Call) -> None:
        taken.append(call)
        raise Died

    with pytest.raises(Died):
        make_keeper(scheduler).run_once(die)
    other, hook = make_keeper(scheduler), Hook()
    clock.advance(TIMEOUT + 20)
    other.run_once(hook)
    assert hook.calls == [], "the first may still be at it"
    clock.advance(20)
    other.run_once(hook)
    assert [call.id for call in hook.calls] == [taken[0].id]
    assert must_state(other).calls[0].status is CallStatus.DONE


def test_one_that_fails_after_another_has_made_its_call_changes_nothing(scheduler: Scheduler, clock: Clock) -> None:
    other, hook = make_keeper(scheduler), Hook()

    def too_slow(_: Call) -> None:
        clock.advance(TIMEOUT + 40)
        other.run_once(hook)
        raise HookFailed("it hung")

    done = make_keeper(scheduler).run_once(too_slow)
    assert done[-1].endswith("done by another meanwhile")
    (call,) = must_state(other).calls
    assert (call.status, call.tries, call.error) == (CallStatus.DONE, 2, None)
    assert events(scheduler) == ["capacity.start"]


def test_a_lull_that_nobody_has_watched_does_not_count(days: Days) -> None:
    days.come("GPU-0")
    days.after(50)
    days.clock.advance(3600)
    days.after(60)
    assert days.state("GPU-0")[0] is GpuState.ACTIVE
    days.after(20)
    assert days.state("GPU-0")[0] is GpuState.DRAINING


def test_calls_are_kept_as_long_as_events(days: Days, scheduler: Scheduler) -> None:
    days.after(5)
    days.clock.advance(scheduler.queue._policy.retention_seconds + DAY)
    days.come("GPU-0")
    days.after(5)
    assert must_state(days.keeper).calls == ()
