"""Writes that are sent together."""

import asyncio
from typing import cast

import pytest

from app.joined import JoinedWrites

_LARGE = b"x" * 65_536


class _Transport:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append("close")

    def write_eof(self) -> None:
        self.told.append("eof")

    def is_closing(self) -> bool:
        return "close" in self.told


@pytest.fixture
async def ends() -> tuple[JoinedWrites, _Transport]:
    transport = _Transport()
    return JoinedWrites(cast("asyncio.Transport", transport), asyncio.get_running_loop()), transport


async def test_what_one_turn_of_the_loop_writes_is_one_write(ends: tuple[JoinedWrites, _Transport]) -> None:
    joined, transport = ends
    joined.write(b"head ")
    joined.write(b"body")
    assert transport.told == []
    await asyncio.sleep(0)
    assert transport.told == [b"head body"]
    joined.write(b"next")
    await asyncio.sleep(0)
    assert transport.told == [b"head body", b"next"]


async def test_a_large_write_is_passed_on_at_once_and_once(ends: tuple[JoinedWrites, _Transport]) -> None:
    joined, transport = ends
    joined.write(b"head")
    joined.write(_LARGE)
    assert transport.told == [b"head" + _LARGE]
    await asyncio.sleep(0)
    assert transport.told == [b"head" + _LARGE]


@pytest.mark.parametrize(("end", "told"), [("close", "close"), ("write_eof", "eof")])
async def test_nothing_is_lost_at_the_end(ends: tuple[JoinedWrites, _Transport], end: str, told: str) -> None:
    joined, transport = ends
    joined.write(b"last words")
    getattr(joined, end)()
    assert transport.told == [b"last words", told]
    await asyncio.sleep(0)
    assert transport.told == [b"last words", told]


async def test_the_rest_is_the_transports_own(ends: tuple[JoinedWrites, _Transport]) -> None:
    joined, _ = ends
    assert not joined.is_closing()
    joined.close()
    assert joined.is_closing()
