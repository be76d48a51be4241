"""The thread that keeps capacity: it decides every few seconds, and calls the hook."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from app import alarms
from app.context import Context
from app.guarded import GuardedClient
from app.hooks import CommandHook, WebhookHook
from app.lookups import Lookups
from scheduler.calls import Call
from scheduler.provision import EVERY_SECONDS, Provisioner
from scheduler.tenants import OPERATOR

_GRACE_SECONDS = 3.0  # for a webhook under way at the end; a command is cut off at once

log = structlog.get_logger(__name__)


@contextmanager
def keeping(context: Context) -> Iterator[None]:
    """Keep capacity while the block lasts, where there is a hook. A call that is cut off is made again, by anybody."""
    if context.capacity is None:
        yield
        return
    stopping = threading.Event()
    arguments = (context.capacity, _hook(context, stopping), stopping)
    thread = threading.Thread(target=_run, args=arguments, name="capacity", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_GRACE_SECONDS)


def _hook(context: Context, stopping: threading.Event) -> Callable[[Call], None]:
    settings = context.settings
    timeout_seconds = settings.capacity_timeout_seconds
    if settings.capacity_command is not None:
        return CommandHook(settings.capacity_command, timeout_seconds, stopping)
    client = GuardedClient(alarms.ANYWHERE, allow_http=True, resolve=partial(Lookups().look_up, tenant=OPERATOR))
    secrets = partial(context.scheduler.webhooks.secrets, OPERATOR)
    return WebhookHook(settings.capacity_webhook_url or "", timeout_seconds, client, secrets)


def _run(provisioner: Provisioner, hook: Callable[[Call], None], stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            for line in provisioner.run_once(hook):
                log.info("capacity", done=line)
        except Exception:  # the store may be back at the next look
            log.exception("a round of capacity failed")
        stopping.wait(EVERY_SECONDS)
