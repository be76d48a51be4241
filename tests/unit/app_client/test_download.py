"""A video arrives whole and checked, or not at all."""

import httpx
import pytest

from app.client import ApiError, DownloadCorrupt, ServerUnreachable


@pytest.fixture
def done(make_job):
    return httpx.Response(200, json=make_job("succeeded"))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "sea.mp4"


def test_the_video_and_nothing_else_is_written(client, server, done, video, target):
    server.script = [done, httpx.Response(200, content=video)]
    assert client.download("job_1", target)["id"] == "job_1"
    assert target.read_bytes() == video
    assert [path.name for path in target.parent.iterdir()] == ["sea.mp4"]
    assert server.requests[1].url.path == "/v1/jobs/job_1/video"


def test_other_bytes_are_not_kept_and_what_was_there_stays(client, server, done, video, target):
    target.write_bytes(b"an older video")
    server.script = [done, httpx.Response(200, content=video + b"!")]
    with pytest.raises(DownloadCorrupt, match=r"sea\.mp4 was not written"):
        client.download("job_1", target)
    assert target.read_bytes() == b"an older video"
    assert len(list(target.parent.iterdir())) == 1


def test_a_broken_transfer_starts_again(client, server, done, video, target, make_body):
    broken = httpx.Response(200, stream=make_body(video[:100], httpx.ReadError("reset")))
    server.script = [done, broken, httpx.Response(503), httpx.Response(200, content=video)]
    client.download("job_1", target)
    assert target.read_bytes() == video
    assert len(list(target.parent.iterdir())) == 1


def test_a_transfer_that_keeps_breaking_leaves_nothing(client, server, done, video, target, make_body):
    server.script = [done]
    server.default = lambda request: httpx.Response(200, stream=make_body(video[:9], httpx.ReadError("reset")))
    with pytest.raises(ServerUnreachable):
        client.download("job_1", target)
    assert list(target.parent.iterdir()) == []


def test_an_interrupted_transfer_leaves_nothing(client, server, done, video, target, make_body):
    server.script = [done, httpx.Response(200, stream=make_body(video[:9], KeyboardInterrupt()))]
    with pytest.raises(KeyboardInterrupt):
        client.download("job_1", target)
    assert list(target.parent.iterdir()) == []


def test_a_redirect_to_a_blob_store_is_followed_without_the_key(connect, server, done, video, target):
    elsewhere = httpx.Response(307, headers={"Location": "https://blobs.example/signed"})
    server.script = [done, elsewhere, httpx.Response(200, content=video)]
    connect("http://a", api_key="secret").download("job_1", target)
    assert target.read_bytes() == video
    assert server.requests[2].url.host == "blobs.example"
    assert "Authorization" not in server.requests[2].headers


def test_a_job_without_a_video_says_so(client, server, make_job, target):
    server.default = httpx.Response(200, json=make_job("running"))
    with pytest.raises(ApiError, match="job_1 is running and has no video"):
        client.download("job_1", target)


def test_an_expired_video_is_the_servers_answer(client, server, done, target):
    server.script = [done, httpx.Response(410, json={"code": "expired", "detail": "the video was removed"})]
    with pytest.raises(ApiError, match="the video was removed"):
        client.download("job_1", target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_os_error(client, server, done, video, tmp_path):
    server.script = [done, httpx.Response(200, content=video)]
    with pytest.raises(FileNotFoundError):
        client.download("job_1", tmp_path / "none" / "sea.mp4")


@pytest.mark.parametrize("what", ["thumbnail", "preview"])
def test_the_other_files(client, server, done, target, what):
    server.script = [done, httpx.Response(200, content=b"a picture")]
    client.download("job_1", str(target), what)
    assert target.read_bytes() == b"a picture"
    assert server.requests[1].url.path == f"/v1/jobs/job_1/{what}"
