"""A model that takes its time on a fake clock, for tests of the loops that ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from agent.errors import InvokeFailed
from agent.loadgen import Pipeline
from agent.runtimes import BoundQuery

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class SlowModel:
    """A model on a fake clock: 1 ms pre, ``invoke_ns`` invoke, 2 ms post; answers twice the input, and notes which samples it saw."""

    def __init__(self, clock: Any, invoke_ns: int = 7 * MILLISECOND) -> None:
        self.clock, self.invoke_ns = clock, invoke_ns
        self.seen: list[int] = []
        self.fail_at = -1
        self._batch = np.zeros(0)

    def pipeline(self) -> Pipeline:
        return Pipeline(self._prepare, BoundQuery(self._set_input, self._invoke, self._fetch), lambda raw: raw, self._querying)

    def _prepare(self, sample: np.ndarray) -> np.ndarray:
        self.clock.advance(MILLISECOND)
        return sample[None]

    def _set_input(self, batch: np.ndarray) -> None:
        self._batch = batch
        self.seen.append(int(batch.reshape(-1)[0]))

    def _invoke(self) -> np.ndarray:
        if len(self.seen) - 1 == self.fail_at:
            raise RuntimeError("kernel says no")
        self.clock.advance(self.invoke_ns)
        return self._batch * 2

    def _fetch(self, result: np.ndarray) -> list[np.ndarray]:
        self.clock.advance(2 * MILLISECOND)
        return [result]

    @contextlib.contextmanager
    def _querying(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise InvokeFailed(str(error)) from error
