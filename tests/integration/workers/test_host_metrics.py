"""A host's metrics come from its own port, as long as its supervisor runs."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import wait_for
from tests.support.worker_host import WorkerHost


@pytest.fixture
def host(tmp_path: Path, models_dir: Path) -> Iterator[WorkerHost]:
    host = WorkerHost(tmp_path, models_dir, metrics_port=0)
    yield host
    host.close()


def told(url: str) -> dict[str, float]:
    """Every sample without labels but its GPU's or worker's; there is one of each here."""
    text = httpx.get(url, trust_env=False).text
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def test_a_supervisor_tells_of_its_device_and_its_worker_until_it_ends(host: WorkerHost) -> None:
    supervisor = host.start()
    assert supervisor.ready.wait(30), host.log()
    found = wait_for(
        lambda: re.search(r'"port": (\d+).*"serving metrics"|"serving metrics".*"port": (\d+)', host.log()),
        "the port of the metrics",
        host.log,
    )
    url = f"http://127.0.0.1:{found[1] or found[2]}/metrics"
    worker = host.ready_worker()
    before = told(url)
    assert before["reelq_device_readable"] == 1
    assert before["reelq_device_memory_total_bytes"] == 3 * 2**30
    assert before["reelq_device_memory_used_bytes"] > 0
    assert before["reelq_worker_resident_memory_bytes"] > 100 * 2**20
    assert before["process_start_time_seconds"] <= before["reelq_worker_start_time_seconds"]

    (process,) = (each for each in host.processes() if each.pid == worker.pid)
    process.kill()
    host.ready_worker(besides=worker.pid)
    assert told(url)["reelq_worker_start_time_seconds"] > before["reelq_worker_start_time_seconds"]

    supervisor.terminate()
    assert supervisor.finish(30.0) == 0
    with pytest.raises(httpx.ConnectError):
        told(url)
