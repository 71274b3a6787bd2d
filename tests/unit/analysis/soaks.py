"""Soaks of a simulated board, for tests: two thermal bodies with known constants, a governor, and what an agent would record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import expm

from agent.protocol import EVENT_CODES, PHASES, PROBE_COLUMNS, QUERY_COLUMNS, RunnerReport, RunOutcome, SensorInfo, SoakReport
from orchestrator.analysis.thermal import tell
from orchestrator.domain.soak import Ambient, PlannedSoak, Probe
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory
from tests.unit.analysis.builders import ORIGIN_NS, make_outcome

#: From the runner's origin to its first steady query: loading, cold probes, ten idle seconds.
ZERO_SECS = 13.0
IDLE_SECS = 10.0
COOLDOWN_SECS = 120.0
_STEP = 0.05


@dataclass(frozen=True)
class Board:
    """Two bodies: time constants as built (C·R), K/W to the board and on to the air; watts; a trip with hysteresis."""

    die_tau: float = 2.0
    board_tau: float = 60.0
    die_k_per_w: float = 3.0
    board_k_per_w: float = 9.0
    ambient_c: float = 25.0
    idle_w: float = 1.0
    load_w: float = 5.0
    trip_c: float = float("inf")
    hysteresis_c: float = 3.0
    slow_ratio: float = 0.6

    @property
    def matrix(self) -> np.ndarray[Any, Any]:
        c_die, c_board = self.die_tau / self.die_k_per_w, self.board_tau / self.board_k_per_w
        inner, outer = 1 / self.die_k_per_w, 1 / self.board_k_per_w
        return np.array([[-inner / c_die, inner / c_die], [inner / c_board, -(inner + outer) / c_board]])

    @property
    def taus(self) -> tuple[float, float]:
        """The true (modal) time constants, fastest first."""
        return tuple(sorted(-1 / np.linalg.eigvals(self.matrix)))  # type: ignore[return-value]

    def at_rest(self, watts: float) -> np.ndarray[Any, Any]:
        """Die and board in the end, at a constant power."""
        board = self.ambient_c + watts * self.board_k_per_w
        return np.array([board + watts * self.die_k_per_w, board])

    def steady_c(self) -> float:
        return float(self.at_rest(self.idle_w + self.load_w)[0])


@dataclass(frozen=True)
class Bench:
    """How a soak is done and recorded. ``base_ms`` is one invoke at full speed; ``quantum_c`` the sensor's last digit."""

    board: Board = field(default_factory=Board)
    duration: float = 120.0
    hertz: float = 10.0
    base_ms: float = 5.0
    quantum_c: float = 0.1
    noise_c: float = 0.0
    cooldown: float = COOLDOWN_SECS
    probe_samples: int = 4
    seed: int = 0
    window: float = 10.0


@dataclass
class Soak:
    """Streams as the agent writes them, the outcome, and the truth behind them."""

    bench: Bench
    streams: dict[str, dict[str, np.ndarray[Any, Any]]]
    outcome: RunOutcome
    settings: PlannedSoak
    trip_secs: float | None
    granted_cpu_secs: float

    def tell(self, **changes: Any) -> ThermalStory:
        given: dict[str, Any] = {
            "job_id": "j",
            "attempt": 1,
            "streams": self.streams,
            "outcome": self.outcome,
            "soak": self.settings,
            "limit_c": None,
            "emulated": Emulation.NONE,
            "telemetry_hz": self.bench.hertz,
            **changes,
        }
        return tell(**given)

    def drop_telemetry(self, start: float, end: float) -> None:
        """Lose what was sampled in a part of the run, seconds from the first steady query."""
        telemetry = self.streams["telemetry"]
        secs = (telemetry["time_ns"].astype(np.int64) - ORIGIN_NS) / 1e9 - ZERO_SECS
        kept = (secs < start) | (secs > end)
        self.streams["telemetry"] = {name: column[kept] for name, column in telemetry.items()}

    def change_channel(self, name: str, start: float, end: float, change: Any) -> None:
        """Apply ``change`` to the readings of one channel in a part of the run."""
        telemetry = self.streams["telemetry"]
        index = [sensor.name for sensor in self.outcome.sensors].index(name)
        secs = (telemetry["time_ns"].astype(np.int64) - ORIGIN_NS) / 1e9 - ZERO_SECS
        rows = (telemetry["sensor"] == index) & (secs >= start) & (secs <= end)
        telemetry["value"][rows] = change(telemetry["value"][rows])

    def without(self, *names: str) -> Soak:
        """The same soak on a device that lacks these channels."""
        telemetry, kept = self.streams["telemetry"], []
        for index, sensor in enumerate(self.outcome.sensors):
            if sensor.name not in names:
                kept.append((index, sensor))
        rows = np.isin(telemetry["sensor"], [index for index, _ in kept])
        numbers = np.zeros(len(self.outcome.sensors), dtype=np.uint16)
        numbers[[index for index, _ in kept]] = np.arange(len(kept))
        cut = {name: column[rows] for name, column in telemetry.items()}
        cut["sensor"] = numbers[cut["sensor"]]
        outcome = replace(self.outcome, sensors=[sensor for _, sensor in kept])
        return replace_soak(self, streams={**self.streams, "telemetry": cut}, outcome=outcome)


def replace_soak(soak: Soak, **changes: Any) -> Soak:
    given = {name: getattr(soak, name) for name in ("bench", "streams", "outcome", "settings", "trip_secs", "granted_cpu_secs")}
    return Soak(**{**given, **changes})


def make_soak(bench: Bench | None = None, **settings: Any) -> Soak:
    """Simulate a soak flat out: ten seconds at rest, the load, the cool-down."""
    bench = bench or Bench()
    board = bench.board
    advance = expm(board.matrix * _STEP)
    times = np.arange(-ZERO_SECS, bench.duration + bench.cooldown + _STEP, _STEP)
    state = board.at_rest(board.idle_w)
    die, ratio, power = np.empty(times.size), np.ones(times.size), np.empty(times.size)
    throttled, trip_secs, current = False, None, 1.0
    for index, moment in enumerate(times):
        die[index] = state[0]
        loaded = -1e-9 <= moment < bench.duration
        if state[0] >= board.trip_c and loaded:
            trip_secs = float(moment) if trip_secs is None else trip_secs
            throttled = True
        elif state[0] < board.trip_c - board.hysteresis_c:
            throttled = False
        current = board.slow_ratio if throttled else 1.0
        ratio[index] = current
        power[index] = board.idle_w + (board.load_w * current if loaded else 0.0)
        goal = board.at_rest(power[index])
        state = goal + advance @ (state - goal)
    load = (times >= -1e-9) & (times < bench.duration)
    work = np.concatenate([[0.0], np.cumsum(np.where(load, ratio, 0.0) * _STEP)])[:-1]
    streams = {"queries": _queries(bench, times, work), "events": _events(bench), "probes": _probes(bench)}
    stood = np.concatenate([[0.0], np.cumsum(np.where(load, 1 - ratio, 0.0) * _STEP)])[:-1]
    telemetry, sensors = _telemetry(bench, times, die, ratio, power, work, stood)
    given: dict[str, Any] = {
        "duration_secs": bench.duration,
        "window_secs": bench.window,
        "idle_secs": IDLE_SECS,
        "ambient": Ambient(stated_c=board.ambient_c),
        "probe": Probe(samples=bench.probe_samples),
        **settings,
    }
    outcome = make_outcome(
        sensors,
        {"frequency": {"policy0": {"max_khz": 2_000_000}}},
        steady_ns=int(bench.duration * 1e9),
        soak=SoakReport(probe_count=1, probe_rounds=1),
    )
    return Soak(bench, {**streams, "telemetry": telemetry}, outcome, PlannedSoak(**given), trip_secs, float(work[-1]))


def _queries(bench: Bench, times: np.ndarray[Any, Any], work: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Each query needs ``base_ms`` of full speed; its end is where that much more work has been done."""
    base = bench.base_ms / 1000
    count = int(work[-1] / base)
    loaded = (times >= -1e-9) & (times <= bench.duration + _STEP)
    ends = np.interp(np.arange(1, count + 1) * base, work[loaded], times[loaded])
    starts = np.concatenate([[0.0], ends[:-1]])
    cold = np.array([-ZERO_SECS + 1 + 0.01 * index for index in range(1 + 2 * bench.probe_samples)])
    hot = np.arange(5.0, bench.duration - 1e-6, 5.0).repeat(bench.probe_samples)
    # Probes lie between two queries and take no time of their own here, so that the load's completions stay as computed.
    phase = [PHASES.index("first_query")] + [PHASES.index("probe")] * (cold.size - 1)
    rows = np.concatenate([cold, starts, hot])
    lengths = np.concatenate([np.full(cold.size, 0.001), ends - starts, np.full(hot.size, 1e-9)])
    phases = np.concatenate([phase, np.full(starts.size, PHASES.index("steady")), np.full(hot.size, PHASES.index("probe"))])
    order = np.argsort(rows, kind="stable")
    columns = {name: np.zeros(rows.size, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = phases[order]
    columns["start_ns"][:] = np.round((rows[order] + ZERO_SECS) * 1e9)
    columns["invoke_ns"][:] = np.round(lengths[order] * 1e9)
    return columns


def _probes(bench: Bench) -> dict[str, np.ndarray[Any, Any]]:
    cold_rounds, hot = 2, np.arange(5.0, bench.duration - 1e-6, 5.0)
    starts = np.concatenate([[-ZERO_SECS + 1.1, -ZERO_SECS + 1.5], hot])
    rows = starts.size * bench.probe_samples
    columns = {name: np.zeros(rows, dtype=kind) for name, kind in PROBE_COLUMNS}
    sample = np.tile(np.arange(bench.probe_samples), starts.size)
    columns["sample"][:] = sample
    columns["round"][:] = np.arange(starts.size).repeat(bench.probe_samples)
    columns["cold"][:] = columns["round"] < cold_rounds
    columns["start_ns"][:] = np.round((starts.repeat(bench.probe_samples) + ZERO_SECS) * 1e9)
    columns["digest"][:] = 1000 + sample
    columns["finite"][:] = 1
    columns["top_class"][:] = sample % 3
    return columns


def _events(bench: Bench) -> dict[str, np.ndarray[Any, Any]]:
    rows = [("runner_started", -ZERO_SECS), ("cooldown_started", bench.duration), ("cooldown_ended", bench.duration + bench.cooldown)]
    return {
        "time_ns": np.array([ORIGIN_NS + round((secs + ZERO_SECS) * 1e9) for _, secs in rows], dtype=np.uint64),
        "code": np.array([EVENT_CODES.index(name) for name, _ in rows], dtype=np.uint16),
        "value": np.full(len(rows), np.nan),
    }


def _telemetry(
    bench: Bench, times: Any, die: Any, ratio: Any, power: Any, work: Any, stood: Any
) -> tuple[dict[str, np.ndarray[Any, Any]], list[SensorInfo]]:
    rng = np.random.default_rng(bench.seed)
    grid = np.arange(times[0], times[-1], 1 / bench.hertz)

    def step(values: Any) -> Any:
        return values[np.searchsorted(times, grid, "right") - 1]

    heat = np.interp(grid, times, die) + rng.normal(0, bench.noise_c, grid.size)
    channels = {
        "thermal.soc_c": ("temperature", "°C", np.round(heat / bench.quantum_c) * bench.quantum_c),
        "cooling.cpufreq_level": ("state", "level", (step(ratio) < 1).astype(float)),
        "cooling.pwm_fan_level": ("state", "level", (step(power) > 2).astype(float)),
        "clock.policy0_khz": ("clock", "kHz", 2_000_000 * step(ratio)),
        "power.board_mw": ("power", "mW", 1000 * step(power)),
        "cgroup.cpu_secs": ("counter", "s", np.interp(grid, times, work)),
        "cgroup.throttled_secs": ("counter", "s", np.interp(grid, times, stood)),
        "runner_cpu_secs": ("counter", "s", np.interp(grid, times, work)),
        "cpu_busy_percent": ("share", "%", np.full(grid.size, 26.0)),
        "runner_cpu_percent": ("share", "%", np.full(grid.size, 25.0)),
    }
    stamps = (ORIGIN_NS + np.round((grid + ZERO_SECS) * 1e9)).astype(np.uint64)
    telemetry = {
        "time_ns": np.tile(stamps, len(channels)),
        "sensor": np.arange(len(channels), dtype=np.uint16).repeat(grid.size),
        "value": np.concatenate([values for _, _, values in channels.values()]).astype(np.float64),
    }
    sensors = [SensorInfo(name, unit, "simulated", quantity=quantity) for name, (quantity, unit, _) in channels.items()]
    return telemetry, sensors


def report_of(soak: Soak, **changes: Any) -> RunnerReport:
    """The runner's report of a soak, changed."""
    assert soak.outcome.runner is not None
    return replace(soak.outcome.runner, **changes)
