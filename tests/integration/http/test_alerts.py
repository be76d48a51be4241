"""Alerts, as a running front end lists them and tells the operator's endpoint."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks import Webhook

from app import main
from app.settings import FrontEndSettings
from scheduler.alarm import Alerts
from scheduler.alerts import _NATURES, Rule
from scheduler.keys import Scope
from scheduler.records import GpuSample
from tests.support.fleet import GIB
from tests.support.http import Site, check_problem, until
from tests.support.receiver import Receiver, receiving

ALERTS, SECRET = "/v1/admin/alerts", "/v1/admin/alerts/secret"
MESSAGE = "1 worker of GPU-0 had to be replaced in the last hour: it leaks"


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    """The operator's endpoint: on a private address, and without TLS."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr("scheduler.alarm._TURN_SECONDS", 0.05)


def leak(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(0, 24 * GIB))
    site.scheduler.fleet.worker_worn(site.gpu.workers[0], "GPU-0", "it leaks")


async def listed(site: Site) -> list[dict[str, Any]]:
    answer = await site.client.get(ALERTS)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_both_ends_are_told_with_a_good_signature(opened: Any, endpoint: Receiver) -> None:
    async with opened(alert_webhook_url=endpoint.url, alert_clear_seconds=0, min_free_disk_bytes=0) as site:
        assert await listed(site) == []
        leak(site)
        await until(lambda: len(endpoint.got) == 1)
        (alert,) = await listed(site)
        with site.scheduler.database.write() as conn:  # an hour later
            conn.exec_driver_sql("UPDATE events SET at = at - 3600 WHERE type = 'worker.worn'")
        await until(lambda: len(endpoint.got) == 2)
        (over,) = await listed(site)

        secret = (await site.client.get(SECRET)).json()["secret"]
        fired, resolved = (Webhook(secret).verify(body, headers) for headers, body in endpoint.got)
    assert (fired["type"], resolved["type"]) == ("alert.firing", "alert.resolved")
    assert (fired["data"], resolved["data"]) == (alert, over)
    assert (alert["object"], alert["rule"], alert["kind"], alert["subject"]) == (
        "alert", "worker_worn", "gpu", "GPU-0",
    )  # fmt: skip
    assert (alert["severity"], alert["message"], alert["value"], alert["threshold"]) == ("warning", MESSAGE, 1, 1)
    assert (alert["status"], alert["resolved_at"]) == ("firing", None)
    assert over["status"] == "resolved"
    assert fired["timestamp"] == alert["fired_at"]
    assert resolved["timestamp"] == over["resolved_at"]


async def test_without_an_endpoint_they_are_listed(opened: Any) -> None:
    async with opened(min_free_disk_bytes=0) as site:
        leak(site)
        await until(lambda: any(one.type == "alert.firing" for one in site.scheduler.events.read(limit=100)))
        assert [one["message"] for one in await listed(site)] == [MESSAGE]
        assert site.scheduler.webhooks.deliveries() == []


async def test_a_disk_that_cannot_be_looked_at_stops_no_other_alert(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise OSError("input/output error")

    async with opened(min_free_disk_bytes=0) as site:
        monkeypatch.setattr(type(site.scheduler.blobs), "free_bytes", fail)
        leak(site)
        await until(lambda: any(one.type == "alert.firing" for one in site.scheduler.events.read(limit=100)))
        assert [one["message"] for one in await listed(site)] == [MESSAGE]


async def test_a_disk_that_is_almost_full(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_NATURES, Rule.DISK_LOW, replace(_NATURES[Rule.DISK_LOW], for_seconds=0.0))
    async with opened(min_free_disk_bytes=2**62) as site:
        subjects = {f"{platform.node()}/{disk}" for disk in ("blobs", "database")}
        await until(lambda: {one.subject for one in Alerts(site.scheduler.database).told()} >= subjects)
        assert {one["kind"] for one in await listed(site)} >= {"disk"}


async def test_a_secret_that_is_replaced_is_in_force_for_a_day(opened: Any) -> None:
    async with opened() as site:
        old = (await site.client.get(SECRET)).json()["secret"]
        assert old.startswith("whsec_")
        new = (await site.client.post(f"{SECRET}/rotate")).json()
        assert new["in_force"] == [new["secret"], old]
        assert (await site.client.get("/v1/webhooks/secret")).json()["secret"] not in new["in_force"]


async def test_they_are_for_the_operator_only(opened: Any) -> None:
    async with opened() as site:
        _, secret = site.scheduler.keys.create("a", scopes=[Scope.READ, Scope.SUBMIT], actor="op")
        site.app.state.context.door.closed = True
        site.client.headers["Authorization"] = f"Bearer {secret}"
        for path in (ALERTS, SECRET):
            check_problem(await site.client.get(path), 403, "insufficient_scope")


@pytest.mark.parametrize("url", ["", "alerts.internal/hook", "ftp://alerts.internal", "http://a b"])
def test_an_endpoint_that_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="alert_webhook_url"):
        FrontEndSettings.model_validate({"alert_webhook_url": url})
