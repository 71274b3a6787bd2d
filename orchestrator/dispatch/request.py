"""From a job row and its experiment's plan to the request the agent gets. Deterministic: asking twice gives the same request."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agent import protocol
from orchestrator.domain.plan import Plan, PlannedModel, PlannedVariant
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Scenario, TaskKind
from orchestrator.store.tables import Job

#: What a query of four stamps takes in its spool (``agent.spool``).
QUERY_BYTES = 21
#: A soak ends before its time when its queries take so much room on the device.
QUERY_STREAM_MOST_BYTES = protocol.SoakSettings(0.0).max_queries_bytes

_SPARE_BYTES = 1024 * 1024
#: Three times a second of load and one of rest, before the load and after the cool-down.
_MARKER_SECS = 12.0
#: A row of ``probes``, and what a block of few rows costs beside it.
_PROBE_BYTES = sum(np.dtype(kind).itemsize for _, kind in protocol.PROBE_COLUMNS) + 64


def planned_variant(plan: Plan, job: Job) -> tuple[PlannedModel, PlannedVariant]:
    """The model and the variant a job runs."""
    model = plan.models[job.model]
    return model, model.variants[job.variant]


def build_request(plan: Plan, job: Job, interpreter: Sequence[str], attempt: int, fence: int) -> protocol.RunRequest:
    """Build the request for one attempt; ``interpreter`` is the command prefix of the job's environment on its device."""
    model, variant = planned_variant(plan, job)
    scenario = plan.scenarios[Scenario(job.scenario)]
    inputs = model.dataset.inputs
    is_accuracy = job.scenario == Scenario.ACCURACY
    return protocol.RunRequest(
        protocol=protocol.PROTOCOL_VERSION,
        job_id=job.id,
        attempt=attempt,
        fence=fence,
        scenario=job.scenario,
        task=model.task.kind,
        scores=model.task.scores,
        model=protocol.ContentRef(variant.info.sha256, variant.info.size_bytes),
        runtime=variant.info.runtime,
        inputs=protocol.InputsRef(
            protocol.ContentRef(inputs.sha256, inputs.size_bytes), inputs.sample_count, list(inputs.sample_shape), inputs.dtype
        ),
        steps=[dict(step) for step in variant.steps],
        settings=protocol.Settings(job.num_threads, job.provider, job.graph_optimization),
        load=protocol.LoadSettings(
            warmup_min_secs=scenario.warmup_min_secs,
            warmup_runs=scenario.warmup_runs,
            min_duration_secs=scenario.min_duration_secs,
            min_query_count=scenario.min_query_count,
            max_duration_secs=scenario.max_duration_secs,
        ),
        interpreter=list(interpreter),
        timeout_secs=plan.limits.timeout_secs + (longest_secs(scenario.soak) if scenario.soak else 0.0),
        class_count=model.dataset.info.class_count if is_accuracy else None,
        top_k=model.task.top_k,
        full_outputs=is_accuracy and (scenario.full_outputs or model.task.kind == TaskKind.TENSOR),
        telemetry_hz=telemetry_hz(plan, job),
        soak=None if scenario.soak is None else _soak(scenario.soak, inputs.sample_count),
        orphan_after_secs=plan.limits.orphan_after_secs,
    )


def telemetry_hz(plan: Plan, job: Job) -> float:
    """How often the device's sensors are read beside this job."""
    soak = plan.scenarios[Scenario(job.scenario)].soak
    return (soak.telemetry_hz if soak is not None else None) or plan.telemetry_hz


def _soak(asked: PlannedSoak, sample_count: int) -> protocol.SoakSettings:
    precondition, probe = asked.precondition, asked.probe
    return protocol.SoakSettings(
        duration_secs=asked.duration_secs,
        pattern=_pattern(asked),
        probe=None if probe is None else protocol.ProbeSettings(min(probe.samples, sample_count), probe.every_secs, probe.cold_rounds),
        co_load=protocol.CoLoad(asked.co_load.cpu_workers, asked.co_load.memory_workers),
        idle_secs=asked.idle_secs,
        precondition_secs=precondition.secs if precondition else 0.0,
        precondition_until_c=precondition.until_c if precondition else None,
        cooldown_secs=asked.cooldown.secs,
        cooldown_until_c=asked.cooldown.until_c,
        stop_above_c=asked.stop.above_c,
        stop_below_battery_percent=asked.stop.below_battery_percent,
        marker=asked.marker,
        control_sensor=asked.control_sensor,
    )


def _pattern(asked: PlannedSoak) -> protocol.LoadPattern:
    pattern = asked.pattern
    if isinstance(pattern, str):
        return protocol.LoadPattern("flat_out")
    if pattern.fixed_rate is not None:
        return protocol.LoadPattern("fixed_rate", rate_hz=pattern.fixed_rate.rate_hz)
    if pattern.duty_cycle is not None:
        return protocol.LoadPattern("duty_cycle", on_secs=pattern.duty_cycle.on_secs, off_secs=pattern.duty_cycle.off_secs)
    if pattern.thermal_cycle is not None:
        return protocol.LoadPattern("thermal_cycle", low_c=pattern.thermal_cycle.low_c, high_c=pattern.thermal_cycle.high_c)
    assert pattern.recorded is not None
    return protocol.LoadPattern("recorded", arrivals_secs=list(asked.arrivals_secs), cycle_secs=pattern.recorded.cycle_secs)


def longest_secs(asked: PlannedSoak) -> float:
    """How long a soak lasts at most by its own rules; the limit of the spec is what the rest may take."""
    before = asked.idle_secs + (asked.precondition.secs if asked.precondition else 0.0)
    marker = _MARKER_SECS if asked.marker else 0.0
    return before + asked.warmup_min_secs + asked.duration_secs + asked.cooldown.secs + marker


def most_queries(asked: PlannedSoak, invoke_secs: float | None) -> float:
    """How many queries the measured part of a soak asks at most; infinity when that depends on a model that was never measured."""
    pattern = asked.pattern
    if not isinstance(pattern, str):
        if pattern.fixed_rate is not None:
            return pattern.fixed_rate.rate_hz * asked.duration_secs
        if pattern.recorded is not None:
            return len(asked.arrivals_secs) * math.ceil(asked.duration_secs / pattern.recorded.cycle_secs)
    return asked.duration_secs / invoke_secs if invoke_secs else math.inf


def stream_limit(plan: Plan, job: Job, stream: str) -> int:
    """How many bytes of a stream this job can honestly produce, with room to spare; a device that sends more is not believed."""
    model, _ = planned_variant(plan, job)
    samples = model.dataset.inputs.sample_count
    per_sample = {protocol.SAMPLES: 64 + 16 * model.task.top_k, protocol.OUTPUTS: 4 * 4096 * 64}
    if stream in per_sample:
        return min(protocol.MAX_STREAM_BYTES, _SPARE_BYTES + 2 * samples * per_sample[stream])
    soak = plan.scenarios[Scenario(job.scenario)].soak
    if soak is not None and stream == protocol.QUERIES:
        # The runner stops at the bound; what it had in hand comes on top.
        return min(protocol.MAX_STREAM_BYTES, QUERY_STREAM_MOST_BYTES + 64 * _SPARE_BYTES)
    if stream == protocol.PROBES:
        return min(protocol.MAX_STREAM_BYTES, _SPARE_BYTES + 2 * _PROBE_BYTES * _probe_queries(soak, samples))
    return protocol.MAX_STREAM_BYTES


def _probe_queries(soak: PlannedSoak | None, sample_count: int) -> int:
    if soak is None or soak.probe is None:
        return 0
    rounds = soak.probe.cold_rounds + soak.duration_secs / soak.probe.every_secs + 2
    return int(rounds * min(soak.probe.samples, sample_count))


def required_streams(plan: Plan, job: Job) -> tuple[str, ...]:
    """The streams without which a completed run of this job is no measurement."""
    soak = plan.scenarios[Scenario(job.scenario)].soak
    if soak is not None:
        return (protocol.QUERIES, protocol.TELEMETRY, *((protocol.PROBES,) if soak.probe is not None else ()))
    if job.scenario != Scenario.ACCURACY:
        return (protocol.QUERIES,)
    full = plan.scenarios[Scenario.ACCURACY].full_outputs or plan.models[job.model].task.kind == TaskKind.TENSOR
    return (protocol.QUERIES, protocol.SAMPLES, protocol.OUTPUTS) if full else (protocol.QUERIES, protocol.SAMPLES)
