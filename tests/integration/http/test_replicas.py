"""Three front ends on one PostgreSQL, each as if on a machine of its own: any of them answers any call."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.client import Client
from app.settings import FrontEndSettings
from scheduler.keys import Scope
from scheduler.limits import TenantLimits
from scheduler.service import Scheduler
from tests.support.databases import PostgresServer, postgres_server
from tests.support.fleet import HALF_WAY, RegisteredGpu, register_gpu
from tests.support.http import VIDEO, Site, picture
from tests.support.service import free_port, wait_for

__all__ = ["postgres_server"]

ROOT = Path(__file__).parents[3]


@dataclass
class Replicas:
    """The front ends' URLs and processes, and the store that they share."""

    urls: list[str]
    processes: list[subprocess.Popen[bytes]]
    scheduler: Scheduler
    gpu: RegisteredGpu
    folder: Path

    def submit(self, at: int, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.urls[at]}/v1/jobs",
            data={"prompt": "a fox"}, files={"image": ("a.png", picture())}, headers=headers, timeout=30,
        )  # fmt: skip

    def job(self, at: int, job_id: str, wait: float = 0) -> httpx.Response:
        return httpx.get(f"{self.urls[at]}/v1/jobs/{job_id}", params={"wait": wait} if wait else {}, timeout=60)

    def finish_next(self) -> None:
        """Do what a worker does with the next job."""
        lease = self.gpu.must_claim()
        self.scheduler.leases.report(lease, HALF_WAY)
        Site(None, None, self.scheduler, self.gpu, self.folder).finish(lease)  # type: ignore[arg-type]  # no app here


@pytest.fixture(scope="module")
def replicas(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    name = postgres_server.create(postgres_server.migrated_template())
    common = {
        "database_url": postgres_server.url(name), "blob_url": (folder / "blobs").as_uri(), "lease_seconds": 600,
        "min_free_disk_bytes": 0, "place_seconds": 0,
    }  # fmt: skip
    every = [FrontEndSettings(data_dir=folder / f"at-{number}", port=free_port(), **common) for number in range(3)]
    processes = []
    with (
        Scheduler.open(FrontEndSettings(data_dir=folder / "worker", **common)) as scheduler,
        (folder / "log").open("wb") as log,
    ):
        gpu = register_gpu(scheduler)
        try:
            for settings in every:
                environment = os.environ | settings.environment() | {"PYTHONPATH": str(ROOT)}
                command = [sys.executable, "-m", "app.cli", "serve"]
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            urls = [f"http://127.0.0.1:{settings.port}" for settings in every]
            for url in urls:
                wait_for(lambda url=url: _answers(url), "a front end to answer", (folder / "log").read_text)
            yield Replicas(urls, processes, scheduler, gpu, folder)
        finally:
            for process in processes:
                process.kill()
                process.wait(10)
    postgres_server.drop(name)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_job_is_everywhere_at_once(replicas: Replicas) -> None:
    """Submitted at one, waited for at the second, followed at the third, downloaded at the first."""
    job_id = replicas.submit(0).json()["id"]
    assert replicas.job(1, job_id).json()["status"] == "queued"
    with ThreadPoolExecutor(1) as pool, Client(replicas.urls[2]) as client:
        etag = replicas.job(1, job_id).headers["etag"]
        waiting = pool.submit(
            httpx.get, f"{replicas.urls[1]}/v1/jobs/{job_id}?wait=30", headers={"If-None-Match": etag}, timeout=60
        )
        stream = client.stream(job_id)
        assert next(stream)["status"] == "queued"
        replicas.finish_next()
        seen = [state["status"] for state in stream]
        assert seen[-1] == "succeeded"
        assert waiting.result().json()["status"] in ("running", "succeeded")
    for url in replicas.urls:
        assert httpx.get(f"{url}/v1/jobs/{job_id}/video").content == VIDEO


def test_a_cancel_at_one_is_seen_at_the_others(replicas: Replicas) -> None:
    job_id = replicas.submit(0).json()["id"]
    assert httpx.post(f"{replicas.urls[1]}/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    for at in range(3):
        assert replicas.job(at, job_id).json()["status"] == "cancelled"
    assert httpx.delete(f"{replicas.urls[2]}/v1/jobs/{job_id}").status_code == 204
    assert [replicas.job(at, job_id).status_code for at in range(3)] == [404] * 3


def test_a_key_makes_one_job_wherever_it_is_used(replicas: Replicas) -> None:
    key = {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda number: replicas.submit(number % 3, **key), range(9)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    other = httpx.post(
        f"{replicas.urls[1]}/v1/jobs", data={"prompt": "another"}, files={"image": picture()}, headers=key
    )
    assert other.status_code == 422
    replicas.finish_next()


def test_a_client_goes_on_elsewhere_when_its_front_end_is_killed(replicas: Replicas) -> None:
    job_id = replicas.submit(1).json()["id"]
    with httpx.stream("GET", f"{replicas.urls[2]}/v1/jobs/{job_id}/events", timeout=30) as stream:
        lines = stream.iter_lines()
        last = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        killed = replicas.processes.pop()
        killed.kill()
        killed.wait(10)
        with pytest.raises(httpx.TransportError):
            list(lines)
    url = f"{replicas.urls[0]}/v1/jobs/{job_id}/events"
    worker = threading.Timer(0.1, replicas.finish_next)
    worker.start()
    with httpx.stream("GET", url, headers={"Last-Event-ID": last}, timeout=30) as stream:
        told = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
    worker.join()
    assert told[-1] == "status"
    assert replicas.job(1, job_id).json()["status"] == "succeeded"


def test_a_rate_holds_over_all_of_them(replicas: Replicas) -> None:
    """The last one here: with its key the service closes."""
    replicas.scheduler.tenants.set("acme", TenantLimits(requests_per_minute=20), "test")
    _, secret = replicas.scheduler.keys.create("k", tenant="acme", scopes=[Scope.READ], actor="test")
    headers = {"Authorization": f"Bearer {secret}"}
    urls = replicas.urls[:2]
    for url in urls:
        wait_for(lambda url=url: httpx.get(f"{url}/v1/jobs").status_code == 401, "the front end to close")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: httpx.get(f"{urls[number % 2]}/v1/jobs", headers=headers), range(40)))
    passed = sum(answer.status_code == 200 for answer in answers)
    assert 20 <= passed <= 24, "twenty, and one more each three seconds"
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
