"""How far a measurement may be trusted: one table of reasons with numeric thresholds, and the checks that find them.

A reason lowers a result to its level: ``invalid`` when the number does not mean what its name says, ``semivalid`` when it was
measured as asked but may not repeat, ``valid`` for a note that lowers nothing. What no sensor of a machine can tell is listed as
unknown and lowers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.protocol import RunnerReport, SensorInfo
from orchestrator.analysis.telemetry import Channel
from orchestrator.domain.results import Reason, ValidityRecord
from orchestrator.domain.states import Emulation, Scenario, Validity


@dataclass(frozen=True)
class Evidence:
    """What the checks look at. ``channels`` and ``telemetry_ns`` are cut to the measured part, ``window_ns`` (from the runner's
    origin, both ends).

    ``start_c`` maps a thermal zone to its first reading of the run; ``clock_max_khz`` a clock policy to its maximum;
    ``start_gate_c`` is the range in which the hottest zone had to be, None when the request had no gate; ``clock_offset_secs`` is
    device minus orchestrator.
    """

    scenario: Scenario
    emulated: Emulation
    runner: RunnerReport
    sensors: Sequence[SensorInfo] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)
    telemetry_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    telemetry_hz: float = 0.0
    window_ns: tuple[int, int] | None = None
    start_c: Mapping[str, float] = field(default_factory=dict)
    start_gate_c: tuple[float, float] | None = None
    clock_max_khz: Mapping[str, float] = field(default_factory=dict)
    clock_offset_secs: float | None = None
    query_count: int = 0
    cv_percent: float | None = None
    sample_count: int = 0
    missing_count: int = 0
    non_finite_samples: Sequence[int] = ()


@dataclass(frozen=True)
class Finding:
    """A threshold that was crossed: the value found, and the sentence that tells it."""

    value: float
    message: str


@dataclass(frozen=True)
class Unknown:
    """What this machine cannot tell, in words."""

    text: str


#: A check gets the evidence and its threshold; None means that all is well.
Check: TypeAlias = Callable[[Evidence, float], Finding | Unknown | None]


@dataclass(frozen=True)
class Rule:
    """One reason: its threshold in ``unit``, its level, the scenarios it concerns, and why it has that level."""

    code: str
    level: Validity
    threshold: float
    unit: str
    scenarios: tuple[Scenario, ...]
    check: Check
    why: str


def assess(evidence: Evidence) -> ValidityRecord:
    """Apply every rule that concerns the scenario; the level is the worst of the reasons found."""
    reasons: list[Reason] = []
    unknown: list[str] = []
    for rule in RULES:
        if evidence.scenario not in rule.scenarios:
            continue
        found = rule.check(evidence, rule.threshold)
        if isinstance(found, Finding):
            reasons.append(Reason(code=rule.code, level=rule.level, message=found.message, value=found.value, threshold=rule.threshold))
        elif isinstance(found, Unknown):
            unknown.append(found.text)
    level = max((reason.level for reason in reasons), key=_SEVERITY.index, default=Validity.VALID)
    return ValidityRecord(level=level, reasons=tuple(reasons), unknown=tuple(unknown))


_SEVERITY = (Validity.VALID, Validity.SEMIVALID, Validity.INVALID)

# --- checks ---------------------------------------------------------------------------------------------------


def _emulated_cpu(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.emulated is not Emulation.CPU:
        return None
    return Finding(1, "the CPU is emulated: its latency says nothing of the device and is withheld")


def _nothing_measured(evidence: Evidence, threshold: float) -> Finding | None:
    count = evidence.query_count if evidence.scenario is Scenario.LATENCY else evidence.sample_count - evidence.missing_count
    if count >= threshold:
        return None
    return Finding(count, "no steady query was recorded" if evidence.scenario is Scenario.LATENCY else "no sample was answered")


def _samples_missing(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.missing_count <= threshold:
        return None
    return Finding(evidence.missing_count, f"{evidence.missing_count} of {evidence.sample_count} samples have no answer")


def _non_finite_outputs(evidence: Evidence, threshold: float) -> Finding | None:
    count = len(evidence.non_finite_samples)
    if count <= threshold:
        return None
    named = ", ".join(str(sample) for sample in evidence.non_finite_samples[:10]) + (", …" if count > 10 else "")
    return Finding(count, f"{count} samples have NaN or infinite outputs and count as wrong: {named}")


def _minimum_not_met(evidence: Evidence, threshold: float) -> Finding | None:
    runner = evidence.runner
    missed = [
        words
        for met, words in ((runner.min_duration_met, "the minimum duration"), (runner.min_query_count_met, "the minimum query count"))
        if met is False
    ]
    if len(missed) <= threshold:
        return None
    seconds = runner.steady_ns / 1e9
    return Finding(len(missed), f"{' and '.join(missed)} was not reached: {runner.steady_count} queries in {seconds:.1f} s")


def _high_variation(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.cv_percent is None or evidence.cv_percent <= threshold:
        return None
    value = evidence.cv_percent
    return Finding(
        value, f"invoke times vary by {value:.1f} % from query to query (coefficient of variation; above {threshold:g} % is unsteady)"
    )


def _flush_pauses(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.runner.steady_ns <= 0:
        return None
    share = 100 * sum(evidence.runner.flush_pauses_ns) / evidence.runner.steady_ns
    if share <= threshold:
        return None
    return Finding(share, f"writing the trace paused the run for {share:.1f} % of the steady time")


def _throttled(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    flags = _matching(evidence, "throttled")
    if not flags:
        return Unknown("throttling: no sensor of this machine tells it")
    share = 100 * max(float(np.mean(channel.value > 0)) for channel in flags.values())
    if share <= threshold:
        return None
    return Finding(share, f"the device reported throttling in {share:.0f} % of the readings")


def _under_voltage(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    flags = _matching(evidence, "under_voltage")
    if not flags:
        return Unknown("under-voltage: no sensor of this machine tells it")
    share = 100 * max(float(np.mean(channel.value > 0)) for channel in flags.values())
    if share <= threshold:
        return None
    return Finding(share, f"the device reported under-voltage in {share:.0f} % of the readings")


def _clock_below_max(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    """Judge the fastest domain: the others idle while a single-threaded model runs."""
    shares = [
        100 * float(channel.value.mean()) / evidence.clock_max_khz[policy]
        for name, channel in _matching(evidence, "clock.").items()
        if evidence.clock_max_khz.get(policy := name.removeprefix("clock.").removesuffix("_khz"), 0) > 0
    ]
    if not shares:
        return Unknown("clock: this machine shows no clock with a known maximum")
    if max(shares) >= threshold:
        return None
    return Finding(max(shares), f"the fastest clock ran at {max(shares):.0f} % of its maximum on average")


def _start_temperature(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    if not evidence.start_c:
        return Unknown("temperature: no thermal zone of this machine can be read")
    if evidence.start_gate_c is None:
        return None
    low, high = evidence.start_gate_c
    zone, start = max(evidence.start_c.items(), key=lambda item: item[1])
    distance = max(low - start, start - high)
    if distance <= threshold:
        return None
    return Finding(distance, f"the run started with {zone} at {start:.1f} °C; the gate is {low:g} to {high:g} °C")


def _background_load(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    busy, own = evidence.channels.get("cpu_busy_percent"), evidence.channels.get("runner_cpu_percent")
    if busy is None or own is None:
        return Unknown("background load: it was not read during the measured part")
    others = float(busy.value.mean()) - float(own.value.mean())
    if others <= threshold:
        return None
    return Finding(others, f"other processes used {others:.0f} % of all CPUs on average")


def _telemetry_gap(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    if evidence.telemetry_hz <= 0 or not evidence.sensors:
        return Unknown("telemetry: nothing was sampled beside the run")
    if evidence.window_ns is None:
        return None
    start, end = evidence.window_ns
    instants = np.concatenate([[start], np.sort(evidence.telemetry_ns), [end]])
    gap = float(np.diff(instants).max()) / 1e9
    # A slow rate is the user's choice, not a gap.
    if gap <= max(threshold, 5 / evidence.telemetry_hz):
        return None
    return Finding(gap, f"telemetry has a gap of {gap:.1f} s in the measured part")


#: Kinds of sensors that the rules above depend on, by the prefix of their names, with their word.
_SENSOR_KINDS = {
    "thermal.": "temperature",
    "clock.": "clock",
    "throttled": "throttling",
    "under_voltage": "under-voltage",
    "cpu_busy_percent": "load",
    "runner_cpu_percent": "the runner's own load",
}


def _sensor_unreadable(evidence: Evidence, threshold: float) -> Finding | None:
    """Count kinds that exist and of which nothing could be read: one broken zone among good ones hides nothing."""
    lost = []
    for prefix, word in _SENSOR_KINDS.items():
        own = [sensor for sensor in evidence.sensors if sensor.name.startswith(prefix)]
        broken = [sensor for sensor in own if sensor.error is not None]
        if broken and len(broken) == len(own):
            lost.append(f"{word} ({broken[0].error})")
    if len(lost) <= threshold:
        return None
    return Finding(len(lost), f"sensors are there and cannot be read: {'; '.join(lost)}")


def _clock_offset(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    offset = evidence.clock_offset_secs
    if offset is None:
        return Unknown("clock offset: it was not measured")
    if abs(offset) <= threshold:
        return None
    return Finding(
        offset, f"the device's UTC clock is {abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}; durations are not affected"
    )


def _matching(evidence: Evidence, prefix: str) -> dict[str, Channel]:
    return {name: channel for name, channel in evidence.channels.items() if name.startswith(prefix) and channel.value.size}


# --- the table ------------------------------------------------------------------------------------------------

_LATENCY = (Scenario.LATENCY,)
_ACCURACY = (Scenario.ACCURACY,)
_BOTH = (Scenario.LATENCY, Scenario.ACCURACY)

#: Every reason there is, in the order in which it is told.
RULES: tuple[Rule, ...] = (
    Rule("emulated_cpu", Validity.INVALID, 0, "", _LATENCY, _emulated_cpu, "an emulator's speed is not the device's"),
    Rule("nothing_measured", Validity.INVALID, 1, "observations", _BOTH, _nothing_measured, "there is no number to trust"),
    Rule("samples_missing", Validity.INVALID, 0, "samples", _ACCURACY, _samples_missing, "a share over another data set is another number"),
    Rule(
        "non_finite_outputs",
        Validity.SEMIVALID,
        0,
        "samples",
        _ACCURACY,
        _non_finite_outputs,
        "the model is measured as it is, but its confidence and error leave these samples out",
    ),
    Rule("throttled", Validity.INVALID, 0, "% of readings", _LATENCY, _throttled, "the device did not run at the speed it was asked for"),
    Rule(
        "under_voltage", Validity.INVALID, 0, "% of readings", _BOTH, _under_voltage, "a starved board slows down and may compute wrongly"
    ),
    Rule(
        "clock_below_max",
        Validity.SEMIVALID,
        95,
        "% of maximum",
        _LATENCY,
        _clock_below_max,
        "the governor or a limit held the clock: faster is possible, and a repeat may be",
    ),
    Rule(
        "start_temperature_out_of_gate",
        Validity.SEMIVALID,
        0,
        "°C outside",
        _LATENCY,
        _start_temperature,
        "a run that starts hot throttles sooner than one that does not",
    ),
    Rule(
        "background_load",
        Validity.SEMIVALID,
        10,
        "% of all CPUs",
        _LATENCY,
        _background_load,
        "other work shares caches, memory and clocks",
    ),
    Rule(
        "high_variation",
        Validity.SEMIVALID,
        2.5,
        "%",
        _LATENCY,
        _high_variation,
        "trtexec warns above this; the mean of an unsteady run does not repeat well",
    ),
    Rule(
        "minimum_not_met",
        Validity.SEMIVALID,
        0,
        "minima missed",
        _LATENCY,
        _minimum_not_met,
        "the maximum duration came first, as LoadGen and MLPerf Mobile grade it",
    ),
    Rule("flush_pauses", Validity.SEMIVALID, 1, "% of steady time", _LATENCY, _flush_pauses, "the harness rested the device and cooled it"),
    Rule(
        "sensor_unreadable",
        Validity.SEMIVALID,
        0,
        "kinds of sensor",
        _LATENCY,
        _sensor_unreadable,
        "what should have been watched was not, so throttling cannot be ruled out",
    ),
    Rule(
        "telemetry_gap",
        Validity.SEMIVALID,
        1,
        "s (or 5 sampling periods)",
        _LATENCY,
        _telemetry_gap,
        "a short throttle or a burst of load may hide in it",
    ),
    Rule(
        "clock_offset", Validity.VALID, 5, "s", _BOTH, _clock_offset, "a note: only the time of day is wrong, every duration is monotonic"
    ),
)
