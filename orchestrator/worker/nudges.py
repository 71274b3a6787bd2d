"""How the scheduler speaks to gateways: messages that may be lost, and that are not heaped up for a gateway that does not listen."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from celery import Celery

from orchestrator import __version__
from orchestrator.worker.celery_app import NUDGE_EXPIRES_SECS, queue_of
from orchestrator.worker.tasks import CHECK, DRIVE

log = structlog.get_logger(__name__)

#: More messages than this in one queue mean that nobody takes them. What is due is nudged again every few seconds, so a gateway that is
#: away over a weekend would otherwise fill Redis, and first discard millions of messages when it is back.
MOST_WAITING = 2000
_LOOK_EVERY_SECS = 1.0


class Nudges:
    """Publishes for one scheduler, from one thread. Errors of Redis pass through: the next tick sends what is still due."""

    def __init__(self, app: Celery, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._clock = app, clock
        self._looked_at: dict[str, float] = {}
        self._full: dict[str, bool] = {}

    def drive(self, gateway: str, job_id: str, fence: int) -> None:
        """Tell a gateway to drive a job one step."""
        self._send(gateway, DRIVE, [job_id, fence, __version__])

    def check(self, gateway: str, device: str) -> None:
        """Tell a gateway to check a device's health."""
        self._send(gateway, CHECK, [device, __version__])

    def _send(self, gateway: str, task: str, arguments: list[object]) -> None:
        if not self._is_full(gateway):
            self._app.send_task(task, args=arguments, queue=queue_of(gateway), expires=NUDGE_EXPIRES_SECS)

    def _is_full(self, gateway: str) -> bool:
        now = self._clock()
        if now - self._looked_at.get(gateway, -_LOOK_EVERY_SECS) >= _LOOK_EVERY_SECS:
            full = self._waiting(queue_of(gateway)) >= MOST_WAITING
            if full and not self._full.get(gateway):
                log.warning("nobody takes the messages of a gateway", gateway=gateway, remedy=f"edgematrix worker --gateway {gateway}")
            self._looked_at[gateway], self._full[gateway] = now, full
        return self._full[gateway]

    def _waiting(self, queue: str) -> int:
        with self._app.connection_or_acquire() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:  # Redis knows no empty queue
                return 0
