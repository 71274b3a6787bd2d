"""Soaks as devices leave them: two thermal bodies, a governor that slows the device down at a trip point, and streams of raw stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.protocol import EVENT_CODES, EVENTS, PHASES, PROTOCOL_VERSION, QUERIES, TELEMETRY, RunnerReport, RunOutcome, SensorInfo
from orchestrator.analysis.thermal import tell
from orchestrator.analysis.thermal_run import SoakRun, lay_out
from orchestrator.domain.soak import Ambient, PlannedSoak
from orchestrator.domain.states import Emulation
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.reduce_thermal import reduce_soak, shown_story

_ORIGIN_NS = 5_000_000_000_000
_COLUMNS = ("phase", "sample", "start_ns", "pre_ns", "invoke_ns", "post_ns")
_SENSORS = (
    ("thermal.cpu-thermal_c", "°C", "temperature"),
    ("thermal.gpu-thermal_c", "°C", "temperature"),
    ("clock.policy0_khz", "kHz", "clock"),
    ("power.board_mw", "mW", "power"),
    ("cooling.cpufreq-cpu0_level", "", "state"),
    ("throttled.firmware", "", "flag"),
    ("sticky.throttled", "", "flag"),
)


@dataclass(frozen=True)
class SoakCase:
    """A device under load, and what goes wrong. Die 2 s, board 60 s; the trip point slows it to ``slowed`` of its speed.

    ``silent`` are stretches (seconds of the steady part) without telemetry; ``spike_at`` are seconds of a query ten times as long.
    """

    steady_secs: float = 300.0
    ambient_c: float = 23.0
    trip_c: float = 80.0
    rise_c: float = 70.0
    invoke_ms: float = 4.0
    slowed: float = 0.62
    idle_secs: float = 10.0
    cooldown_secs: float = 60.0
    hertz: float = 10.0
    silent: Sequence[tuple[float, float]] = ()
    spike_at: Sequence[float] = ()
    planned_secs: float | None = None
    complete: bool = True
    emulated: Emulation = Emulation.NONE
    seed: int = 7


def soak_streams(case: SoakCase) -> tuple[dict[str, dict[str, np.ndarray[Any, Any]]], RunOutcome]:
    """Return the streams of one soak and the outcome that names its sensors."""
    rng = np.random.default_rng(case.seed)
    step = 1 / case.hertz
    times = np.arange(-case.idle_secs, case.steady_secs + case.cooldown_secs, step)
    die = np.empty(times.size)
    board = np.empty(times.size)
    slow = np.zeros(times.size, dtype=bool)
    fast_part = board_part = 0.0
    throttled = False
    for index, at in enumerate(times):
        power = 1.0 if 0 <= at < case.steady_secs else 0.08
        power *= case.slowed if throttled else 1.0
        fast_part += (0.25 * case.rise_c * power - fast_part) * step / 2.0
        board_part += (0.75 * case.rise_c * power - board_part) * step / 60.0
        die[index], board[index] = case.ambient_c + fast_part + board_part, case.ambient_c + board_part
        throttled = die[index] > (case.trip_c - 1.0 if throttled else case.trip_c)
        slow[index] = throttled
    speed = np.where(slow, case.slowed, 1.0)
    values = (
        np.round(die + rng.normal(0, 0.1, times.size), 1),
        np.round(board + 4, 1),
        np.where(slow, 1_100_000.0, 1_800_000.0),
        np.where((times >= 0) & (times < case.steady_secs), 6500.0 * speed, 2100.0) + rng.normal(0, 60, times.size),
        slow * 2.0,
        slow * 1.0,
        np.maximum.accumulate(slow * 1.0),
    )
    heard = np.ones(times.size, dtype=bool)
    for start, end in case.silent:
        heard &= (times < start) | (times > end)
    if not case.complete:
        heard &= times < case.steady_secs
    rows = np.flatnonzero(heard)
    telemetry = {
        "time_ns": np.repeat(_ORIGIN_NS + ((times[rows] + case.idle_secs) * 1e9).astype(np.int64), len(_SENSORS)).astype(np.uint64),
        "sensor": np.tile(np.arange(len(_SENSORS), dtype=np.uint16), rows.size),
        "value": np.stack([value[rows] for value in values], axis=1).reshape(-1),
    }
    events = {"time_ns": np.empty(0, np.uint64), "code": np.empty(0, np.uint16), "value": np.empty(0)}
    if case.cooldown_secs and case.complete:
        at = [case.steady_secs + 0.2, case.steady_secs + case.cooldown_secs - 0.2]
        events = {
            "time_ns": (_ORIGIN_NS + (np.array(at) + case.idle_secs) * 1e9).astype(np.uint64),
            "code": np.array([EVENT_CODES.index("cooldown_started"), EVENT_CODES.index("cooldown_ended")], dtype=np.uint16),
            "value": np.array([79.0, 41.0]),
        }
    outcome = RunOutcome(
        protocol=PROTOCOL_VERSION,
        job_id="soak",
        attempt=1,
        fence=1,
        agent_version="1",
        agent_sha256="a" * 64,
        status="completed" if case.complete else "error",
        started_utc="2026-11-03T09:10:00Z",
        ended_utc="2026-11-03T09:16:00Z",
        duration_secs=360.0,
        runner=RunnerReport(origin_monotonic_ns=_ORIGIN_NS, steady_ns=int(case.steady_secs * 1e9)),
        sensors=[SensorInfo(name, unit, "simulated", quantity=quantity) for name, unit, quantity in _SENSORS],
    )
    return {QUERIES: _queries(case, times, speed, rng), TELEMETRY: telemetry, EVENTS: events}, outcome


def laid_out(case: SoakCase) -> SoakRun:
    """Return the soak as the analysis lays it out."""
    streams, outcome = soak_streams(case)
    return lay_out(
        streams=streams, outcome=outcome, soak=planned(case), emulated=case.emulated, complete=case.complete, telemetry_hz=case.hertz
    )


def soak_panel(case: SoakCase, device: str = "bench-a", **changes: Any) -> ThermalPanel:
    """Return the soak as a report gets it; ``changes`` replace fields of its story."""
    streams, outcome = soak_streams(case)
    story = tell(
        job_id=f"soak-{device}",
        attempt=1,
        streams=streams,
        outcome=outcome,
        soak=planned(case),
        limit_c=case.trip_c,
        emulated=case.emulated,
        complete=case.complete,
        telemetry_hz=case.hertz,
    ).model_copy(update=changes)
    return ThermalPanel("onnx-u8s8", device, shown_story(story, case.emulated), reduce_soak(story, laid_out(case)), case.emulated)


def planned(case: SoakCase) -> PlannedSoak:
    return PlannedSoak(
        duration_secs=case.planned_secs or case.steady_secs, idle_secs=case.idle_secs, probe=None, ambient=Ambient(stated_c=case.ambient_c)
    )


def _queries(case: SoakCase, times: np.ndarray[Any, Any], speed: np.ndarray[Any, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Cold queries before the rest, then one query after the other, each as slow as the device was when it began."""
    starts, invokes = [], []
    at, spikes = 0.0, sorted(case.spike_at)
    while at < case.steady_secs:
        pace = speed[min(times.size - 1, int((at + case.idle_secs) * case.hertz))]
        invoke_ms = case.invoke_ms / pace * (1 + 0.01 * rng.gamma(2.0))
        if spikes and at >= spikes[0]:
            invoke_ms *= 10
            spikes.pop(0)
        starts.append(at)
        invokes.append(invoke_ms)
        at += invoke_ms / 1e3 + 20e-6
    cold = 3
    start_s = np.array([-case.idle_secs + 0.01 * index for index in range(cold)] + starts) + case.idle_secs
    return {
        "phase": np.array([PHASES.index("probe")] * cold + [PHASES.index("steady")] * len(starts), dtype=np.uint8),
        "sample": np.zeros(start_s.size, dtype=np.uint32),
        "start_ns": (start_s * 1e9).astype(np.uint64),
        "pre_ns": np.full(start_s.size, 10_000, dtype=np.uint64),
        "invoke_ns": np.array([case.invoke_ms * 1e6] * cold + [value * 1e6 for value in invokes]).astype(np.uint64),
        "post_ns": np.full(start_s.size, 5_000, dtype=np.uint64),
    }
