"""The official `openai` client, unmodified, against the application as uvicorn serves it; a thread is the worker."""

import asyncio
import base64
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from app.main import create_app
from app.settings import FrontEndSettings
from scheduler.keys import Scope
from scheduler.service import Scheduler
from scheduler.tenants import TenantLimits
from tests.support.fleet import HALF_WAY, MODEL, RegisteredGpu, register_gpu
from tests.support.http import VIDEO, Site, picture
from tests.support.service import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:.*Sora API:DeprecationWarning")  # every method of `client.videos`

IMAGE = ("in.png", picture(), "image/png")
DATA_URI = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


@dataclass
class Service:
    """The served application, and a client of it that tries nothing twice."""

    url: str
    site: Site

    @property
    def scheduler(self) -> Scheduler:
        return self.site.scheduler

    @property
    def gpu(self) -> RegisteredGpu:
        return self.site.gpu

    def client(self, api_key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Meanwhile finish every job that is submitted."""
        stopping = threading.Event()

        def work() -> None:
            while not stopping.wait(0.01):
                lease = self.gpu.claim()
                if lease is not None:
                    self.site.finish(lease)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            stopping.set()
            worker.join()


@pytest.fixture
def serve(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Serve the application with settings of the test's own; once a test."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)  # a key that was just made opens the door
    stops: list[Callable[[], None]] = []

    def start(**settings: Any) -> Service:
        data_dir = tmp_path / "data"
        data_dir.mkdir(mode=0o700)
        (data_dir / "reelq.db").write_bytes(migrated.read_bytes())
        chosen = FrontEndSettings(data_dir=data_dir, min_free_disk_bytes=0, **settings)
        scheduler = Scheduler.open(chosen)
        stops.append(scheduler.close)
        app = create_app(scheduler, chosen)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join()

        stops.append(stop)
        wait_for(lambda: server.started, "the server to start")
        port = server.servers[0].sockets[0].getsockname()[1]
        site = Site(app, None, scheduler, register_gpu(scheduler), tmp_path)  # type: ignore[arg-type]  # no httpx here
        return Service(f"http://127.0.0.1:{port}", site)

    yield start
    for stop in reversed(stops):
        stop()


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve()


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with service.client() as client:
        yield client


def test_create_with_a_file(service: Service, client: openai.OpenAI) -> None:
    video = client.videos.create(
        prompt="a red fox", input_reference=IMAGE, model=MODEL.id, seconds="4", size="512x320"  # type: ignore[arg-type]
    )  # fmt: skip
    assert (video.object, video.status, video.progress, video.error) == ("video", "queued", 0, None)
    assert (video.model, video.prompt, video.seconds, video.size) == (MODEL.id, "a red fox", "4", "512x320")
    params = service.site.stored(video.id).params
    assert (params.width, params.height, params.num_frames, params.target_fps) == (512, 320, 64, 16)


def test_create_with_bytes_and_further_fields_of_a_job(service: Service, client: openai.OpenAI) -> None:
    more = {
        "num_frames": 8,
        "seed": 7,
        "num_inference_steps": 9,
        "guidance_scale": 7.5,
        "preset": "fast",
        "priority": 2,
    }
    more |= {"allow_int8": True, "metadata": {"shot": "12"}, "negative_prompt": "blurred"}
    video = client.videos.create(prompt="a red fox", input_reference=picture(), extra_body=more)
    job = service.site.stored(video.id)
    assert (job.params.num_frames, job.params.seed, job.params.num_inference_steps) == (8, 7, 9)
    assert (job.params.guidance_scale, job.params.preset, job.params.allow_int8) == (7.5, "fast", True)
    assert (job.priority, job.metadata, job.params.negative_prompt) == (2.0, {"shot": "12"}, "blurred")


def test_create_with_a_data_uri(service: Service, client: openai.OpenAI) -> None:
    # The client's own `input_reference` takes files only, whatever its types say.
    video = client.videos.create(prompt="a red fox", extra_body={"input_reference": {"image_url": DATA_URI}})
    assert service.site.stored(video.id).prompt == "a red fox"


def test_create_without_an_image_says_what_is_missing(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.create(prompt="a red fox")
    assert refused.value.code == "missing_image"
    assert refused.value.param == "input_reference"
    assert refused.value.type == "invalid_request_error"
    assert "I2VGen-XL turns an image into a video" in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"model": "sora-2"}, "model"), ({"seconds": "900"}, "seconds"), ({"size": "1x1"}, "size"),
     ({"extra_body": {"num_frames": 1}}, "num_frames"), ({"prompt": " "}, "prompt")],
)  # fmt: skip
def test_bad_parameters_are_named(client: openai.OpenAI, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.videos.create(**{"prompt": "a red fox", "input_reference": IMAGE} | asked)
    assert (refused.value.code, refused.value.param) == ("invalid_parameter", param)
    assert re.search(rf"{param} (has a width that )?must", str(refused.value))


def test_create_and_poll_until_it_is_completed(service: Service, client: openai.OpenAI) -> None:
    with service.working():
        video = client.videos.create_and_poll(prompt="a red fox", input_reference=IMAGE, poll_interval_ms=10)
    assert (video.status, video.progress) == ("completed", 100)
    assert video.completed_at is not None
    assert video.completed_at >= video.created_at


def test_the_clients_own_polls_keep_to_the_servers_pause(service: Service, client: openai.OpenAI) -> None:
    quick = {"num_inference_steps": 1, "width": 256, "height": 256, "num_frames": 2}
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE, extra_body=quick)
    raw = client.videos.with_raw_response.retrieve(video.id)
    assert raw.headers["openai-poll-after-ms"] == "250"
    with service.working():
        assert client.videos.poll(video.id).status == "completed"


def test_create_and_poll_ends_with_a_cancelled_job(service: Service, client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    service.scheduler.queue.cancel(video.id)
    ended = client.videos.poll(video.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "cancelled"


async def test_the_asynchronous_client(service: Service) -> None:
    with service.working():
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
            made = [
                client.videos.create_and_poll(prompt="a red fox", input_reference=IMAGE, poll_interval_ms=10)
                for _ in range(3)
            ]
            assert [video.status for video in await asyncio.gather(*made)] == ["completed"] * 3
            assert len([video async for video in client.videos.list(limit=2)]) == 3


def test_retrieve_shows_how_far_a_job_is(service: Service, client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    service.scheduler.leases.report(service.gpu.must_claim(), HALF_WAY)
    found = client.videos.retrieve(video.id)
    assert (found.id, found.status, found.progress) == (video.id, "in_progress", 50)


def test_retrieve_of_an_unknown_video(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.videos.retrieve("video_123")
    assert refused.value.code == "not_found"
    assert "no job video_123" in str(refused.value)


def test_list_walks_all_pages_in_both_orders(client: openai.OpenAI) -> None:
    ids = [client.videos.create(prompt=f"number {n}", input_reference=IMAGE).id for n in range(5)]
    assert [video.id for video in client.videos.list(limit=2)] == sorted(ids, reverse=True)
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == sorted(ids)
    page = client.videos.list(limit=2, order="asc", after=sorted(ids)[2])
    assert ([video.id for video in page.data], page.has_more) == (sorted(ids)[3:], False)


def test_the_bytes_of_the_video_and_of_the_thumbnail(service: Service, client: openai.OpenAI, tmp_path: Path) -> None:
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    with pytest.raises(openai.NotFoundError) as early:
        client.videos.download_content(video.id)
    assert early.value.code == "video_not_ready"
    service.site.finish(service.gpu.must_claim())
    client.videos.download_content(video.id).write_to_file(tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO
    assert client.videos.download_content(video.id, variant="thumbnail").read() == picture("JPEG")
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.download_content(video.id, variant="spritesheet")
    assert refused.value.code == "not_supported"


def test_delete(service: Service, client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    service.site.finish(service.gpu.must_claim())
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    assert not list(client.videos.list())


def test_delete_of_a_queued_video(client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_what_is_not_supported_is_said(client: openai.OpenAI) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.videos.remix("video_123", prompt="again"),
        lambda: client.videos.edit(prompt="again", video=b"mp4"),
        lambda: client.videos.extend(prompt="again", seconds="4", video=b"mp4"),
        lambda: client.videos.create_character(name="fox", video=b"mp4"),
        lambda: client.videos.get_character("char_123"),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert refused.value.code == "not_supported"


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == (MODEL.id, "model", "ali-vilab")
    assert client.models.retrieve(MODEL.id) == model  # its id has a slash
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("sora-2")
    assert refused.value.code == "not_found"


def test_a_full_queue_is_a_rate_limit_error(serve: Callable[..., Service]) -> None:
    service = serve(max_queued=1)
    with service.client() as client:
        client.videos.create(prompt="a red fox", input_reference=IMAGE)
        with pytest.raises(openai.RateLimitError) as refused:
            client.videos.create(prompt="a red fox", input_reference=IMAGE)
    assert refused.value.code == "queue_full"
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_so_is_a_tenants_rate(serve: Callable[..., Service]) -> None:
    service = serve()
    service.scheduler.tenants.set("default", TenantLimits(requests_per_minute=1), "test")
    with service.client() as client:
        client.videos.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.videos.list()
    assert refused.value.code == "rate_limited"


def test_keys(service: Service) -> None:
    _, secret = service.scheduler.keys.create("tests", scopes={Scope.SUBMIT, Scope.READ}, actor="test")
    _, reading = service.scheduler.keys.create("dashboard", scopes={Scope.READ}, actor="test")
    with service.client(api_key=secret) as client:
        video = client.videos.create(prompt="a red fox", input_reference=IMAGE)
    with service.client(api_key=reading) as client:
        assert client.videos.retrieve(video.id).id == video.id
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            client.videos.create(prompt="a red fox", input_reference=IMAGE)
        assert forbidden.value.code == "insufficient_scope"
    with service.client(api_key="rq_" + "x" * 43) as client:
        for call in (client.videos.list, client.models.list):
            with pytest.raises(openai.AuthenticationError) as refused:
                call()
            assert refused.value.code == "unauthorized"
            assert "API key" in str(refused.value)


def test_a_video_of_another_tenant_is_not_there(service: Service) -> None:
    every = {Scope.SUBMIT, Scope.READ}
    secrets = [service.scheduler.keys.create("k", tenant=t, scopes=every, actor="test")[1] for t in ("a", "b")]
    with service.client(api_key=secrets[0]) as mine, service.client(api_key=secrets[1]) as theirs:
        video = mine.videos.create(prompt="a red fox", input_reference=IMAGE)
        for call in (theirs.videos.retrieve, theirs.videos.download_content, theirs.videos.delete):
            with pytest.raises(openai.NotFoundError):
                call(video.id)
        assert not list(theirs.videos.list())
        assert [one.id for one in mine.videos.list()] == [video.id]
