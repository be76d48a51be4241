import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from app.watch import ChangeHub, Version
from scheduler.wakeup import Wakeup, job_topic


class Store:
    """Versions as the queue would tell them."""

    def __init__(self) -> None:
        self.versions: dict[str, Version] = {"job_a": (1, 0), "job_b": (1, 0)}
        self.asked: list[set[str]] = []

    def __call__(self, job_ids: Iterable[str]) -> dict[str, Version]:
        wanted = set(job_ids)
        self.asked.append(wanted)
        return {job_id: version for job_id, version in self.versions.items() if job_id in wanted}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def wakeup(tmp_path: Path) -> AsyncIterator[Wakeup]:
    wakeup = Wakeup(tmp_path)
    yield wakeup
    wakeup.close()


@pytest.fixture
async def hub(wakeup: Wakeup, store: Store) -> AsyncIterator[ChangeHub]:
    hub = ChangeHub(wakeup, store, poll_seconds=0.02)
    hub.start()
    yield hub
    hub.stop()


async def test_a_topic_wakes_the_watches_of_its_job_alone(wakeup: Wakeup, store: Store) -> None:
    hub = ChangeHub(wakeup, store, poll_seconds=3600)
    hub.start()
    with hub.watch("job_a") as first, hub.watch("job_a") as second, hub.watch("job_b") as other:
        waits = [asyncio.create_task(watch.changed((1, 0), 60)) for watch in (first, second, other)]
        await asyncio.sleep(0)
        wakeup.notify(job_topic("job_a"))
        done, pending = await asyncio.wait(waits[:2], timeout=5)
        assert (len(done), len(pending)) == (2, 0)
        assert not waits[2].done()
        hub.release()
        await asyncio.wait_for(waits[2], 5)
    hub.stop()
    assert store.asked == []


async def test_a_change_between_reading_and_waiting_is_not_missed(wakeup: Wakeup, store: Store) -> None:
    hub = ChangeHub(wakeup, store, poll_seconds=3600)
    hub.start()
    with hub.watch("job_a") as watch:
        wakeup.notify(job_topic("job_a"))
        async with asyncio.timeout(5):
            while not watch._event.is_set():  # noqa: ASYNC110  set from the hub's thread
                await asyncio.sleep(0.005)
        await asyncio.wait_for(watch.changed((1, 0), 60), 5)
    hub.stop()


async def test_without_wake_ups_versions_tell(hub: ChangeHub, store: Store) -> None:
    with hub.watch("job_a") as watch, hub.watch("job_b") as other:
        waiting = asyncio.create_task(watch.changed((1, 0), 60))
        still = asyncio.create_task(other.changed((1, 0), 60))
        await asyncio.sleep(0)
        store.versions["job_a"] = (1, 1)
        await asyncio.wait_for(waiting, 5)
        assert not still.done()
        del store.versions["job_b"]
        await asyncio.wait_for(still, 5)
    assert {"job_a", "job_b"} in store.asked  # one question for all


async def test_nobody_waiting_asks_nothing(hub: ChangeHub, store: Store) -> None:
    with hub.watch("job_a") as watch:
        store.versions["job_a"] = (2, 0)
        await asyncio.wait_for(watch.changed((1, 0), 60), 5)
    assert hub.waiting == 0
    asked = len(store.asked)
    await asyncio.to_thread(hub._stopping.wait, 0.1)  # five polls' time
    assert len(store.asked) <= asked + 1  # one may have been under way


async def test_a_wait_ends_with_its_time(hub: ChangeHub) -> None:
    with hub.watch("job_a") as watch:
        await asyncio.wait_for(watch.changed((1, 0), 0.01), 5)


async def test_stopping_takes_no_poll(wakeup: Wakeup, store: Store) -> None:
    hub = ChangeHub(wakeup, store, poll_seconds=3600)
    hub.start()
    await asyncio.wait_for(asyncio.to_thread(hub.stop), 5)
