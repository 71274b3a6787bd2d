"""The checks of validity: each looks at the evidence with its threshold and tells what it found; None means that all is well."""

from __future__ import annotations

import numpy as np

from orchestrator.analysis.telemetry import Channel
from orchestrator.analysis.validity_evidence import Evidence, Finding, Unknown
from orchestrator.domain.states import Emulation, Scenario

#: A soak of which this share was done counts as done: its last query may end a little early.
_WHOLE = 0.99


def emulated_cpu(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.emulated is not Emulation.CPU:
        return None
    return Finding(1, "the CPU is emulated: its latency says nothing of the device and is withheld")


def nothing_measured(evidence: Evidence, threshold: float) -> Finding | None:
    timed = evidence.scenario is not Scenario.ACCURACY
    count = evidence.query_count if timed else evidence.sample_count - evidence.missing_count
    if count >= threshold:
        return None
    return Finding(count, "no steady query was recorded" if timed else "no sample was answered")


def samples_missing(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.missing_count <= threshold:
        return None
    return Finding(evidence.missing_count, f"{evidence.missing_count} of {evidence.sample_count} samples have no answer")


def non_finite_outputs(evidence: Evidence, threshold: float) -> Finding | None:
    count = len(evidence.non_finite_samples)
    if count <= threshold:
        return None
    named = ", ".join(str(sample) for sample in evidence.non_finite_samples[:10]) + (", …" if count > 10 else "")
    return Finding(count, f"{count} samples have NaN or infinite outputs and count as wrong: {named}")


def minimum_not_met(evidence: Evidence, threshold: float) -> Finding | None:
    runner, story = evidence.runner, evidence.story
    if story is not None and story.steady_secs < _WHOLE * story.planned_secs:
        why = f" ({story.stopped})" if story.stopped else ""
        return Finding(1, f"the soak ended after {story.steady_secs:.1f} of {story.planned_secs:g} s{why}")
    missed = [
        words
        for met, words in ((runner.min_duration_met, "the minimum duration"), (runner.min_query_count_met, "the minimum query count"))
        if met is False
    ]
    if len(missed) <= threshold:
        return None
    seconds = runner.steady_ns / 1e9
    return Finding(len(missed), f"{' and '.join(missed)} was not reached: {runner.steady_count} queries in {seconds:.1f} s")


def high_variation(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.cv_percent is None or evidence.cv_percent <= threshold:
        return None
    value = evidence.cv_percent
    return Finding(
        value, f"invoke times vary by {value:.1f} % from query to query (coefficient of variation; above {threshold:g} % is unsteady)"
    )


def flush_pauses(evidence: Evidence, threshold: float) -> Finding | None:
    if evidence.runner.steady_ns <= 0:
        return None
    # The list ends after hours; the total does not, but runs of before have none.
    paused_ns = max(evidence.runner.flush_total_ns, sum(evidence.runner.flush_pauses_ns))
    share = 100 * paused_ns / evidence.runner.steady_ns
    if share <= threshold:
        return None
    return Finding(share, f"writing the trace paused the run for {share:.1f} % of the steady time")


def throttled(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    flags = matching(evidence, "throttled")
    if not flags:
        return Unknown("throttling: no sensor of this machine tells it")
    share = 100 * max(float(np.mean(channel.value > 0)) for channel in flags.values())
    if share <= threshold:
        return None
    return Finding(share, f"the device reported throttling in {share:.0f} % of the readings")


def under_voltage(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    flags = matching(evidence, "under_voltage")
    if not flags:
        return Unknown("under-voltage: no sensor of this machine tells it")
    share = 100 * max(float(np.mean(channel.value > 0)) for channel in flags.values())
    if share <= threshold:
        return None
    return Finding(share, f"the device reported under-voltage in {share:.0f} % of the readings")


def clock_below_max(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    """Judge the fastest domain: the others idle while a single-threaded model runs."""
    shares = [
        100 * float(channel.value.mean()) / evidence.clock_max_khz[policy]
        for name, channel in matching(evidence, "clock.").items()
        if evidence.clock_max_khz.get(policy := name.removeprefix("clock.").removesuffix("_khz"), 0) > 0
    ]
    if not shares:
        return Unknown("clock: this machine shows no clock with a known maximum")
    if max(shares) >= threshold:
        return None
    return Finding(max(shares), f"the fastest clock ran at {max(shares):.0f} % of its maximum on average")


def start_temperature(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
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


def background_load(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    if evidence.story is not None and evidence.story.co_load_workers:
        return Unknown("background load: it cannot be told from the co-load that was asked for")
    busy, own = evidence.channels.get("cpu_busy_percent"), evidence.channels.get("runner_cpu_percent")
    if busy is None or own is None:
        return Unknown("background load: it was not read during the measured part")
    others = float(busy.value.mean()) - float(own.value.mean())
    if others <= threshold:
        return None
    return Finding(others, f"other processes used {others:.0f} % of all CPUs on average")


def telemetry_gap(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    if evidence.telemetry_hz <= 0 or not evidence.sensors:
        return Unknown("telemetry: nothing was sampled beside the run")
    if evidence.window_ns is None:
        return None
    start, end = evidence.window_ns
    instants = np.concatenate([[start], np.sort(evidence.telemetry_ns), [end]])
    gap = float(np.diff(instants).max()) / 1e9
    # A slow rate is the user's choice, not a gap.
    if gap > max(threshold, 5 / evidence.telemetry_hz):
        return Finding(gap, f"telemetry has a gap of {gap:.1f} s in the measured part")
    control = evidence.story.control_channel if evidence.story is not None else None
    if control is None:
        return None
    # Other channels may have gone on while the one that a soak is judged by was silent.
    read = evidence.channels.get(control)
    steps = np.diff(np.concatenate([[start], read.time_ns if read is not None else [], [end]])) / 1e9
    gap = float(steps.max())
    if gap <= max(threshold, 5 / evidence.telemetry_hz, 5 * float(np.median(steps)) if steps.size > 2 else 0.0):
        return None
    return Finding(gap, f"{control}, by which the soak is judged, has a gap of {gap:.1f} s in the measured part")


#: Kinds of sensors that the rules above depend on, by the prefix of their names, with their word.
_SENSOR_KINDS = {
    "thermal.": "temperature",
    "clock.": "clock",
    "throttled": "throttling",
    "under_voltage": "under-voltage",
    "cpu_busy_percent": "load",
    "runner_cpu_percent": "the runner's own load",
}


def sensor_unreadable(evidence: Evidence, threshold: float) -> Finding | None:
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


def sensor_stuck(evidence: Evidence, threshold: float) -> Finding | None:
    faults = [fault for fault in evidence.story.sensor_faults if fault.stood_still] if evidence.story else []
    if len(faults) <= threshold:
        return None
    return Finding(len(faults), "; ".join(f"{fault.channel} {fault.words}" for fault in faults))


def numbers_changed(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    probe = evidence.story.probe if evidence.story else None
    if probe is None or probe.verdict in ("stable", "not asked"):
        return None
    if probe.verdict == "undetermined":
        return Unknown(f"whether the numbers change with heat: {probe.words}")
    return Finding(len(probe.changes), probe.words) if len(probe.changes) > threshold else None


def clock_offset(evidence: Evidence, threshold: float) -> Finding | Unknown | None:
    offset = evidence.clock_offset_secs
    if offset is None:
        return Unknown("clock offset: it was not measured")
    if abs(offset) <= threshold:
        return None
    return Finding(
        offset, f"the device's UTC clock is {abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}; durations are not affected"
    )


def matching(evidence: Evidence, prefix: str) -> dict[str, Channel]:
    return {name: channel for name, channel in evidence.channels.items() if name.startswith(prefix) and channel.value.size}
