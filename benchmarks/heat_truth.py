"""What the plant and the raw traces say of a soak, without any of the code that is being judged: no analysis is imported here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import protocol
from deploy.lab.plant.journal import earlier
from deploy.lab.plant_lifecycle import PlantProcess
from orchestrator.service.context import Context
from orchestrator.service.thermal import load_soak

_STEADY = protocol.PHASES.index("steady")


@dataclass(frozen=True)
class RawSoak:
    """The steady part of a soak from its trace: when it began, raw CLOCK_MONOTONIC, and when each of its queries ended, both ns."""

    begin_ns: int
    end_ns: NDArray[np.int64]
    probe_spans_ns: NDArray[np.int64]

    def per_second(self, start_ns: int, end_ns: int) -> float:
        """Completions per second of the time that was left to the load, over (start, end]; the time of probes is left out."""
        count = int(np.count_nonzero((self.end_ns > start_ns) & (self.end_ns <= end_ns)))
        inside = np.clip(self.probe_spans_ns, start_ns, end_ns)
        probes = int((inside[:, 1] - inside[:, 0]).sum())
        return count / ((end_ns - start_ns - probes) / 1e9)


def read_soak(context: Context, job_id: str) -> RawSoak:
    """Read a soak's queries as they were recorded."""
    loaded = load_soak(context, job_id)
    assert loaded.outcome.runner is not None
    queries = loaded.streams["queries"]
    start = queries["start_ns"].astype(np.int64) + loaded.outcome.runner.origin_monotonic_ns
    end = start + sum(queries[name].astype(np.int64) for name in ("pre_ns", "invoke_ns", "post_ns"))
    steady = queries["phase"] == _STEADY
    begin = int(start[steady][0])
    probes = (queries["phase"] == protocol.PHASES.index("probe")) & (start > begin)
    return RawSoak(begin, end[steady], np.stack([start[probes], end[probes]], axis=1))


@dataclass(frozen=True)
class PlantRecord:
    """The plant's own record over time."""

    time_ns: NDArray[np.int64]
    usage_ns: NDArray[np.int64]
    level: NDArray[np.int64]
    die_c: NDArray[np.float64]

    def throttled_at(self, begin_ns: int, end_ns: int) -> int | None:
        """When the governor first slowed the device down between two moments."""
        hits = np.flatnonzero((self.time_ns >= begin_ns) & (self.time_ns <= end_ns) & (self.level > 0))
        return int(self.time_ns[hits[0]]) if hits.size else None

    def granted_cores(self, begin_ns: int, end_ns: int) -> float:
        """How many cores the device's group had between two moments."""
        first, last = np.interp([begin_ns, end_ns], self.time_ns, self.usage_ns)
        return float(last - first) / (end_ns - begin_ns)


def read_record(plant: PlantProcess) -> PlantRecord:
    """Read both files of a plant's record."""
    rows: list[dict[str, Any]] = []
    for path in (earlier(plant.journal), plant.journal):
        rows += _rows(path)
    return PlantRecord(
        time_ns=np.array([int(row["time_ns"]) for row in rows], dtype=np.int64),
        usage_ns=np.array([int(row["usage_ns"]) for row in rows], dtype=np.int64),
        level=np.array([int(row["level"]) for row in rows], dtype=np.int64),
        die_c=np.array([float(row["die_c"]) for row in rows]),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        # The last row may be half written.
        return [row for row in csv.DictReader(file) if row["faults"]]
