"""One trace of a job through real processes, taken up from the caller's, and nothing of it where nobody asked."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.collector import Collector, Received, collecting
from tests.support.service import TINY, Service, picture, wait_for

pytestmark = pytest.mark.acceptance

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSAMPLED = "1af7651916cd43dd8448eb211c80319c"
STAGES = ["prepare", "wait", "encode", "denoise", "decode", "mux", "publish"]
SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.delenv("OTEL_SERVICE_NAME", raising=False)
        where = tmp_path_factory.mktemp("traced") / "data"
        running = Service(where, models_dir, allow_http_urls=True, allowed_networks="127.0.0.0/8")
    try:
        yield running.start()
    finally:
        running.close()


def submit(service: Service, path: str, name: str, fields: dict[str, object], **headers: str) -> str:
    form = {key: str(value) for key, value in fields.items()}
    answer = service.client.post(path, data=form, files={name: ("in.png", picture(), "image/png")}, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["id"])


def trace_of(collector: Collector, service: Service, job_id: str, *more: str) -> dict[str, Received]:
    service.wait(job_id)

    def look() -> dict[str, Received] | None:
        found = collector.of_job(job_id)
        return found if {"submit", "attempt", *more} <= found.keys() else None

    return wait_for(look, "the trace to be complete", service.log)


def test_a_job_is_one_trace_from_its_submission_to_its_video(collector: Collector, traced: Service) -> None:
    fields = {**TINY, "prompt": "a fox", "webhook_url": f"{collector.endpoint}/hook"}
    job_id = submit(traced, "/v1/jobs", "image", fields, traceparent=f"00-{TRACE}-{SPAN}-01")
    found = trace_of(collector, traced, job_id, "webhook")
    assert {span.trace for span in found.values()} == {TRACE}
    assert found.keys() == {"submit", "queue", "attempt", *STAGES, "webhook"}

    submitted, queue, attempt = found["submit"], found["queue"], found["attempt"]
    assert (submitted.parent, submitted.kind) == (SPAN, SERVER)
    assert submitted.attributes["http.response.status_code"] == 202
    assert {queue.parent, attempt.parent, found["webhook"].parent} == {submitted.id}
    assert {found[name].parent for name in STAGES} == {attempt.id}

    assert submitted.start <= queue.start <= submitted.end
    assert queue.attributes["reelq.wait_seconds"] == pytest.approx(queue.end - queue.start, abs=1e-3)
    assert queue.end == pytest.approx(attempt.start, abs=1e-6)
    edges = [(found[name].start, found[name].end) for name in STAGES]
    assert edges == sorted(edges)
    assert attempt.start <= edges[0][0]
    assert edges[-1][1] == pytest.approx(attempt.end, abs=1e-6)

    job = traced.job(job_id)
    assert attempt.error is None
    assert attempt.attributes["reelq.outcome"] == "succeeded"
    assert attempt.attributes["reelq.gpu_id"] == job["gpu"]
    assert attempt.attributes["reelq.plan"] == job["estimate"]["plan"]
    assert attempt.attributes["reelq.predicted_vram_bytes"] == job["estimate"]["vram_bytes"]
    assert attempt.attributes["reelq.vram_peak_bytes"] == job["measured"]["vram_peak_bytes"]
    assert (attempt.attributes["reelq.attempt"], attempt.attributes["reelq.lease"]) == (1, 1)
    assert found["denoise"].attributes["reelq.steps"] == TINY["num_inference_steps"]
    assert (found["webhook"].kind, found["webhook"].attributes["http.response.status_code"]) == (CLIENT, 200)
    assert {span.resource["service.name"] for span in found.values()} == {"reelq"}
    assert submitted.resource["reelq.role"] == "front end"
    assert attempt.resource["reelq.role"] == "worker"
    assert submitted.resource["process.pid"] != attempt.resource["process.pid"]
    assert sum(_encodes_spans(process) for process in traced.family()) == 2, "the supervisor has none to send"


def test_videos_are_traced_too_and_without_a_callers_trace_one_begins(collector: Collector, traced: Service) -> None:
    fields = {"prompt": "a fox", "size": "64x64", "num_frames": 2, "num_inference_steps": 1}
    job_id = submit(traced, "/v1/videos", "input_reference", fields, traceparent="00-of-no-form-01")
    found = trace_of(collector, traced, job_id)
    assert found["submit"].parent == ""
    assert found["attempt"].trace == found["submit"].trace


def test_what_the_caller_does_not_sample_is_not_sent(collector: Collector, traced: Service) -> None:
    job_id = submit(traced, "/v1/jobs", "image", {**TINY, "prompt": "a fox"}, traceparent=f"00-{UNSAMPLED}-{SPAN}-00")
    traced.wait(job_id)
    other = submit(traced, "/v1/jobs", "image", {**TINY, "prompt": "a fox"})
    trace_of(collector, traced, other)
    assert UNSAMPLED not in {span.trace for span in collector.spans}


def test_a_collector_that_is_away_costs_no_job_and_no_shutdown(collector: Collector, traced: Service) -> None:
    collector.refusing = True
    job_id = submit(traced, "/v1/jobs", "image", {**TINY, "prompt": "a fox"})
    assert traced.wait(job_id)["status"] == "succeeded"
    assert traced.stop() == 0
    assert collector.of_job(job_id) == {}


def test_nothing_of_it_is_loaded_where_nobody_asked(service: Service) -> None:
    job_id = submit(service, "/v1/jobs", "image", {**TINY, "prompt": "a fox"}, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert service.wait(job_id)["status"] == "succeeded"
    assert [process for process in service.family() if _encodes_spans(process)] == []


def _encodes_spans(process: psutil.Process) -> bool:
    """Whether a process has loaded protobuf, which nothing but the exporter of spans needs."""
    return any("/google/_upb/" in each.path for each in process.memory_maps())
