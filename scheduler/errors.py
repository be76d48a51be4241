"""Everything the scheduler can refuse, as types.

SchedulerError
├── NotFound             no such job, GPU or cursor
├── Refused              the request itself is wrong; saying it again changes nothing
│   ├── InvalidParameter     a field is outside its limit (carries `field`)
│   ├── Unschedulable        no GPU of the fleet could ever hold the job (carries `needed_bytes`)
│   ├── IdempotencyMismatch  the key was used with another payload
│   ├── InvalidState         the job or GPU is not in a state that allows this
│   └── EventsExpired        events that the reader has not seen are kept no longer (carries `first`)
├── Unavailable          the same request may succeed later
│   ├── QueueFull            carries `retry_after_seconds` and `limit`
│   │   └── TenantQueueFull      as many of the tenant's own jobs wait as may
│   ├── NoModel              no worker has registered a model yet
│   └── StorageFull          the disk or database has no room left
├── LeaseLost            another attempt owns the job now; stop and publish nothing
└── StoreError           the store cannot be used as configured
    ├── DatabaseNewer        made by a later version of reelq
    ├── SqliteTooOld         this SQLite can corrupt a database with several writers
    └── StoreUnreachable     cannot be opened, read or written
"""


class SchedulerError(Exception):
    """Base of every error the scheduler raises on purpose; `str()` is one line fit for a user."""


class NotFound(SchedulerError):
    """No such job, GPU or cursor."""


class Refused(SchedulerError):
    """The request is wrong as it stands."""


class InvalidParameter(Refused):
    """A field is outside its limit; `field` is its name in the API."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class Unschedulable(Refused):
    """No GPU of the fleet could ever hold this job; it needs `needed_bytes` where it lacks the least."""

    def __init__(self, message: str, needed_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes


class IdempotencyMismatch(Refused):
    """The idempotency key was used before, with another payload."""


class InvalidState(Refused):
    """The job or GPU is not in a state that allows this."""


class EventsExpired(Refused):
    """Events past the reader's position are kept no longer; `first` is the position of the oldest that is."""

    def __init__(self, message: str, first: int) -> None:
        super().__init__(message)
        self.first = first


class Unavailable(SchedulerError):
    """The same request may succeed later."""


class QueueFull(Unavailable):
    """The queue holds `limit` jobs, as many as it may; `retry_after_seconds` is when one should have been started."""

    def __init__(self, message: str, retry_after_seconds: float, limit: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.limit = limit


class TenantQueueFull(QueueFull):
    """As many of the tenant's jobs wait as may; `retry_after_seconds` is when one should have been started."""


class NoModel(Unavailable):
    """No worker has registered a model yet."""


class StorageFull(Unavailable):
    """The disk or the database has no room left."""


class LeaseLost(SchedulerError):
    """The lease was fenced off: stop work, publish nothing."""


class StoreError(SchedulerError):
    """The store cannot be used as it is configured."""


class DatabaseNewer(StoreError):
    """The database was made by a later version of reelq."""


class SqliteTooOld(StoreError):
    """This SQLite can corrupt a database that several processes write (WAL reset, before 3.51.3)."""


class StoreUnreachable(StoreError):
    """The database or blob store cannot be opened, read or written."""
