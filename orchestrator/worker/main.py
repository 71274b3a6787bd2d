"""The two long-lived processes: a gateway's worker and the scheduler. Both end in order on SIGTERM and may be killed at any time."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import structlog

from orchestrator import __version__
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.schedule import tick
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import migrate, open_database
from orchestrator.store.locks import hold_lock
from orchestrator.worker.celery_app import NUDGE_EXPIRES_SECS, make_app, queue_of
from orchestrator.worker.logs import configure_logs
from orchestrator.worker.settings import Settings
from orchestrator.worker.tasks import CHECK, DRIVE, register_tasks

log = structlog.get_logger(__name__)

_TICK_SECS = 0.25
_SCHEDULER_LOCK = "scheduler"
_SCHEDULER_LOCK_SECS = 5.0


def run_worker(settings: Settings, gateway: str) -> None:
    """Serve one gateway's queue until SIGTERM, which lets the drives in hand end first.

    Threads, not processes: a drive waits for devices rather than for this CPU, and the pooled connections are the process' own.
    """
    configure_logs()
    engine = open_database(settings.resolved_database_url)
    migrate(engine)
    folder = settings.home / "gateway" / gateway
    held = Gateway(engine, ArtifactStore(settings.resolved_artifacts_url, settings.home / "cache" / "artifacts"), folder, time.time)
    app = make_app(settings.resolved_redis_url)
    register_tasks(app, held)
    try:
        app.Worker(
            hostname=f"{gateway}@{socket.gethostname()}",
            queues=[queue_of(gateway)],
            pool="threads",
            concurrency=settings.worker_slots,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        ).start()
    finally:
        held.close()
        engine.dispose()


def run_scheduler(settings: Settings) -> None:
    """Tick until SIGTERM. A second scheduler is a standby: it waits for the lock and takes over when the first falls silent."""
    configure_logs()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stop.set())
    engine = open_database(settings.resolved_database_url)
    migrate(engine)
    app = make_app(settings.resolved_redis_url)
    holder = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"

    def publish(gateway: str, job_id: str, fence: int) -> None:
        app.send_task(DRIVE, args=[job_id, fence, __version__], queue=queue_of(gateway), expires=NUDGE_EXPIRES_SECS)

    def publish_check(gateway: str, device: str) -> None:
        app.send_task(CHECK, args=[device, __version__], queue=queue_of(gateway), expires=NUDGE_EXPIRES_SECS)

    held_until = 0.0
    while not stop.is_set():
        try:
            now = time.time()
            # Renewed well before its end rather than at every tick: a write four times a second would be felt on a small board.
            if now > held_until - _SCHEDULER_LOCK_SECS / 2:
                held = hold_lock(engine, _SCHEDULER_LOCK, holder, now, _SCHEDULER_LOCK_SECS)
                held_until = now + _SCHEDULER_LOCK_SECS if held else 0.0
            if held_until and tick(engine, now, publish, publish_check).more:
                continue
        except Exception as error:  # noqa: BLE001 - the database or Redis may be away; the scheduler outlives both
            log.warning("tick failed; the next one tries again", error=f"{type(error).__name__}: {error}")
            stop.wait(1.0)
        stop.wait(_TICK_SECS)
    engine.dispose()
