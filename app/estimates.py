"""What a job would need, under every plan it allows, on every GPU that could run its model; and when it would run."""

from collections.abc import Sequence
from dataclasses import dataclass

from app import schemas as api
from app import views
from scheduler import placement, rank
from scheduler.errors import Unschedulable
from scheduler.explain import QueueInfo
from scheduler.footprint import Footprint
from scheduler.footprints import Predictor
from scheduler.params import VideoParams
from scheduler.placement import Choice, Offer
from scheduler.prices import Prices
from scheduler.prices import cost as seconds_cost
from scheduler.records import ServedModel


def cost(offer: Offer, prices: Prices) -> float | None:
    """Return what a job costs that runs by an offer and shares the GPU with none; None where it has no price."""
    gpu = offer.gpu.info
    return seconds_cost(prices.of(gpu.id, gpu.name, gpu.kind), offer.footprint.seconds)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A job that is only asked about, and what answers: the size of a memory class, the predictor, the prices."""

    served: ServedModel
    params: VideoParams
    priority: float
    class_bytes: int
    predictor: Predictor
    prices: Prices

    def answer(self, offers: Sequence[Offer], place: QueueInfo | None = None) -> api.JobEstimate:
        """Return what the job would be submitted with, and what it would need elsewhere; `offers` must not be empty.

        `place` is where it would stand in the line now, None where it would stand in none.
        """
        chosen, reason = self._choose(offers)
        by_gpu: dict[str, list[Offer]] = {}
        for offer in offers:
            by_gpu.setdefault(offer.gpu.info.id, []).append(offer)
        return api.JobEstimate(
            model=self.served.id,
            params=self.params.to_dict(),
            priority=self.priority,
            fits=chosen is not None,
            estimate=self._estimate(chosen) if chosen else None,
            reason=reason,
            position=place.position if place else None,
            position_exact=place.position_exact if place else None,
            expected_start=views.expected(place.start) if place else None,
            expected_finish=views.expected(place.finish) if place else None,
            wait_reason=place.wait.message if place else None,
            wait=views.wait(place.wait) if place else None,
            cost=cost(chosen.offer, self.prices) if chosen else None,
            gpus=[self._gpu(found) for found in by_gpu.values()],
        )

    def _gpu(self, offers: Sequence[Offer]) -> api.GpuEstimate:
        gpu = offers[0].gpu
        chosen, reason = self._choose(offers)
        return api.GpuEstimate(
            gpu=gpu.info.id,
            name=gpu.info.name,
            state=gpu.state,
            online=gpu.online,
            fits=chosen is not None,
            reason=reason,
            plan=chosen.offer.footprint.plan if chosen else None,
            plans=[self._plan(offer) for offer in offers],
        )

    def _plan(self, offer: Offer) -> api.PlanEstimate:
        need, kind = offer.footprint, offer.gpu.info.kind
        fits = placement.fits(offer, self.class_bytes)
        return api.PlanEstimate(
            plan=need.plan,
            fits=fits,
            reason=None if fits else placement.too_large(offer, self.class_bytes),
            capacity_bytes=offer.capacity_bytes,
            model_bytes=need.model_bytes,
            working_bytes=need.working_bytes,
            vram_bytes=need.vram_bytes,
            seconds=need.seconds,
            weight=self._weight(need),
            basis=self.predictor.explain(self.served, kind=kind, plan=need.plan, params=self.params),
        )

    def _choose(self, offers: Sequence[Offer]) -> tuple[Choice | None, str | None]:
        """What a submit would choose of these, or why it would refuse."""
        try:
            return placement.choose(offers, self.class_bytes), None
        except Unschedulable as error:
            return None, str(error)

    def _estimate(self, chosen: Choice) -> api.Estimate:
        need = chosen.offer.footprint
        return views.estimate(need, self._weight(need), chosen.reason)

    def _weight(self, need: Footprint) -> float:
        return rank.weight(need.seconds, need.vram_bytes, self.priority)
