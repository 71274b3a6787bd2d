"""The two long-lived processes: a gateway's worker and the scheduler. Both end in order on SIGTERM and may be killed at any time."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import structlog

from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.schedule import tick
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import migrate, open_database
from orchestrator.store.locks import give_lock, hold_lock
from orchestrator.worker.celery_app import make_app, queue_of
from orchestrator.worker.logs import configure_logs
from orchestrator.worker.nudges import Nudges
from orchestrator.worker.presence import Presence
from orchestrator.worker.settings import Settings
from orchestrator.worker.tasks import register_tasks

log = structlog.get_logger(__name__)

_TICK_SECS = 0.25
_SCHEDULER_LOCK = "scheduler"
#: How long a standby waits for a scheduler that was killed; one that ends in order gives the lock up.
_SCHEDULER_LOCK_SECS = 5.0


def run_worker(settings: Settings, gateway: str) -> None:
    """Serve one gateway's queue until SIGTERM, which takes no new nudge and lets the drives in hand end first. Exits with a code.

    A run on a device needs no worker and goes on; the next one picks it up. So a worker that is killed in the middle loses nothing, either.
    """
    configure_logs()
    # Until Celery has its own handler: nothing is in hand yet.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    engine = open_database(settings.resolved_database_url)
    migrate(engine)
    folder = settings.home / "gateway" / gateway
    artifacts = ArtifactStore(settings.resolved_artifacts_url, settings.home / "cache" / "artifacts")
    held = Gateway(engine, artifacts, folder, time.time, gateway)
    app = make_app(settings.resolved_redis_url)
    register_tasks(app, held)
    worker = app.Worker(
        hostname=f"{gateway}@{socket.gethostname()}",
        queues=[queue_of(gateway)],
        # Threads, not processes: a drive waits for devices rather than for this CPU, the pooled connections are the process' own, and
        # each process would take some 25 MB. Threads know no time limit: transports bound every call themselves.
        pool="threads",
        concurrency=settings.worker_slots,
        loglevel="WARNING",
        quiet=True,
        # Workers need not know one another: no gossip, no mingling at the start, no heartbeats through Redis.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    try:
        with Presence(engine, gateway, _holder(), time.time):
            worker.start()
    finally:
        held.close()
        engine.dispose()
    if worker.exitcode:
        sys.exit(worker.exitcode)


def run_scheduler(settings: Settings) -> None:
    """Tick until SIGTERM. A second scheduler is a standby: it waits for the lock and takes over when the first ends or falls silent.

    Two that believe to be active at once (one was frozen past its term) do no harm: leases are taken by compare-and-set.
    """
    configure_logs()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
    engine = open_database(settings.resolved_database_url)
    migrate(engine)
    nudges = Nudges(make_app(settings.resolved_redis_url))
    holder = _holder()
    held_until = 0.0
    active: bool | None = None
    while not stop.is_set():
        try:
            now = time.time()
            # Renewed well before its end rather than at every tick: a write four times a second would be felt on a small board.
            if now > held_until - _SCHEDULER_LOCK_SECS / 2:
                held = hold_lock(engine, _SCHEDULER_LOCK, holder, now, _SCHEDULER_LOCK_SECS)
                held_until = now + _SCHEDULER_LOCK_SECS if held else 0.0
                if held != active:
                    active = held
                    log.info("active" if held else "standby: another scheduler is active", holder=holder)
            if held_until and tick(engine, now, nudges.drive, nudges.check).more:
                continue
        except Exception as error:  # noqa: BLE001 - the database or Redis may be away; the scheduler outlives both
            log.warning("tick failed; the next one tries again", error=f"{type(error).__name__}: {error}")
            stop.wait(1.0)
        stop.wait(_TICK_SECS)
    try:
        give_lock(engine, _SCHEDULER_LOCK, holder)
    except Exception as error:  # noqa: BLE001 - the database may be away; then the term ends by itself
        log.warning("could not give up the lock", error=f"{type(error).__name__}: {error}")
    engine.dispose()


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
