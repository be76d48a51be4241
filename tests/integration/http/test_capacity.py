"""Capacity, as a running front end keeps and shows it: with a real command, and with a real endpoint."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from app import keeping
from app.settings import FrontEndSettings
from scheduler.keys import Scope
from scheduler.provision import Provisioner
from scheduler.states import GpuState
from tests.support.http import Site, check_problem, until
from tests.support.receiver import Receiver, receiving
from tests.support.service import free_port

CAPACITY = "/v1/admin/capacity"


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    """The operator's endpoint."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr("scheduler.provision._TURN_SECONDS", 0.05)
    monkeypatch.setattr("scheduler.calls._BACKOFF_SECONDS", 0.1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the command writes what it is told, a line a call."""
    return tmp_path / "calls.jsonl"


@pytest.fixture
def command(tmp_path: Path, log: Path) -> str:
    script = tmp_path / "hook.py"
    script.write_text(
        "import json, os\n"
        "told = {name: value for name, value in os.environ.items() if name.startswith('REELQ_CAPACITY_')}\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    log.write(json.dumps(told) + '\\n')\n"
    )
    return f"{sys.executable} {script}"


def told(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def shown(site: Site) -> dict[str, Any]:
    answer = await site.client.get(CAPACITY)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_command_stops_what_idles_and_starts_it_for_jobs(opened: Any, command: str, log: Path) -> None:
    async with opened(capacity_command=command, capacity_idle_seconds=0.2, capacity_max=2) as site:
        gpu, fleet = site.gpu.info.id, site.scheduler.fleet
        await until(lambda: fleet.gpu(gpu).state is GpuState.DRAINING)
        assert fleet.gpu(gpu).actor == "capacity"
        fleet.worker_gone(site.gpu.workers.pop())
        await until(lambda: len(told(log)) == 1)
        (stop,) = told(log)
        assert (stop["REELQ_CAPACITY_ACTION"], stop["REELQ_CAPACITY_HOST"]) == ("stop", "host-0")
        assert (stop["REELQ_CAPACITY_GPU"], stop["REELQ_CAPACITY_COUNT"]) == (gpu, "1")

        job = await site.submit()
        await until(lambda: len(told(log)) == 2)
        start = told(log)[1]
        assert (start["REELQ_CAPACITY_ACTION"], start["REELQ_CAPACITY_COUNT"]) == ("start", "1")
        assert "1 job due" in start["REELQ_CAPACITY_REASON"]
        await until(lambda: {one.status for one in state(site).calls} == {"done"})
        found = await shown(site)
        assert [call["id"] for call in found["calls"]] == [start["REELQ_CAPACITY_ID"], stop["REELQ_CAPACITY_ID"]]
        assert (found["enabled"], found["wanted"], found["online"], found["minimum"], found["maximum"]) == (
            True, 1, 0, 0, 2,
        )  # fmt: skip
        assert found["cooldown_until"] > found["looked_at"]

        site.scheduler.fleet.register(site.scheduler.queue.models()[site.gpu.info.model], [site.gpu.info])
        site.gpu.add_worker()
        site.finish(site.gpu.must_claim())
        assert site.stored(job["id"]).status == "succeeded"


def state(site: Site) -> Any:
    capacity: Provisioner = site.app.state.context.capacity
    found = capacity.state()
    assert found is not None
    return found


async def test_a_command_that_fails_is_shown_and_told(opened: Any, tmp_path: Path) -> None:
    failing = tmp_path / "fail.py"
    failing.write_text("print('no quota in this region'); raise SystemExit(7)")
    async with opened(with_gpu=False, capacity_command=f"{sys.executable} {failing}") as site:
        await until(lambda: len(events(site, "capacity.failed")) >= 2)
        failed = events(site, "capacity.failed")
        assert failed[0].data["error"] == "it ended with exit code 7: no quota in this region"
        assert len({one.data["id"] for one in failed}) == 1
        (call,) = (await shown(site))["calls"]
        assert (call["status"], call["action"], call["error"]) == ("pending", "start", failed[0].data["error"])
        assert call["next_try_at"] is not None
        page = (await site.client.get("/gpus", headers={"Accept": "text/html"})).text
        assert '<h2 id="capacity-title">Capacity</h2>' in page
        assert "start 1 GPU" in page
        assert call["error"] in page


def events(site: Site, type_: str) -> list[Any]:
    return [one for one in site.scheduler.events.read(limit=1000) if one.type == type_]


async def test_a_webhook_is_signed_and_sent_until_it_is_taken(opened: Any, endpoint: Receiver) -> None:
    endpoint.status = 503
    async with opened(with_gpu=False, capacity_webhook_url=endpoint.url, capacity_min=1) as site:
        await until(lambda: len(endpoint.got) == 2)
        endpoint.status = 200
        await until(lambda: state(site).calls[0].status == "done")
        secret = (await site.client.get("/v1/admin/alerts/secret")).json()["secret"]
        (call,) = (await shown(site))["calls"]
    headers, body = endpoint.got[0]
    payload = Webhook(secret).verify(body, headers)
    assert (payload["type"], payload["data"]["action"], payload["data"]["count"]) == ("capacity.start", "start", 1)
    assert {headers["webhook-id"] for headers, _ in endpoint.got} == {call["id"]}
    assert payload["data"]["id"] == call["id"]


async def test_an_endpoint_that_cannot_be_reached(opened: Any) -> None:
    async with opened(with_gpu=False, capacity_webhook_url=f"http://127.0.0.1:{free_port()}/") as site:
        await until(lambda: events(site, "capacity.failed"))
        assert events(site, "capacity.failed")[0].data["error"] == "no connection could be made"


async def test_it_is_ready_while_no_gpu_is_there(opened: Any, command: str, log: Path) -> None:
    async with opened(capacity_command=command) as site:
        site.scheduler.fleet.worker_gone(site.gpu.workers.pop())
        with site.scheduler.database.write() as conn:  # a spot instance that was taken away
            conn.exec_driver_sql("UPDATE gpus SET seen_at = seen_at - 60")
        assert (await site.client.get("/readyz")).status_code == 200
        await site.submit()
        await until(lambda: told(log))


async def test_without_a_hook_nothing_is_decided(site: Site) -> None:
    assert "capacity-title" not in (await site.client.get("/gpus", headers={"Accept": "text/html"})).text
    found = await shown(site)
    assert (found["enabled"], found["wanted"], found["calls"]) == (False, None, [])


async def test_the_metrics_tell_what_is_wanted(opened: Any, command: str) -> None:
    async with opened(capacity_command=command, capacity_min=1) as site:
        await until(lambda: site.app.state.context.capacity.state() is not None)
        text = (await site.client.get("/metrics")).text
    assert "\nreelq_capacity_wanted_gpus 1.0\n" in text
    assert "\nreelq_capacity_online_gpus 1.0\n" in text


async def test_it_is_for_the_operator_only(opened: Any) -> None:
    async with opened() as site:
        _, secret = site.scheduler.keys.create("a", scopes=[Scope.READ, Scope.SUBMIT], actor="op")
        site.app.state.context.door.closed = True
        site.client.headers["Authorization"] = f"Bearer {secret}"
        check_problem(await site.client.get(CAPACITY), 403, "insufficient_scope")


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"capacity_command": "up", "capacity_webhook_url": "http://a/"}, "capacity_webhook_url", "capacity_command"),
        ({"capacity_command": "  "}, "capacity_command", "must name a command"),
        ({"capacity_command": "up 'there"}, "capacity_command", "No closing quotation"),
        ({"capacity_min": 2}, "capacity_min", "at most capacity_max, 1, not 2"),
        ({"capacity_max": 0}, "capacity_max", "greater than or equal to 1"),
        ({"capacity_webhook_url": "ftp://a"}, "capacity_webhook_url", "pattern"),
        ({"capacity_windows": "* *"}, "capacity_windows", "2 fields, not 5"),
        ({"capacity_windows": "* 25 * * *"}, "capacity_windows", "25"),
        ({"capacity_time_zone": "Mars/Base"}, "capacity_time_zone", "Mars/Base"),
        ({"capacity_target_seconds": 0}, "capacity_target_seconds", "greater than 0"),
        ({"capacity_idle_seconds": "inf"}, "capacity_idle_seconds", "finite"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){field}.*{words}"):
        FrontEndSettings.model_validate(settings)
