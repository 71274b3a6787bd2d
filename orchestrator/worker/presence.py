"""Says in SQL that a gateway is served: what people and ``doctor`` look at. Nothing is decided by it; leases and nudges do that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

import structlog
from sqlalchemy import Engine

from orchestrator.store.locks import give_lock, hold_lock

log = structlog.get_logger(__name__)

_EVERY_SECS = 10.0
_TERM_SECS = 35.0


def presence_name(gateway: str) -> str:
    """The lock whose term runs while somebody serves the gateway; of several workers one holds it."""
    return f"gateway.{gateway}"


class Presence:
    """Use around a worker's life; a thread renews it."""

    def __init__(self, engine: Engine, gateway: str, holder: str, clock: Callable[[], float]) -> None:
        self._engine, self._name, self._holder, self._clock = engine, presence_name(gateway), holder, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="presence", daemon=True)

    def __enter__(self) -> Presence:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._quietly(lambda: give_lock(self._engine, self._name, self._holder))

    def _renew(self) -> None:
        while not self._stop.is_set():
            self._quietly(lambda: hold_lock(self._engine, self._name, self._holder, self._clock(), _TERM_SECS))
            self._stop.wait(_EVERY_SECS)

    def _quietly(self, act: Callable[[], bool]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next round tries again
            log.warning("could not say that this gateway is served", why=f"{type(error).__name__}: {error}")
