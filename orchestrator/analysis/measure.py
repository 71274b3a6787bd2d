"""The one place where metrics are made: from the streams and the outcome of one completed run to its metrics and its validity.

Nothing here is random and nothing looks at a clock: the same traces give the same metrics, so ``recompute`` may run at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.protocol import OUTPUTS, PHASES, QUERIES, SAMPLES, TELEMETRY, RunnerReport, RunOutcome
from orchestrator.analysis.evaluators import EVALUATORS, EvaluationInput
from orchestrator.analysis.latency import LatencySummary, latency_metrics, summarize_latency
from orchestrator.analysis.metric_names import METRICS
from orchestrator.analysis.samples import SampleAnswers, check_samples
from orchestrator.analysis.streams import Columns, checked_queries, checked_telemetry
from orchestrator.analysis.telemetry import split_channels
from orchestrator.analysis.thermal import tell
from orchestrator.analysis.thermal_clock import clock_maxima
from orchestrator.analysis.thermal_energy import ExternalPower
from orchestrator.analysis.validity import Evidence, assess
from orchestrator.domain.results import Metric, ValidityRecord
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Emulation, Scenario, TaskKind
from orchestrator.domain.thermal import ThermalStory

#: Raised whenever the same traces give other metrics. 1 first release; 2 soaks.
ANALYSIS_VERSION = 2

EMULATED_CPU = "emulated CPU: latency withheld"


@dataclass(frozen=True)
class Measured:
    """What one run says: its metrics in the order of METRICS, and how far they may be trusted."""

    metrics: tuple[Metric, ...]
    validity: ValidityRecord


def compute(
    *,
    scenario: Scenario,
    task: TaskKind,
    sample_count: int,
    streams: Mapping[str, Columns],
    outcome: RunOutcome,
    emulated: Emulation = Emulation.NONE,
    class_names: tuple[str, ...] = (),
    answers: Columns | None = None,
    reference_outputs: Columns | None = None,
    telemetry_hz: float = 0.0,
    clock_offset_secs: float | None = None,
    start_gate_c: tuple[float, float] | None = None,
    soak: PlannedSoak | None = None,
    limit_c: float | None = None,
    external_power: ExternalPower | None = None,
) -> Measured:
    """Compute metrics and validity of one completed run.

    ``streams`` maps the names of ``agent.protocol.STREAMS`` to columns (arrays or a DataFrame); a missing stream is an empty one.
    ``answers`` has ``label`` and one column per slice, ``sample_count`` rows. ``reference_outputs`` is the ``outputs`` stream of the
    reference variant, for the tensor task. ``clock_offset_secs`` is the device's UTC less the orchestrator's. A soak needs its settings;
    ``limit_c`` is where its device begins to slow down, ``external_power`` what a meter of its own measured. Raises DeviceReplyInvalid
    when a stream breaks the protocol.
    """
    runner = outcome.runner or RunnerReport()
    queries = checked_queries(streams.get(QUERIES))
    summary = summarize_latency(queries)
    common = _common_metrics(runner, summary, emulated)
    samples: SampleAnswers | None = None
    story: ThermalStory | None = None
    if scenario in (Scenario.LATENCY, Scenario.SOAK):
        metrics = [*common, *(_withheld(latency_metrics(summary)) if emulated is Emulation.CPU else latency_metrics(summary))]
        if scenario is Scenario.SOAK:
            story = _story(soak, streams, outcome, limit_c, emulated, telemetry_hz, external_power)
            metrics += story.scalars
    else:
        answered = streams.get(SAMPLES)
        samples = check_samples(_no_samples() if answered is None else answered, sample_count)
        given = EvaluationInput(samples, answers, class_names, streams.get(OUTPUTS), reference_outputs)
        metrics = [*common, *_sample_metrics(samples), *EVALUATORS[task](given)]
    evidence = _evidence(
        scenario,
        emulated,
        runner,
        outcome,
        queries,
        summary,
        samples,
        streams.get(TELEMETRY),
        telemetry_hz,
        clock_offset_secs,
        start_gate_c,
        soak.gate.sensor if soak is not None and soak.gate is not None else None,
        story,
    )
    return Measured(tuple(_finite(metric) for metric in metrics), assess(evidence))


def _no_samples() -> Columns:
    return {
        "sample": np.empty(0, dtype=np.uint32),
        "digest": np.empty(0, dtype=np.uint64),
        "finite": np.empty(0, dtype=np.uint8),
        "confidence": np.empty(0, dtype=np.float32),
    }


def _common_metrics(runner: RunnerReport, summary: LatencySummary, emulated: Emulation) -> list[Metric]:
    first_ms = summary.first_ms if summary.first_ms is not None else _scaled(runner.first_query_ns, 1e6)
    model_bytes = (
        runner.peak_rss_bytes - runner.rss_before_load_bytes
        if runner.peak_rss_bytes is not None and runner.rss_before_load_bytes is not None
        else None
    )
    unreported = "the runner did not report it"
    metrics = (
        _plain("init_ms", _scaled(runner.load_ns, 1e6), unreported),
        _plain("first_ms", first_ms, unreported),
        _plain("peak_rss_mb", _scaled(runner.peak_rss_bytes, 1e6), unreported),
        _plain("model_rss_mb", _scaled(model_bytes, 1e6), unreported),
    )
    if emulated is not Emulation.CPU:
        return list(metrics)
    with_emulator = "emulated CPU: memory holds the emulator too"
    return [*_withheld(metrics[:2]), *(_plain(metric.name, None, with_emulator) for metric in metrics[2:])]


def _story(
    soak: PlannedSoak | None,
    streams: Mapping[str, Columns],
    outcome: RunOutcome,
    limit_c: float | None,
    emulated: Emulation,
    telemetry_hz: float,
    external_power: ExternalPower | None,
) -> ThermalStory:
    if soak is None:
        raise ValueError("a soak is measured with the settings it was planned with")
    return tell(
        job_id=outcome.job_id,
        attempt=outcome.attempt,
        streams=streams,
        outcome=outcome,
        soak=soak,
        limit_c=limit_c,
        emulated=emulated,
        telemetry_hz=telemetry_hz,
        external_power=external_power,
    )


def _sample_metrics(samples: SampleAnswers) -> list[Metric]:
    return [
        _plain("sample_count", float(samples.sample.size), ""),
        _plain("non_finite_count", float(len(samples.non_finite_samples)), ""),
    ]


def _evidence(
    scenario: Scenario,
    emulated: Emulation,
    runner: RunnerReport,
    outcome: RunOutcome,
    queries: Columns,
    summary: LatencySummary,
    samples: SampleAnswers | None,
    telemetry: Columns | None,
    telemetry_hz: float,
    clock_offset_secs: float | None,
    start_gate_c: tuple[float, float] | None,
    gate_sensor: str | None,
    story: ThermalStory | None,
) -> Evidence:
    telemetry = checked_telemetry(telemetry, runner.origin_monotonic_ns)
    window = _measured_window(queries, "accuracy" if scenario is Scenario.ACCURACY else "steady")
    whole = split_channels(telemetry, outcome.sensors)
    time_ns = np.asarray(telemetry["time_ns"])
    channels = whole
    if window is not None:
        cut = {name: channel.between(*window) for name, channel in whole.items()}
        channels = {name: channel for name, channel in cut.items() if channel.value.size}
        time_ns = time_ns[(time_ns >= window[0]) & (time_ns <= window[1])]
    return Evidence(
        scenario=scenario,
        emulated=emulated,
        runner=runner,
        sensors=outcome.sensors,
        channels=channels,
        telemetry_ns=np.unique(time_ns),
        telemetry_hz=telemetry_hz,
        window_ns=window,
        start_c={
            name: float(channel.value[0])
            for name, channel in whole.items()
            # As the gate: a battery is no zone of the processor.
            if (name == gate_sensor if gate_sensor is not None else name.startswith("thermal.") and not name.startswith("thermal.battery"))
        },
        start_gate_c=start_gate_c,
        clock_max_khz=clock_maxima(outcome.conditions),
        clock_offset_secs=clock_offset_secs,
        query_count=summary.query_count,
        cv_percent=summary.cv_percent if emulated is not Emulation.CPU else None,
        sample_count=samples.sample_count if samples else 0,
        missing_count=samples.missing_count if samples else 0,
        non_finite_samples=samples.non_finite_samples if samples else (),
        story=story,
    )


def _measured_window(queries: Columns, phase: str) -> tuple[int, int] | None:
    """Return the first start and the last end of a phase, None when it has no query."""
    rows = np.flatnonzero(np.asarray(queries["phase"]) == PHASES.index(phase))
    if rows.size == 0:
        return None
    last = int(rows[-1])
    end = sum(int(np.asarray(queries[name])[last]) for name in ("start_ns", "pre_ns", "invoke_ns", "post_ns"))
    return int(np.asarray(queries["start_ns"])[rows[0]]), end


def _scaled(value: int | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _plain(name: str, value: float | None, cause: str) -> Metric:
    return Metric(name=name, value=value, unit=METRICS[name].unit, cause=cause if value is None else None)


def _withheld(metrics: tuple[Metric, ...]) -> list[Metric]:
    """Blank what tells a time; counts stay, for they are true under emulation too."""
    return [
        metric
        if metric.name in ("query_count", "warmup_count")
        else Metric(name=metric.name, value=None, unit=metric.unit, cause=EMULATED_CPU)
        for metric in metrics
    ]


def _finite(metric: Metric) -> Metric:
    """JSON and SQL hold no NaN; a number that is none becomes absent."""
    if all(value is None or math.isfinite(value) for value in (metric.value, metric.low, metric.high)):
        return metric
    return Metric(name=metric.name, value=None, unit=metric.unit, count=metric.count, cause="the result is not a finite number")
