"""Capacity on behalf of this front end: what decides, by the settings, and how its decisions are shown."""

from app import schemas as api
from app.settings import FrontEndSettings
from app.views import maybe_time, time_text
from scheduler.calls import Call
from scheduler.capacity import Limits
from scheduler.provision import Provisioner, State
from scheduler.service import Scheduler
from scheduler.windows import read_windows


def provisioner(scheduler: Scheduler, settings: FrontEndSettings) -> Provisioner | None:
    """Return what decides how many GPUs there are to be; None where there is no hook to start and stop them."""
    if settings.capacity_command is None and settings.capacity_webhook_url is None:
        return None
    return Provisioner(
        scheduler.database,
        settings.policy(),
        scheduler.wakeup,
        scheduler.fleet,
        scheduler.footprints,
        limits=Limits(
            minimum=settings.capacity_min,
            maximum=settings.capacity_max,
            target_seconds=settings.capacity_target_seconds,
            cooldown_seconds=settings.capacity_cooldown_seconds,
            idle_seconds=settings.capacity_idle_seconds,
        ),
        prices=settings.prices,
        windows=read_windows(settings.capacity_windows, settings.capacity_time_zone),
        timeout_seconds=settings.capacity_timeout_seconds,
    )


def view(settings: FrontEndSettings, state: State | None, *, enabled: bool) -> api.CapacityStatus:
    """Return what was decided last as the API shows it."""
    return api.CapacityStatus(
        enabled=enabled,
        minimum=settings.capacity_min,
        maximum=settings.capacity_max,
        wanted=None if state is None else state.wanted,
        online=None if state is None else state.online,
        reason=None if state is None else state.reason,
        since=None if state is None else time_text(state.since),
        looked_at=None if state is None else time_text(state.looked_at),
        cooldown_until=maybe_time(None if state is None else state.cooldown_until),
        calls=[] if state is None else [call_view(call) for call in state.calls],
    )


def call_view(call: Call) -> api.CapacityCall:
    """Return a call of the hook as the API shows it."""
    return api.CapacityCall(
        id=call.id,
        action=call.action,
        status=call.status,
        count=call.count,
        host=call.host,
        gpus=list(call.gpus),
        wanted=call.wanted,
        online=call.online,
        reason=call.reason,
        asked_at=time_text(call.asked_at),
        tries=call.tries,
        next_try_at=maybe_time(call.next_at),
        done_at=maybe_time(call.done_at),
        error=call.error,
    )


def payload(call: Call, now: float) -> api.CapacityPayload:
    """Return what the webhook is sent for a call."""
    return api.CapacityPayload(type=call.event, timestamp=time_text(now), data=call_view(call))
