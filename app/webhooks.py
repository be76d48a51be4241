"""Sending webhooks: a thread that looks for what is to be told, and one for each delivery under way.

Wake-ups make it fast; once a second it looks without one. An endpoint gets one delivery at a time from each front end,
so a slow one holds up nobody but itself; and a tenant gets so few of the places that slow ones hold up no other tenant.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

import structlog

from app import alarms
from app import schemas as api
from app.context import Context
from app.exchanges import FetchFailed
from app.guarded import Answer, GuardedClient
from app.lookups import Lookups, NoRoom
from app.signing import signed_headers
from app.urls import UrlNotAllowed
from app.views import time_text
from scheduler import tracing
from scheduler.deliveries import Due
from scheduler.fan_out import FanOut, Operator, Told
from scheduler.tenants import OPERATOR
from scheduler.tracing import Span, Tracer
from scheduler.wakeup import CHANGES, Wakeup
from scheduler.webhooks import Webhooks

_POLL_SECONDS = 1.0
_GATHER_SECONDS = 0.05  # between two looks, however much happens
_AT_ONCE = 16
_EACH = 4  # of those, to the endpoints of one tenant
_GRACE_SECONDS = 3.0  # for what is under way at the end
_TIMEOUT_SECONDS = 15.0
_LEASE_SECONDS = 60.0  # longer than any try takes
_MAX_ANSWER_BYTES = 4096  # nobody looks at it
_GONE = 410
_ASK_LATER = (429, 503)  # whose Retry-After counts

log = structlog.get_logger(__name__)


@contextmanager
def delivering(context: Context) -> Iterator[None]:
    """Send webhooks while the block lasts; then wait a little for those under way.

    One that is cut off is sent again, by any front end.
    """
    settings = context.settings
    lookups = Lookups()

    def client_for(tenant: str) -> GuardedClient:
        resolve = partial(lookups.look_up, tenant=tenant)
        if tenant == OPERATOR:
            return GuardedClient(alarms.ANYWHERE, allow_http=True, resolve=resolve)
        return GuardedClient(settings.networks, allow_http=settings.allow_http_urls, resolve=resolve)

    scheduler = context.scheduler
    payloads, operator = Payloads(settings.public_url), alarms.operator(settings)
    sender = Sender(
        scheduler.fan_out, scheduler.webhooks, scheduler.wakeup, client_for, payloads, operator, context.tracer
    )
    sender.start()
    try:
        yield
    finally:
        sender.stop(min(_GRACE_SECONDS, settings.request_grace_seconds))


class Sender:
    """What `delivering` runs; `client_for` gives what sends for a tenant, `operator` is who is told of alerts."""

    def __init__(
        self,
        fan_out: FanOut,
        webhooks: Webhooks,
        wakeup: Wakeup,
        client_for: Callable[[str], GuardedClient],
        payload: Callable[[Told], str],
        operator: Operator | None = None,
        tracer: Tracer = tracing.OFF,
    ) -> None:
        self._fan_out = fan_out
        self._webhooks = webhooks
        self._wakeup = wakeup
        self._client_for = client_for
        self._payload = payload
        self._operator = operator
        self._tracer = tracer
        self._stopping = threading.Event()
        self._sending: dict[str, tuple[Due, threading.Thread]] = {}  # by endpoint

    def start(self) -> None:
        """Begin."""
        self._listener = self._wakeup.listen(CHANGES)
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Take no more, and wait for what is under way, up to `grace_seconds`."""
        until = time.monotonic() + grace_seconds
        self._stopping.set()
        self._listener.wake()
        self._thread.join()
        for _, thread in list(self._sending.values()):
            thread.join(max(0.0, until - time.monotonic()))
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._fan_out.tell(self._payload, self._operator)
                self._take()
            except Exception:  # the store may be back at the next look
                log.exception("cannot look for webhooks to send")
            self._listener.wait(_POLL_SECONDS)
            self._stopping.wait(_GATHER_SECONDS)

    def _take(self) -> None:
        """Begin to send what is due, as far as there is room."""
        while not self._stopping.is_set() and (room := _AT_ONCE - len(self._sending)) > 0:
            busy = {endpoint: due.tenant for endpoint, (due, _) in list(self._sending.items())}
            taken = self._webhooks.claim_due(room, _LEASE_SECONDS, busy, _EACH)
            if not taken:
                return
            for due in taken:
                thread = threading.Thread(target=self._send, args=(due,), name="webhook", daemon=True)
                self._sending[due.endpoint_id] = due, thread
                try:
                    thread.start()
                except BaseException:
                    del self._sending[due.endpoint_id]
                    raise

    def _send(self, due: Due) -> None:
        structlog.contextvars.bind_contextvars(**({} if due.job_id is None else {"job_id": due.job_id}))
        try:
            self._try(due)
        except NoRoom as error:  # no try of the receiver's: it is due again when the lease is over
            log.warning("webhook not sent yet", delivery_id=due.delivery_id, problem=str(error))
        except Exception:  # what came of it is not recorded, so it is sent again
            log.exception("cannot record a try at a webhook", delivery_id=due.delivery_id)
        finally:
            del self._sending[due.endpoint_id]
            self._listener.wake()  # there may be more for this endpoint

    def _try(self, due: Due) -> None:
        began = time.monotonic()
        answer, problem = self._post(due)
        seconds = time.monotonic() - began
        self._trace(due, seconds, answer, problem)
        if answer is not None and problem is None:
            self._webhooks.delivered(due.delivery_id, seconds, answer.status)
            log.info("webhook delivered", delivery_id=due.delivery_id, status=answer.status)
            return
        disabled = self._webhooks.failed(
            due.delivery_id,
            seconds,
            problem or "",
            status=answer.status if answer else None,
            retry_after_seconds=_retry_after(answer) if answer else 0.0,
            gone=answer is not None and answer.status == _GONE,
        )
        log.info("webhook not delivered", delivery_id=due.delivery_id, problem=problem)
        if disabled is not None:
            log.warning("webhook endpoint disabled", endpoint_id=due.endpoint_id, reason=disabled)

    def _trace(self, due: Due, seconds: float, answer: Answer | None, problem: str | None) -> None:
        end = time.time()
        attributes = {
            "reelq.job_id": due.job_id,
            "reelq.delivery_id": due.delivery_id,
            "server.address": urlsplit(due.url).hostname,
            "http.response.status_code": answer.status if answer else None,
        }
        span = Span("webhook", end - seconds, end, attributes, error=problem, outgoing=True)
        self._tracer.record(due.traceparent, span)

    def _post(self, due: Due) -> tuple[Answer | None, str | None]:
        """Return the answer, if there was one, and why it does not count, if it does not."""
        body = due.payload.encode()
        signed = signed_headers(due.secrets, due.delivery_id, int(time.time()), body)
        try:
            answer = self._client_for(due.tenant).post(
                due.url,
                headers={"Content-Type": "application/json", **signed},
                content=body,
                timeout_seconds=_TIMEOUT_SECONDS,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except UrlNotAllowed as refused:
            return None, f"the URL {refused}"
        except FetchFailed as failed:
            return None, str(failed)
        except NoRoom:
            raise
        except Exception:  # or it would be due again and again
            log.exception("a webhook could not be sent", delivery_id=due.delivery_id)
            return None, "the request could not be made"
        return answer, _problem(answer.status)


class Payloads:
    """Makes what is sent, and warns once where that lacks URLs; without a `public_url` there are none."""

    def __init__(self, public_url: str | None) -> None:
        self._base = None if public_url is None else public_url.rstrip("/")
        self._warned = False

    def __call__(self, told: Told) -> str:
        """Return a `WebhookPayload` as JSON."""
        if told.has_video and self._base is None and not self._warned:
            self._warned = True
            log.warning("webhooks have no URLs of videos: the setting public_url says what they begin with")
        return payload(self._base, told)


def payload(base: str | None, told: Told) -> str:
    """Return what is sent: a `WebhookPayload`, whose URLs begin with `base`, or are null where that is None."""

    def url(name: str) -> str | None:
        return None if base is None else f"{base}/v1/jobs/{told.job_id}/{name}"

    video = api.WebhookVideo(
        url=url("video"), thumbnail_url=url("thumbnail"), preview_url=url("preview") if told.has_preview else None
    )
    return api.WebhookPayload.model_validate(
        {
            "type": told.type,
            "timestamp": time_text(told.at),
            "data": {
                "id": told.job_id,
                "status": told.status,
                "model": told.model,
                "metadata": told.metadata,
                "error": {"code": told.error.code, "message": told.error.message} if told.error else None,
                "video": video if told.has_video else None,
            },
        }
    ).model_dump_json()


def _problem(status: int) -> str | None:
    """Why an answer does not count as received; None: it does."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the server answered {status}, and redirects are not followed"
    return f"the server answered {status}"


def _retry_after(answer: Answer) -> float:
    """The seconds that the receiver asks for, as a number or a date; 0 where it asks for none."""
    asked = answer.headers.get("retry-after", "").strip()
    if answer.status not in _ASK_LATER or not asked:
        return 0.0
    if asked.isascii() and asked.isdecimal():
        return float(asked[:12])
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
