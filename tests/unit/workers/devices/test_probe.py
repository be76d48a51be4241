"""How much of a device's memory is held by strangers."""

import pytest

from workers.devices import DeviceReading

_GIB = 2**30


@pytest.mark.parametrize(
    ("used", "processes", "ours", "foreign"),
    [
        (9, {1: 5, 2: 3}, {1: 4}, 4),  # what the driver says of our process counts
        (9, {1: 5, 2: 3}, {1: 4, 2: 4}, 1),  # the driver's own share is nobody's
        (9, {}, {1: 6}, 3),  # in a container: no process is listed,
        (9, {77: 6}, {1: 6}, 3),  # or ours by another id
        (9, {1: None}, {1: 6}, 3),  # its size is not known
        (2, {}, {1: 6}, 0),  # it has not taken yet what it will
        (3, {}, {}, 3),
    ],
)
def test_what_is_not_ours_is_foreign(
    used: int, processes: dict[int, int | None], ours: dict[int, int], foreign: int
) -> None:
    listed = {pid: None if size is None else size * _GIB for pid, size in processes.items()}
    reading = DeviceReading("GPU-0", 24 * _GIB, used * _GIB, (24 - used) * _GIB, listed, None, None, None)
    assert reading.foreign_bytes({pid: size * _GIB for pid, size in ours.items()}) == foreign * _GIB
