"""The fleet by what `scheduler.provision` may do to it: what serves, what can come, what may be stopped. No I/O."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from scheduler.capacity import CAPACITY, Host
from scheduler.prices import Prices, Terms
from scheduler.records import Gpu
from scheduler.states import GpuState


@dataclass(frozen=True, slots=True)
class Hosts:
    """The GPUs by what may be done to them; `emptied` hosts, with their GPUs, are to be stopped."""

    in_service: Sequence[Gpu]
    startable: Sequence[Gpu]
    removable: Sequence[Host]
    returnable: Sequence[Host]
    emptied: Sequence[Host]

    @classmethod
    def of(
        cls, gpus: Iterable[Gpu], prices: Prices, stopping: Collection[str], now: float, patience_seconds: float
    ) -> "Hosts":
        """Sort the fleet; of the hosts in `stopping` a stop is asked for already.

        One that is still there `patience_seconds` after it was stopped is to be stopped again. Owned GPUs are let be,
        and so is every host that an operator, or a fault, has taken a GPU of out of service.
        """
        listed = list(gpus)
        by_host = groupby(sorted(listed, key=lambda gpu: gpu.info.host), key=lambda gpu: gpu.info.host)
        hosts = [_Host(name, list(on_it), prices) for name, on_it in by_host]
        free = [host for host in hosts if host.is_ours]
        return cls(
            in_service=[gpu for gpu in listed if _in_service(gpu)],
            startable=[gpu for gpu in listed if not _is_owned(gpu, prices) and _can_come(gpu)],
            removable=[host.as_host(host.serving) for host in free if host.serving],
            returnable=[host.as_host(found) for host in hosts if (found := [g for g in host.leaving if g.online])],
            emptied=[
                host.as_host(found)
                for host in free
                if host.name not in stopping and (found := host.emptied(now - patience_seconds))
            ],
        )


@dataclass(frozen=True, slots=True)
class _Host:
    name: str
    gpus: Sequence[Gpu]
    prices: Prices

    @property
    def serving(self) -> list[Gpu]:
        return [gpu for gpu in self.gpus if _in_service(gpu)]

    @property
    def leaving(self) -> list[Gpu]:
        """Those that capacity drains, or has drained, and that no stop was asked for."""
        return [gpu for gpu in self.gpus if _is_drained_by_us(gpu) and not gpu.is_stopped]

    @property
    def is_ours(self) -> bool:
        """Whether it may be let go: nothing here is owned, or was taken out of service by somebody else."""
        others = [gpu for gpu in self.gpus if gpu.online and not _in_service(gpu) and not _is_drained_by_us(gpu)]
        return not others and not any(_is_owned(gpu, self.prices) for gpu in self.gpus)

    def emptied(self, stopped_before: float) -> list[Gpu]:
        """The GPUs that are to be stopped, where nothing else is on the host; those stopped long ago are so again."""
        late = [gpu for gpu in self.gpus if gpu.is_stopped and gpu.online and _stopped_at(gpu) < stopped_before]
        found = [*self.leaving, *late]
        runs = self.serving or any(gpu.leases for gpu in self.gpus)  # be it on one that nothing is heard of just now
        return [] if runs or any(gpu.state is not GpuState.DRAINED for gpu in found) else found

    def as_host(self, gpus: Sequence[Gpu]) -> Host:
        prices = [self.prices.of(gpu.info.id, gpu.info.name, gpu.info.kind) for gpu in gpus]
        return Host(
            name=self.name,
            gpus=tuple(gpu.info.id for gpu in gpus),
            remaining_seconds=max((lease.remaining_seconds for gpu in gpus for lease in gpu.leases), default=0.0),
            hour_cost=sum(price.hour for price in prices if price is not None),
        )


def _in_service(gpu: Gpu) -> bool:
    return gpu.online and gpu.state is GpuState.ACTIVE


def _is_drained_by_us(gpu: Gpu) -> bool:
    return gpu.actor == CAPACITY and gpu.state in (GpuState.DRAINING, GpuState.DRAINED)


def _can_come(gpu: Gpu) -> bool:
    return _is_drained_by_us(gpu) or (not gpu.online and gpu.state is GpuState.ACTIVE)


def _is_owned(gpu: Gpu, prices: Prices) -> bool:
    price = prices.of(gpu.info.id, gpu.info.name, gpu.info.kind)
    return price is not None and price.terms is Terms.OWNED


def _stopped_at(gpu: Gpu) -> float:
    return gpu.drain.stopped_at or 0.0 if gpu.drain is not None else 0.0
