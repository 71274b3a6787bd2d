"""Keeps the leases of the drives that are under way: a drive that waits for a slow device is not a gateway that fell silent.

A frozen or killed process renews nothing, and a drive that hangs is kept only so long: then the lease expires, and the next fence takes
its job over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine

from orchestrator.dispatch.leases import LEASE_SECS, renew_lease
from orchestrator.store.database import session as open_session

log = structlog.get_logger(__name__)

#: Longer than any one step may take: joining a large content on a slow card has five minutes.
_MOST_SECS = 600.0


@dataclass
class LeaseKeeper:
    """One for each process. Its thread lives only while there is a drive that lasts; ``every_secs`` is how often it renews."""

    engine: Engine
    clock: Callable[[], float]
    every_secs: float = LEASE_SECS / 3
    _held: dict[tuple[int, str, int], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @contextmanager
    def keep(self, device_id: int, job_id: str, fence: int) -> Iterator[None]:
        """Renew this lease while the body lasts, as long as the fence owns the device."""
        lease = (device_id, job_id, fence)
        with self._lock:
            self._held[lease] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="lease-keeper", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(lease, None)

    def _renew(self) -> None:
        while True:
            time.sleep(self.every_secs)
            with self._lock:
                if not self._held:
                    self._thread = None
                    return
                since = time.monotonic() - _MOST_SECS
                held = [lease for lease, began_at in self._held.items() if began_at > since]
            for device_id, job_id, fence in held:
                try:
                    with open_session(self.engine) as session:
                        renew_lease(session, device_id, job_id, fence, self.clock())
                except Exception as error:  # noqa: BLE001 - whatever it is, this thread must outlive it: nobody would start it again
                    # The next round tries again, well before the lease expires.
                    log.warning("could not renew a lease", job=job_id, why=f"{type(error).__name__}: {error}")
