"""Quotas: how many jobs of a tenant may wait, at what priority, and when to come again."""

import time

import pytest

from scheduler import quotas
from scheduler.errors import InvalidParameter, QueueFull, TenantQueueFull
from scheduler.limits import TenantLimits
from scheduler.policy import Policy
from scheduler.records import Job
from scheduler.service import Scheduler
from scheduler.store.submission import Counter
from scheduler.submitting import Submitted
from tests.support.databases import Clock
from tests.support.fleet import new_job, register_gpu


def limit(scheduler: Scheduler, tenant: str, **limits: float) -> None:
    scheduler.tenants.set(tenant, TenantLimits(**limits), "me")  # type: ignore[arg-type]


def submit(scheduler: Scheduler, tenant: str) -> Job:
    return scheduler.queue.submit(new_job(tenant=tenant)).job


def kinds(answers: list[Submitted | Exception]) -> list[type]:
    return [type(answer) for answer in answers]


def until_taken(scheduler: Scheduler, tenant: str) -> None:
    """What is full is not counted again at once."""
    deadline = time.monotonic() + 10
    while True:
        try:
            submit(scheduler, tenant)
        except QueueFull:
            assert time.monotonic() < deadline
        else:
            return


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Whose jobs have been counted; None: all."""
    counted: list[str | None] = []
    count = Counter.queued

    def noted(self: Counter, limit: int, tenant: str | None = None) -> int:
        counted.append(tenant)
        return count(self, limit, tenant)

    monkeypatch.setattr(Counter, "queued", noted)
    return counted


def test_a_tenant_at_its_limit_is_refused_and_others_are_not(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=2)
    for _ in range(2):
        submit(scheduler, "acme")

    with pytest.raises(TenantQueueFull, match="2 jobs are waiting, as many as tenant acme may have"):
        submit(scheduler, "acme")
    submit(scheduler, "other")
    gpu.must_claim()
    gpu.must_claim()
    gpu.must_claim()
    until_taken(scheduler, "acme")


def test_in_one_commit_each_tenant_has_its_own_room(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "one", max_queued=1)
    limit(scheduler, "two", max_queued=2)
    owners = ["one", "two", "free", "one", "two", "two", "free"]

    answers = scheduler.queue.submit_many([new_job(tenant=owner) for owner in owners])

    full = [owners[index] for index, kind in enumerate(kinds(answers)) if kind is TenantQueueFull]
    assert full == ["one", "two"]
    assert kinds(answers).count(Submitted) == 5


def test_a_refusal_tells_the_limit_and_counts_in_words(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=1)
    submit(scheduler, "acme")
    with pytest.raises(TenantQueueFull, match=r"^1 job is waiting, as many as tenant acme may have$") as refused:
        submit(scheduler, "acme")
    assert refused.value.limit == 1


def test_a_refused_job_takes_no_place(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=1)
    huge, good = new_job(tenant="acme", width=1280, height=1280, num_frames=32), new_job(tenant="acme")
    assert kinds(scheduler.queue.submit_many([huge, good]))[1] is Submitted


def test_a_known_key_is_answered_at_the_limit(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=1)
    again = {"tenant": "acme", "idempotency_key": "k", "payload_sha256": "a"}
    first = scheduler.queue.submit(new_job(**again)).job
    assert scheduler.queue.submit(new_job(**again)).job.id == first.id


def test_a_limit_of_none_lets_nothing_in(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=0)
    with pytest.raises(TenantQueueFull) as refused:
        submit(scheduler, "acme")
    assert refused.value.retry_after_seconds == 600


class TestDefaults:
    """The settings' limits hold for who has none of its own."""

    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(tenant_limits=TenantLimits(max_queued=1, max_priority=1.0))

    def test_they_do(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler)
        limit(scheduler, "large", max_queued=3)
        owners = ["large", "large", "a", "a", "b", "large"]
        answers = scheduler.queue.submit_many([new_job(tenant=owner) for owner in owners])
        assert [index for index, kind in enumerate(kinds(answers)) if kind is TenantQueueFull] == [3]
        with pytest.raises(InvalidParameter):
            scheduler.queue.submit(new_job(tenant="large", priority=1.1))


def test_a_priority_above_the_ceiling_is_refused(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_priority=1.5)
    with pytest.raises(InvalidParameter, match=r"priority must be at most 1\.5 for tenant acme, not 1\.6") as refused:
        scheduler.queue.submit(new_job(tenant="acme", priority=1.6))
    assert refused.value.field == "priority"
    assert scheduler.queue.submit(new_job(tenant="acme", priority=1.5)).created
    assert scheduler.queue.submit(new_job(tenant="other", priority=100.0)).created


def test_a_job_is_behind_its_tenants_gate_where_there_is_one(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", max_running=1)
    limit(scheduler, "other", max_queued=10)
    assert [submit(scheduler, tenant).gate for tenant in ("acme", "other", "unknown")] == ["acme", "", ""]


class TestRetryAfter:
    """Two workers; a queue of eight."""

    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(max_queued=8)

    def refused(self, scheduler: Scheduler, tenant: str) -> float:
        with pytest.raises(QueueFull) as refused:
            submit(scheduler, tenant)
        return refused.value.retry_after_seconds

    def test_a_full_queue_starts_a_job_in_the_mean_time_over_the_workers(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler, workers=2)
        mean, *_ = [submit(scheduler, "a").footprint.seconds for _ in range(8)]
        assert self.refused(scheduler, "a") == pytest.approx(mean / 2)

    def test_a_tenant_has_its_part_of_the_starts(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler, workers=2)
        limit(scheduler, "acme", max_queued=2)
        mean, *_ = [submit(scheduler, tenant).footprint.seconds for tenant in ("acme", "a", "a", "acme", "a", "a")]
        assert self.refused(scheduler, "acme") == pytest.approx(mean / 2 * 3)

    def test_a_tenant_never_starts_more_than_it_may_run(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler, workers=2)
        limit(scheduler, "acme", max_queued=2, max_running=1)
        mean, _ = [submit(scheduler, "acme").footprint.seconds for _ in range(2)]
        assert self.refused(scheduler, "acme") == pytest.approx(mean)

    def test_jobs_put_off_do_not_count(self, scheduler: Scheduler, clock: Clock) -> None:
        register_gpu(scheduler, workers=2)
        limit(scheduler, "acme", max_queued=2)
        later, slow = clock.seconds + 3600.0, {"num_inference_steps": 500}
        for tenant in ("acme", "a", "a", "a"):
            scheduler.queue.submit(new_job(tenant=tenant, not_before=later, **slow))
        mean, *_ = [submit(scheduler, tenant).footprint.seconds for tenant in ("acme", "a", "a", "a")]
        assert self.refused(scheduler, "acme") == pytest.approx(mean / 2 * 4)
        assert self.refused(scheduler, "b") == pytest.approx(mean / 2)

    def test_a_tenants_time_is_that_of_its_own_jobs(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler)
        limit(scheduler, "acme", max_queued=1)
        scheduler.queue.submit(new_job(tenant="a", num_inference_steps=500))
        mean = submit(scheduler, "acme").footprint.seconds
        assert self.refused(scheduler, "acme") == pytest.approx(mean * 2)

    @pytest.mark.parametrize(("seconds", "expected"), [(90.0, 90.0), (86_400.0, 600.0)])
    def test_where_all_are_put_off_it_is_when_the_first_is_due(
        self, scheduler: Scheduler, clock: Clock, seconds: float, expected: float
    ) -> None:
        register_gpu(scheduler)
        limit(scheduler, "acme", max_queued=2)
        for later in (seconds, seconds + 1000.0):
            scheduler.queue.submit(new_job(tenant="acme", not_before=clock.seconds + later))
        submit(scheduler, "a")
        assert self.refused(scheduler, "acme") == pytest.approx(expected)

    def test_a_queue_of_jobs_put_off(self, scheduler: Scheduler, clock: Clock) -> None:
        register_gpu(scheduler)
        for _ in range(8):
            scheduler.queue.submit(new_job(not_before=clock.seconds + 30.0))
        assert self.refused(scheduler, "a") == pytest.approx(30.0)

    def test_nobody_is_sent_away_for_ever(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler)
        limit(scheduler, "acme", max_queued=1, max_running=0)
        submit(scheduler, "acme")
        assert self.refused(scheduler, "acme") == 600


def test_without_limits_nothing_more_is_counted(scheduler: Scheduler, counts: list[str | None]) -> None:
    register_gpu(scheduler)
    limit(scheduler, "shared", share=1.0)
    scheduler.queue.submit_many([new_job(tenant=tenant) for tenant in ("a", "b", "shared")])
    assert counts == [None]


def test_a_long_queue_is_not_counted_for_every_job(
    scheduler: Scheduler, counts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_COUNT_SECONDS", 3600.0)
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=800)
    for _ in range(90):
        submit(scheduler, "acme")
    assert counts.count("acme") == counts.count(None) == 1


def test_a_full_quota_is_not_counted_for_every_refusal(
    scheduler: Scheduler, counts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_COUNT_PAUSE", 1e6)
    register_gpu(scheduler)
    limit(scheduler, "acme", max_queued=1)
    submit(scheduler, "acme")
    for _ in range(20):
        with pytest.raises(TenantQueueFull):
            submit(scheduler, "acme")
    assert counts.count("acme") <= 3, "the first job, the first refusal, and the backlog"
