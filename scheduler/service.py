"""The scheduler as one object: what a front end or a worker opens from its settings, and closes at its end."""

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scheduler.activity import Activities
from scheduler.alarm import Alerts
from scheduler.blobs import BlobStore, open_blobs
from scheduler.control import QueueControl
from scheduler.errors import StoreUnreachable
from scheduler.events import Events
from scheduler.evidence import EvidenceReader
from scheduler.fan_out import FanOut
from scheduler.fleet import Fleet
from scheduler.footprints import Footprints
from scheduler.keys import Keys
from scheduler.leases import Leases
from scheduler.measures import Measures
from scheduler.off_peak import OffPeak
from scheduler.policy import Policy
from scheduler.pruner import Pruner
from scheduler.queue import Queue
from scheduler.ratelimits import RateLimits
from scheduler.reaper import Reaper
from scheduler.samples import Samples
from scheduler.sessions import Sessions
from scheduler.settings import StoreSettings
from scheduler.spending import Spending
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.sweeper import Sweeper
from scheduler.tenants import Tenants
from scheduler.timeline import Timelines
from scheduler.wakeup import Wakeup
from scheduler.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The durable state and the services on it."""

    database: Database
    blobs: BlobStore
    wakeup: Wakeup
    footprints: Footprints
    queue: Queue
    leases: Leases
    fleet: Fleet
    control: QueueControl
    reaper: Reaper
    off_peak: OffPeak
    sweeper: Sweeper
    events: Events
    pruner: Pruner
    keys: Keys
    sessions: Sessions
    tenants: Tenants
    ratelimits: RateLimits
    fan_out: FanOut
    webhooks: Webhooks
    measures: Measures
    samples: Samples
    timeline: Timelines
    spending: Spending
    evidence: EvidenceReader
    alerts: Alerts
    activities: Activities

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Open (and where needed create or migrate) the store; raises `StoreError` with one clear line."""
        _make_private(settings)
        database = Database(settings.resolved_database_url)
        migrate(database)
        wakeup = Wakeup(settings.data_dir, database.url)
        return cls.assemble(database, open_blobs(settings.resolved_blob_url), wakeup, settings.policy())

    @classmethod
    def assemble(cls, database: Database, blobs: BlobStore, wakeup: Wakeup, policy: Policy) -> Self:
        """Return the services on a migrated database, under `policy`."""
        footprints = Footprints(database)
        queue = Queue(database, policy, wakeup, footprints)
        leases = Leases(database, policy, wakeup, footprints)
        fleet = Fleet(database, policy, wakeup, leases)
        samples = Samples(database)
        keys = Keys(database)
        return cls(
            database=database,
            blobs=blobs,
            wakeup=wakeup,
            footprints=footprints,
            queue=queue,
            leases=leases,
            fleet=fleet,
            control=QueueControl(database, policy, wakeup),
            reaper=Reaper(database, policy, queue, leases, fleet),
            off_peak=OffPeak(database, policy, wakeup),
            sweeper=Sweeper(database, blobs),
            events=Events(database, policy),
            pruner=Pruner(database, blobs, policy),
            keys=keys,
            sessions=Sessions(database, keys),
            tenants=Tenants(database, policy, wakeup),
            ratelimits=RateLimits(database),
            fan_out=FanOut(database, Events(database, policy)),
            webhooks=Webhooks(database, policy),
            measures=Measures(database),
            samples=samples,
            timeline=Timelines(database),
            spending=Spending(database, samples, policy.retention_seconds),
            evidence=EvidenceReader(database, samples, footprints, policy),
            alerts=Alerts(database),
            activities=Activities(database),
        )

    def close(self) -> None:
        """Close connections and sockets."""
        self.database.close()
        self.wakeup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make_private(settings: StoreSettings) -> None:
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnreachable(f"cannot use the data directory {folder}: {error.strerror}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StoreUnreachable(f"cannot use the data directory {folder}: no permission to read and write it")
