"""What a soak run is asked to do, and what it leaves behind: the part of the protocol about heat. Pure data; ``agent.protocol`` offers it.

A soak run goes through these parts, in this order; each is a phase of ``queries`` or an event, so that nothing has to be guessed later
(with ``marker`` a square wave of load comes before the runner starts, and another one last):

1. first query, then ``probe.cold_rounds`` rounds of the probe samples, cold and without pressure;
2. ``idle``: nothing for ``idle_secs``, to read temperature and power at rest;
3. ``precondition``: load flat out until ``precondition_until_c`` or for ``precondition_secs``, whichever is first;
4. ``warmup`` as in a latency run (``LoadSettings``), then ``steady``: the load pattern for ``duration_secs``, a round of probes every
   ``probe.every_secs``, tagged ``probe``;
5. the runner ends; the supervisor goes on sampling until ``cooldown_until_c`` or for ``cooldown_secs``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import List, Optional, Tuple

#: How queries come: one after the other; at a fixed rate; on and off; on until hot and off until cool; at recorded times.
PATTERNS = ("flat_out", "fixed_rate", "duty_cycle", "thermal_cycle", "recorded")

#: The most arrival times of a recorded pattern; after its ``cycle_secs`` it begins anew.
MAX_ARRIVALS = 20_000

#: ``control``, rewritten in place by the supervisor beside every reading of the control temperature: raw CLOCK_MONOTONIC nanoseconds and
#: °C (not-a-number while unknown). The runner reads it for thermal cycles and preconditioning.
CONTROL_FILE = "control"
CONTROL = struct.Struct("<Qd")

PROBES = "probes"

#: Columns of ``probes``: one row per probe query. ``start_ns`` counts from the runner's origin as in ``queries``; ``cold`` is 1 before the
#: load began; ``digest`` and ``finite`` are those of ``sample_columns``; ``top_class`` is -1 for tasks without classes, ``top_score`` then
#: NaN.
PROBE_COLUMNS: Tuple[Tuple[str, str], ...] = (
    ("start_ns", "<u8"),
    ("round", "<u4"),
    ("cold", "u1"),
    ("sample", "<u4"),
    ("digest", "<u8"),
    ("finite", "u1"),
    ("top_class", "<i4"),
    ("top_score", "<f4"),
)

#: Why a soak ended before its time although nothing failed.
STOPS = ("safety_temperature", "battery", "disk_bound")


@dataclass(frozen=True)
class LoadPattern:
    """``kind`` is one of PATTERNS; each needs its own fields and ignores the others.

    fixed_rate: ``rate_hz``; arrivals that pass while a query runs are dropped and counted, as a camera drops frames. duty_cycle:
    ``on_secs`` and ``off_secs``. thermal_cycle: load until ``high_c``, rest until ``low_c``, by the control temperature. recorded:
    ``arrivals_secs`` (ascending, from the start of a cycle) and ``cycle_secs``.
    """

    kind: str = "flat_out"
    rate_hz: Optional[float] = None
    on_secs: Optional[float] = None
    off_secs: Optional[float] = None
    low_c: Optional[float] = None
    high_c: Optional[float] = None
    arrivals_secs: List[float] = field(default_factory=list)
    cycle_secs: Optional[float] = None


@dataclass(frozen=True)
class ProbeSettings:
    """The first ``samples`` of the inputs are answered every ``every_secs``; ``cold_rounds`` times before there is any load."""

    samples: int = 16
    every_secs: float = 5.0
    cold_rounds: int = 5


@dataclass(frozen=True)
class CoLoad:
    """Work beside the model, from the first steady query to the last: ``cpu_workers`` that count, ``memory_workers`` that copy."""

    cpu_workers: int = 0
    memory_workers: int = 0


@dataclass(frozen=True)
class SoakSettings:
    """Seconds and °C. ``control_sensor`` names the channel that decides (None: the hottest ``thermal.*`` zone that is not a battery)."""

    duration_secs: float
    pattern: LoadPattern = field(default_factory=LoadPattern)
    probe: Optional[ProbeSettings] = None
    co_load: CoLoad = field(default_factory=CoLoad)
    idle_secs: float = 10.0
    precondition_secs: float = 0.0
    precondition_until_c: Optional[float] = None
    cooldown_secs: float = 0.0
    cooldown_until_c: Optional[float] = None
    stop_above_c: Optional[float] = None
    stop_below_battery_percent: Optional[float] = None
    marker: bool = False
    control_sensor: Optional[str] = None
    max_queries_bytes: int = 2 * 1024 * 1024 * 1024


@dataclass(frozen=True)
class SoakReport:
    """What the runner did in a soak: counts, and why it ended early (one of STOPS) if it did.

    ``dropped_count`` are arrivals of a fixed rate or a recorded pattern that passed while a query ran, ``dropped_for_probes`` those that
    passed while a round of probes was answered. ``probe_ns`` is the part of ``RunnerReport.steady_ns`` that rounds of probes took;
    ``queries_bytes`` is what the ``queries`` spool holds; ``control_unknown_ns`` how long a thermal cycle rested because it did not know
    the temperature. ``co_load_cpus`` has one CPU for each co-load worker, and is empty where there was none to spare and they share the
    runner's; ``co_load_lost`` are workers that ended before they should.
    """

    precondition_count: int = 0
    probe_count: int = 0
    probe_rounds: int = 0
    dropped_count: int = 0
    dropped_for_probes: int = 0
    probe_ns: int = 0
    queries_bytes: int = 0
    control_unknown_ns: int = 0
    stopped: Optional[str] = None
    co_load_cpus: List[int] = field(default_factory=list)
    co_load_lost: int = 0
