"""Any sequence of calls, beside a plain model of what they must do (hypothesis chooses the calls)."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from scheduler import catalog, ids
from scheduler.errors import IdempotencyMismatch, InvalidState, LeaseLost
from scheduler.limits import TenantLimits
from scheduler.policy import Order, Policy
from scheduler.reaper import Reaper
from scheduler.records import GpuSample, Job, Lease, NewJob, Progress, ServedModel, Worker
from scheduler.service import Scheduler
from scheduler.states import Directive, DrainMode, GpuState, JobStatus, OnDeadline, Outcome, Stage
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MEASURED, MODEL, RESULT, demand_bytes, gpu_info, new_job, open_scheduler
from tests.support.queue_model import ModelGpu, ModelJob, ModelWorker, QueueModel

pytestmark = pytest.mark.usefixtures("fixed_sizes")

POLICY = Policy(max_attempts=2, reserve_after_seconds=5.0)
FIRST = replace(MODEL, weights_bytes=GIB)
SECOND = replace(MODEL, id="second", weights_bytes=2 * GIB)
RESIDENT = {FIRST.id: 2 * GIB, SECOND.id: 3 * GIB}
CONTEXT = catalog.architecture(MODEL.architecture).resident_bytes("fp16", 0)
LOAD_FIRST, LOAD_SECOND = (CONTEXT + model.weights_bytes for model in (FIRST, SECOND))
# GPU-0's workers load the second model when a job wants it; GPU-1 has workers of both, and those of the second one give
# memory back for a job of the first. Three make a GPU crowded.
FLEET: tuple[tuple[str, ServedModel, int, tuple[tuple[str, dict[str, int]], ...]], ...] = (
    ("GPU-0", FIRST, 13, ((FIRST.id, {SECOND.id: LOAD_SECOND - RESIDENT[FIRST.id]}),)),
    ("GPU-1", SECOND, 15, ((SECOND.id, {FIRST.id: LOAD_FIRST - RESIDENT[SECOND.id]}), (FIRST.id, {}))),
)
# 0.5 GiB for 3 s, 1.9 for 14 s and for a minute, 3.9 for half a minute, 5.75 for 6 minutes.
SIZES: tuple[dict[str, int], ...] = (
    {"width": 256, "height": 256, "num_frames": 8, "num_inference_steps": 10},
    {"num_inference_steps": 10},
    {},
    {"width": 768, "height": 768, "num_inference_steps": 10},
    {"width": 768, "height": 768, "num_frames": 24, "num_inference_steps": 80},
)
# What the calls of every run lead to, and what those of the longest do: without it, they would show little.
COMMON = {
    "a GPU is reserved",
    "a worker loads another model",
    "a worker gives memory back",
    "a job waits in a lane behind another",
    "a lease runs out",
    "a stale lease is refused",
    "a job is given back for a drain",
    "a key is used again",
    "a limit of running jobs holds the first one back",
}
RARE = {
    "the reserved job starts",
    "a job that fits waits for the reserved one",
    "a job may run before the reserved start",
    "a job may run beside the reserved one",
    "a cancel wins",
    "a GPU with a reservation is away",
    "a later job goes first",
}

gpus = st.integers(0, len(FLEET) - 1)
indices = st.integers(0, 5)
tenants = st.sampled_from(["none", "half", "two"])
priorities = st.sampled_from([0.5, 1.0, 4.0])
endings = st.sampled_from(["succeed", "succeed", "fail", "retry", "release", "cancelled"])
job_of = {
    "model": st.sampled_from([FIRST.id, FIRST.id, SECOND.id]),
    "size": st.sampled_from(SIZES),
    "priority": priorities,
    "tenant": tenants,
    "wait": st.sampled_from([0.0, 0.0, 0.0, 0.0, -5.0, 3.0, 40.0]),
}
# Each call with how often it should come, and its arguments. They are one rule, not one each: hypothesis leaves
# rules out at random, and without submit and claim the others have nothing to work on.
CALLS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "submit": (8, job_of),
    "submit_many": (1, {"several": st.lists(st.fixed_dictionaries(job_of), min_size=2, max_size=4)}),
    "submit_again": (1, {"index": indices, "same": st.booleans()}),
    "set_limits": (
        2,
        {
            "tenant": tenants,
            "share": st.sampled_from([None, 0.5, 2.0]),
            "max_running": st.sampled_from([None, None, 0, 1, 1, 2]),
        },
    ),
    "claim": (
        20,
        {
            "gpu": gpus,
            "index": indices,
            "lane": st.sampled_from([0, 0, 1, 2]),
            "free_gib": st.sampled_from([24] * 7 + [4, 1, 0]),
        },
    ),
    "report": (2, {"index": indices, "fraction": st.sampled_from([0.1, 0.5, 0.9])}),
    "end": (6, {"index": indices, "how": endings}),
    "cancel": (3, {"index": indices}),
    "reprioritize": (1, {"index": indices, "priority": priorities}),
    "pause_or_resume": (2, {"pause": st.sampled_from([True, False, False, False])}),
    "work": (5, {"seconds": st.sampled_from([1.0, 6.0, 25.0, 60.0])}),
    "reap": (4, {"silence": st.sampled_from([0.0, 0.0, 0.6, 0.6, 5.0, 10.5])}),
    "worker_gone": (1, {"gpu": gpus, "index": indices}),
    "add_worker": (3, {"gpu": gpus}),
    "obey": (2, {}),
    "drain": (
        2,
        {
            "gpu": gpus,
            "mode": st.sampled_from(DrainMode),
            "deadline": st.sampled_from([None, 5.0, 5.0]),
            "on_deadline": st.sampled_from(OnDeadline),
            "resume_after": st.sampled_from([None, 30.0]),
        },
    ),
    "resume_gpu": (7, {"gpu": gpus}),
    "fault": (1, {"gpu": gpus}),
}


SETTINGS = settings(
    max_examples=12,
    stateful_step_count=60,
    phases=[Phase.generate],  # to shrink a failure would take minutes; its calls are printed as they are
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class QueueMachine(RuleBasedStateMachine):
    """Each step makes one call on the scheduler and on the model, and compares what they return."""

    def __init__(self, scheduler: Scheduler, clock: Clock, policy: Policy, situations: Counter[str]) -> None:
        super().__init__()
        self.clock = clock
        self.scheduler = scheduler
        self.policy = policy
        self.empty_the_database()
        self.model = QueueModel(policy, situations=situations)
        self.keyed: list[NewJob] = []
        self.leases: list[Lease] = []
        self.workers: dict[str, list[str]] = defaultdict(list)
        for number, (gpu_id, model, gib, _) in enumerate(FLEET):
            scheduler.fleet.register(model, [gpu_info(gpu_id, model=model.id, total_bytes=gib * GIB)])
            self.model.gpus[gpu_id] = ModelGpu(gpu_id, (gib - 1) * GIB, clock.seconds)
            self.add_worker(number)
            self.add_worker(number)
        self.position = scheduler.events.last()

    def empty_the_database(self) -> None:
        with self.scheduler.database.write() as conn:
            for table in reversed(s.metadata.sorted_tables):
                conn.execute(delete(table))

    @rule(name=st.sampled_from([name for name, (times, _) in CALLS.items() for _ in range(times)]), data=st.data())
    def call(self, name: str, data: st.DataObject) -> None:
        name = self.worth_while(name)
        getattr(self, name)(**{key: data.draw(values, key) for key, values in CALLS[name][1].items()})

    def worth_while(self, name: str) -> str:
        """Return the call, or what it needs where that is missing: a lease, a job, a worker."""
        if name in ("report", "end") and not self.leases:
            name = "claim"
        if name == "claim" and len(self.model.queued()) < 3:
            return "submit"
        if name == "claim" and len(self.model.workers) < 2:
            return "add_worker"
        return name

    # The callers

    def submit(self, **wanted: Any) -> None:
        new = self.new(**wanted)
        submitted = self.scheduler.queue.submit(new)
        assert submitted.created
        self.keyed.append(new)
        self.follow(new, submitted.job)

    def submit_many(self, several: list[dict[str, Any]]) -> None:
        new = [self.new(**wanted) for wanted in several]
        again = replace(new[0], id=ids.new_id("job"))  # with the key of the first
        for one, answer in zip(new, self.scheduler.queue.submit_many([*new, again]), strict=False):
            assert not isinstance(answer, Exception)
            assert answer.created
            self.keyed.append(one)
            self.follow(one, answer.job)

    def submit_again(self, index: int, *, same: bool) -> None:
        if not self.keyed:
            return
        first = self.keyed[-1 - index % len(self.keyed)]
        again = replace(first, id=ids.new_id("job"), payload_sha256=first.payload_sha256 if same else "other")
        if not same:
            with pytest.raises(IdempotencyMismatch):
                self.scheduler.queue.submit(again)
            return
        answer = self.scheduler.queue.submit(again)
        assert (answer.job.id, answer.created) == (first.id, False)
        self.model.situations["a key is used again"] += 1

    def set_limits(self, tenant: str, share: float | None, max_running: int | None) -> None:
        self.scheduler.tenants.set(tenant, TenantLimits(share, max_running=max_running), "alice")
        self.model.set_limits(tenant, share, max_running)

    def cancel(self, index: int) -> None:
        if not self.model.jobs:
            return
        reserved = [gpu.reserved_for for gpu in self.model.gpus.values() if gpu.reserved_for]
        job = self.model.jobs[reserved[0]] if reserved and index == 0 else self.any_job(index)
        self.scheduler.queue.cancel(job.id)
        self.model.cancel(job)

    def reprioritize(self, index: int, priority: float) -> None:
        if not self.model.jobs:
            return
        job = self.any_job(index)
        if job.status is not JobStatus.QUEUED:
            with pytest.raises(InvalidState):
                self.scheduler.control.reprioritize(job.id, priority, "alice")
            return
        self.model.reprioritize(job, priority)
        assert self.scheduler.control.reprioritize(job.id, priority, "alice").rank == self.model.rank(job)

    def pause_or_resume(self, *, pause: bool) -> None:
        if pause:
            self.scheduler.control.pause("maintenance", "alice")
        else:
            self.scheduler.control.resume("alice")
        self.model.switch(paused=pause)

    # The workers

    def claim(self, gpu: int, index: int, lane: int, free_gib: int) -> None:
        gpu_id = FLEET[gpu][0]
        known = self.workers[gpu_id]
        alive = [worker_id for worker_id in known if worker_id in self.model.workers]
        workers = (alive if index < 5 else []) or known
        worker_id = workers[index % len(workers)]
        now, free_bytes = self.clock.seconds, free_gib * GIB
        expected = self.model.claim(worker_id, lane, free_bytes, now)

        lease = self.scheduler.queue.claim(worker_id, gpu_id, free_bytes, lane=lane)

        assert (lease and lease.job_id) == (expected and expected.id)
        if lease is not None and expected is not None:
            self.model.check_overtaking(expected, worker_id, lane, free_bytes, now)
            self.model.claimed(expected, lease, free_bytes, now)
            assert (lease.fence, lease.attempt, lease.lane) == (expected.fence, expected.attempts, lane)
            assert lease.reserved_bytes == expected.reserved_bytes
            self.leases.append(lease)

    def report(self, index: int, fraction: float) -> None:
        lease, job = self.pick(index)
        progress = Progress(Stage.DENOISING, 1, lease.params.num_inference_steps, fraction)
        if not self.model.holds(lease):
            with pytest.raises(LeaseLost):
                self.scheduler.leases.report(lease, progress)
            self.model.situations["a stale lease is refused"] += 1
            return
        heard = self.scheduler.leases.report(lease, progress)
        assert heard is self.directive(job)
        self.model.reported(lease, fraction, self.clock.seconds)

    def end(self, index: int, how: str) -> None:
        lease, job = self.pick(index)
        arguments: dict[str, tuple[Any, ...]] = {"succeed": (RESULT, MEASURED), "fail": (ERROR,), "retry": (ERROR,)}
        call = getattr(self.scheduler.leases, how)
        if not self.model.holds(lease):
            with pytest.raises(LeaseLost):
                call(lease, *arguments.get(how, ()))
            self.model.situations["a stale lease is refused"] += 1
            return
        answer = call(lease, *arguments.get(how, ()))
        if how == "retry":
            assert answer is self.model.give_back(job, self.clock.seconds)
            self.learn_backoff(job)
        elif how == "release":
            assert answer is self.model.release(job, self.clock.seconds)
        else:
            ends = {"succeed": JobStatus.SUCCEEDED, "fail": JobStatus.FAILED, "cancelled": JobStatus.CANCELLED}
            assert answer in (self.model.end(job, ends[how], self.clock.seconds), None)

    def obey(self) -> None:
        """The workers that were told to stop have come to the end of their step."""
        for job in self.model.running():
            assert job.lease is not None
            directive = self.scheduler.leases.directive(job.lease)
            assert directive is self.directive(job)
            if directive is Directive.CANCEL:
                self.scheduler.leases.cancelled(job.lease)
                self.model.end(job, JobStatus.CANCELLED, self.clock.seconds)
            elif directive is Directive.RELEASE:
                self.model.situations["a job is given back for a drain"] += 1
                assert self.scheduler.leases.release(job.lease) is self.model.release(job, self.clock.seconds)

    def work(self, seconds: float) -> None:
        """Time passes, and everything is heard from: what runs comes as far as was predicted, but never to its end."""
        self.clock.advance(seconds)
        now = self.clock.seconds
        for gpu_id, *_ in FLEET:
            self.scheduler.fleet.sample(gpu_id, GpuSample(0, 24 * GIB))
            self.model.gpus[gpu_id].seen_at = now
        for worker in self.model.workers.values():
            assert self.scheduler.fleet.touch_worker(worker.id)
            worker.seen_at = now
        for job in self.model.running():
            assert job.lease is not None
            fraction = min(0.95, job.fraction + seconds / job.seconds)
            progress = Progress(Stage.DENOISING, 1, job.lease.params.num_inference_steps, fraction)
            assert self.scheduler.leases.report(job.lease, progress) is self.directive(job)
            self.model.reported(job.lease, fraction, now)

    # What dies, and what falls due

    def reap(self, silence: float) -> None:
        self.clock.advance(silence)
        now, opened = self.clock.seconds, self.scheduler
        silent = sorted(self.model.silent(now))
        expired = self.model.reap(now)

        # A reaper of its own each time: one that had paused would be patient.
        reaped = Reaper(opened.database, self.policy, opened.queue, opened.leases, opened.fleet).run_once()

        assert sorted(reaped.expired_jobs) == sorted(job.id for job in expired)
        assert sorted(reaped.silent_workers) == silent
        assert (reaped.refused_jobs, reaped.hung_jobs) == ([], [])
        for job in expired:
            self.learn_backoff(job)

    def worker_gone(self, gpu: int, index: int) -> None:
        workers = self.workers[FLEET[gpu][0]]
        worker_id = workers[index % len(workers)]
        lost = self.model.worker_gone(worker_id, self.clock.seconds)
        assert sorted(self.scheduler.fleet.worker_gone(worker_id)) == sorted(job.id for job in lost)
        for job in lost:
            self.learn_backoff(job)

    def add_worker(self, gpu: int) -> None:
        gpu_id, _, _, kinds = FLEET[gpu]
        held = [worker for worker in self.model.workers.values() if worker.gpu_id == gpu_id]
        promised = sum(job.reserved_bytes for job in self.model.running(gpu_id))
        model, can_load = kinds[len(self.workers[gpu_id]) % len(kinds)]
        resident = RESIDENT[model]
        in_all = sum(worker.resident_bytes for worker in held) + resident + promised
        if in_all > self.model.gpus[gpu_id].usable_bytes or len(held) == 3:
            return  # as its supervisor would see
        worker = Worker(ids.new_id("worker"), gpu_id, 4711, model, resident, ready=True, can_load=tuple(can_load))
        self.scheduler.fleet.register_worker(worker)
        self.workers[gpu_id].append(worker.id)
        loads = {model: 0, **can_load}
        self.model.worker_added(ModelWorker(worker.id, gpu_id, model, resident, self.clock.seconds, loads))

    # The operator

    def drain(
        self,
        gpu: int,
        mode: DrainMode,
        deadline: float | None,
        on_deadline: OnDeadline,
        resume_after: float | None,
    ) -> None:
        model, now = self.model.gpus[FLEET[gpu][0]], self.clock.seconds
        self.scheduler.fleet.drain(
            model.id,
            "maintenance",
            "alice",
            mode=mode,
            deadline_seconds=deadline,
            on_deadline=on_deadline,
            resume_after_seconds=resume_after,
        )
        deadline_at = None if deadline is None else now + deadline
        self.model.drain(model, mode, deadline_at, on_deadline, None if resume_after is None else now + resume_after)

    def resume_gpu(self, gpu: int) -> None:
        out = [one for one in self.model.gpus.values() if one.state is not GpuState.ACTIVE]
        model = out[gpu % len(out)] if out else self.model.gpus[FLEET[gpu][0]]
        self.scheduler.fleet.resume(model.id, "alice")
        self.model.resume(model)

    def fault(self, gpu: int) -> None:
        self.scheduler.fleet.fault(FLEET[gpu][0], "it fell off the bus")
        self.model.fault(self.model.gpus[FLEET[gpu][0]])

    # What must be true after every call

    @invariant()
    def every_job_is_where_the_model_has_it(self) -> None:
        with self.scheduler.database.read() as conn:
            states = {row.job_id: row for row in conn.execute(select(s.job_states))}
            results = list(conn.execute(select(s.results.c.job_id)).scalars())
            won = list(
                conn.execute(select(s.attempts.c.job_id).where(s.attempts.c.outcome == Outcome.SUCCEEDED)).scalars()
            )
        assert states.keys() == self.model.jobs.keys(), "a job is lost"
        for job in self.model.jobs.values():
            seen = states[job.id]
            assert (seen.status, seen.lease, seen.attempts) == (job.status, job.fence, job.attempts)
            assert (seen.cancel_requested_at is not None) is job.cancel_requested
            assert seen.rank == self.model.rank(job)
        succeeded = sorted(job.id for job in self.model.jobs.values() if job.status is JobStatus.SUCCEEDED)
        assert sorted(results) == sorted(won) == succeeded, "one result a job, of one attempt"

    @invariant()
    def no_byte_is_promised_twice(self) -> None:
        with self.scheduler.database.read() as conn:
            leases = conn.execute(select(s.leases)).all()
            workers = conn.execute(select(s.workers.c.gpu_id, s.workers.c.resident_bytes)).all()
            gpus = conn.execute(select(s.gpus)).all()
            reservations = conn.execute(select(s.reservations)).all()
        assert sorted((row.job_id, row.lease, row.reserved_bytes) for row in leases) == sorted(
            (job.id, job.fence, job.reserved_bytes) for job in self.model.running()
        )
        for gpu in gpus:
            assert gpu.state == self.model.gpus[gpu.id].state
            resident = sum(row.resident_bytes for row in workers if row.gpu_id == gpu.id)
            lanes: dict[tuple[str, int], int] = defaultdict(int)
            for row in leases:
                if row.gpu_id == gpu.id:
                    lanes[row.worker_id, row.lane] = max(lanes[row.worker_id, row.lane], row.reserved_bytes)
            leased = sum(lanes.values())
            assert resident + leased <= gpu.total_bytes - gpu.headroom_bytes
        kept = {gpu.id: gpu for gpu in self.model.gpus.values() if gpu.reserved_for is not None}
        assert {row.gpu_id: row.job_id for row in reservations} == {gpu.id: gpu.reserved_for for gpu in kept.values()}
        assert len({row.job_id for row in reservations}) == len(reservations)
        for row in reservations:
            assert row.start_at == pytest.approx(kept[row.gpu_id].start_at, abs=1e-3)
            assert row.reserved_bytes == self.model.jobs[row.job_id].need_bytes

    @invariant()
    def the_log_tells_it_all_in_order(self) -> None:
        told: dict[str, list[str]] = defaultdict(list)
        events = self.scheduler.events.read(self.position, limit=1000)
        assert [event.position for event in events] == [self.position + 1 + n for n in range(len(events))]
        for event in events:
            fence = f" {event.data['lease']}" if "lease" in event.data else ""
            told[event.subject].append(event.type + fence)
        assert told == self.model.told
        self.model.told.clear()
        self.position += len(events)

    # Helpers

    def new(self, *, wait: float, size: dict[str, int], **wanted: Any) -> NewJob:
        key = ids.new_id("key")
        not_before = 0.0 if wait == 0 else self.clock.seconds + wait
        return new_job(not_before=not_before, idempotency_key=key, payload_sha256="a" * 64, **size, **wanted)

    def follow(self, new: NewJob, job: Job) -> None:
        now = self.clock.seconds
        ready_at = max(now, new.not_before)
        followed = ModelJob(
            id=new.id,
            model=new.model,
            seconds=job.footprint.seconds,
            vram_bytes=job.footprint.vram_bytes,
            need_bytes=demand_bytes(job),
            priority=new.priority,
            virtual_at=ready_at,
            ready_at=ready_at,
            not_before=new.not_before,
        )
        self.model.submitted(followed, new.tenant, now)
        assert (job.id, job.virtual_at) == (followed.id, followed.virtual_at)

    def any_job(self, index: int) -> ModelJob:
        """Return mostly a job that waits, sometimes one that runs or has ended."""
        running, everything = self.model.running(), list(self.model.jobs.values())
        some = {3: running, 4: running, 5: everything}.get(index, self.model.queued())
        jobs = some or everything
        return jobs[-1 - index % len(jobs)]

    def pick(self, index: int) -> tuple[Lease, ModelJob]:
        """Return a lease with its job: mostly one that is held, sometimes one that another has taken over."""
        held = [lease for lease in self.leases if self.model.holds(lease)]
        running = {lease.job_id for lease in held}
        stale = [lease for lease in self.leases if lease.job_id in running and lease not in held]
        leases = (held if index < 4 else stale) or self.leases
        lease = leases[-1 - index % len(leases)]
        return lease, self.model.jobs[lease.job_id]

    def directive(self, job: ModelJob) -> Directive:
        if job.cancel_requested:
            return Directive.CANCEL
        return Directive.RELEASE if job.release_requested else Directive.CONTINUE

    def learn_backoff(self, job: ModelJob) -> None:
        """Check the drawn wait of a job that went back to the queue, and remember it."""
        if job.status is not JobStatus.QUEUED:
            return
        job.not_before = self.scheduler.queue.get(job.id).not_before
        full = self.policy.retry_base_seconds * 2 ** (job.attempts - 1)
        assert full / 2 <= job.not_before - self.clock.seconds <= full


@pytest.mark.parametrize(
    ("engine", "order", "rounds", "comes_up"),
    [
        ("sqlite", Order.WEIGHTED, 6, COMMON | RARE),
        ("sqlite", Order.FIFO, 2, COMMON),
        ("sqlite", Order.SHORTEST_FIRST, 2, COMMON),
        ("postgresql", Order.WEIGHTED, 2, COMMON),
    ],
    ids=["sqlite-weighted", "sqlite-fifo", "sqlite-shortest-first", "postgresql-weighted"],
)
def test_any_sequence_of_calls_does_what_the_model_does(
    database_url: str, data_dir: Path, clock: Clock, order: Order, rounds: int, comes_up: set[str]
) -> None:
    policy = replace(POLICY, order=order)
    situations: Counter[str] = Counter()
    with open_scheduler(database_url, data_dir, policy) as scheduler:
        for number in range(rounds):  # one long round would vary the same few sequences

            @seed(number)
            class Machine(QueueMachine):
                def __init__(self) -> None:
                    super().__init__(scheduler, clock, policy, situations)

            run_state_machine_as_test(Machine, settings=SETTINGS)

    assert {name for name in comes_up if situations[name] == 0} == set()
