"""Keeping the stamps of every query, and telling how far the run is, at the least cost to the queries."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Callable, List

import numpy as np

from agent.errors import storage_error
from agent.protocol import PHASES, PROGRESS
from agent.spool import SpoolWriter

Clock = Callable[[], int]

#: A block is flushed when it is full or this old, whichever is first.
BLOCK_ROWS = 16_384
FLUSH_NS = 1_000_000_000
PROGRESS_NS = 200_000_000

#: More than four hours of one flush a second. Beyond it, pauses are only counted and added up: a soak of days holds no growing list.
MAX_PAUSES = 16_384

_STAMPS = 4


class QueryRecorder:
    """Hold four clock readings per query (start, after pre, after invoke, after post) and write them as blocks of ``queries``.

    The query loop stores into ``stamps`` itself, four numbers from ``4 * filled`` on, and says so with :meth:`commit`; everything else
    happens in :meth:`flush`, between two queries. What a flush took is kept in ``pauses_ns``, for the first MAX_PAUSES of them, and in
    ``pause_count``, ``pause_total_ns`` and ``pause_longest_ns`` for all.
    """

    def __init__(self, writer: SpoolWriter, sample_count: int, origin_ns: int, clock: Clock) -> None:
        self.stamps = array("Q", bytes(8 * _STAMPS * BLOCK_ROWS))
        self.filled = 0
        self.pauses_ns: List[int] = []
        self.pause_count = self.pause_total_ns = self.pause_longest_ns = 0
        self._writer = writer
        self._sample_count = sample_count
        self._origin_ns = origin_ns
        self._clock = clock
        self._phase = 0
        self._first_sample = 0
        self._flush_due_ns = clock() + FLUSH_NS

    @property
    def free(self) -> int:
        """Queries that fit before a flush is needed."""
        return BLOCK_ROWS - self.filled

    @property
    def next_sample(self) -> int:
        """The sample whose turn it is; samples are asked in order and again from the first."""
        return (self._first_sample + self.filled) % self._sample_count

    @property
    def phase(self) -> str:
        """The phase that queries are recorded in."""
        return PHASES[self._phase]

    def begin(self, phase: str, sample: int = 0) -> None:
        """Start a phase at a sample; what the phase before it left is written first."""
        self.flush()
        self._phase, self._first_sample = PHASES.index(phase), sample

    def commit(self, count: int) -> None:
        """Count queries whose stamps were stored."""
        self.filled += count

    def add(self, start: int, pre: int, invoke: int, post: int) -> None:
        """Store the stamps of one query."""
        slot = _STAMPS * self.filled
        self.stamps[slot], self.stamps[slot + 1], self.stamps[slot + 2], self.stamps[slot + 3] = start, pre, invoke, post
        self.filled += 1

    def is_due(self, now_ns: int) -> bool:
        """Whether the block is full or old enough to be flushed."""
        return self.filled == BLOCK_ROWS or now_ns >= self._flush_due_ns

    def flush(self) -> None:
        """Write what is there as one block. Raises DiskFull, FolderUnwritable."""
        started = self._clock()
        if self.filled:
            stamps = np.frombuffer(self.stamps, np.uint64, _STAMPS * self.filled).reshape(-1, _STAMPS)
            samples = (self._first_sample + np.arange(self.filled)) % self._sample_count
            start, pre, invoke, post = stamps.T
            phase = np.full(self.filled, self._phase)
            columns = {"phase": phase, "sample": samples, "start_ns": start - np.uint64(self._origin_ns)}
            columns.update(pre_ns=pre - start, invoke_ns=invoke - pre, post_ns=post - invoke)
            self._writer.write(columns)
            self._first_sample = self.next_sample
            self.filled = 0
            self._paused(self._clock() - started)
        self._flush_due_ns = self._clock() + FLUSH_NS

    def _paused(self, took_ns: int) -> None:
        if self.pause_count < MAX_PAUSES:
            self.pauses_ns.append(took_ns)
        self.pause_count += 1
        self.pause_total_ns += took_ns
        self.pause_longest_ns = max(self.pause_longest_ns, took_ns)


class ProgressFile:
    """The file ``progress``, rewritten in place: phase, done, total, seconds left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise storage_error(error, path) from error

    def write(self, phase: str, done: int = 0, total: int = 0, seconds_left: float = -1.0) -> None:
        """Say how far the run is; ``total`` 0 and ``seconds_left`` below 0 mean unknown."""
        try:
            os.pwrite(self._descriptor, PROGRESS.pack(PHASES.index(phase), done, total, seconds_left), 0)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def close(self) -> None:
        os.close(self._descriptor)
