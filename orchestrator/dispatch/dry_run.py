"""What an experiment would do, and about how long it would take: nothing is kept and nothing is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.protocol import Settings
from orchestrator.dispatch.placement import Placement, Placer
from orchestrator.dispatch.request import QUERY_BYTES, QUERY_STREAM_MOST_BYTES, longest_secs, most_queries
from orchestrator.domain.cells import Cell, expand_cells
from orchestrator.domain.plan import Plan, ScenarioSettings
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.states import Scenario
from orchestrator.domain.times import format_duration
from orchestrator.store.tables import Device, Environment

#: Stated assumptions, in seconds: getting a job to a device, starting it, loading the model and fetching the results.
JOB_OVERHEAD_SECS = 2.0
#: Stated assumption for a model that was not yet measured on a device, in seconds for each query.
ASSUMED_INVOKE_SECS = 0.005


@dataclass(frozen=True)
class DryRunCell:
    """One group of jobs that differ only in repeat and device; ``skipped`` says why some of them cannot run."""

    model: str
    variant: str
    environment: str
    settings: Settings
    scenario: Scenario
    repeats: int
    devices: tuple[str, ...]
    job_count: int
    seconds_each: float
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class DryRun:
    """``jobs_per_device`` counts jobs that would run, ``any`` jobs on the least loaded device; ``expected_finish``: Unix seconds."""

    cells: tuple[DryRunCell, ...]
    job_count: int
    skipped_count: int
    jobs_per_device: dict[str, int]
    device_hours: float
    expected_finish: float
    basis: tuple[str, ...]


def dry_run(
    *,
    plan: Plan,
    spec: ExperimentSpec,
    devices: Sequence[Device],
    environments: Sequence[Environment],
    now: float,
    invoke_secs: Mapping[tuple[str, str], float] | None = None,
) -> DryRun:
    """Return the cells, the jobs of each device, the device-hours and the expected finish.

    ``invoke_secs`` has earlier measured seconds for one query by (SHA-256 of the variant, device name). Raises :class:`SpecError` exactly
    where ``expand`` does.
    """
    placer = Placer(spec, plan, devices, environments)
    cells = expand_cells(spec)
    placer.refuse_hopeless(cells)
    estimate = _Estimate(plan, invoke_secs or {})
    groups: dict[tuple[str, str, str, Settings, Scenario], list[tuple[Placement, float]]] = {}
    repeats: dict[tuple[str, str, str, Settings, Scenario], int] = {}
    busy_secs: dict[str, float] = {}
    jobs: Counter[str] = Counter()
    for cell in cells:
        group = (cell.model, cell.variant, cell.environment, cell.settings, cell.scenario)
        repeats[group] = max(repeats.get(group, 0), cell.repeat + 1)
        for placement in placer.placements(cell):
            device = min(placement.candidates, key=lambda name: (busy_secs.get(name, 0.0), name))
            secs = estimate.seconds(cell, device) if placement.error is None else 0.0
            groups.setdefault(group, []).append((placement, secs))
            if placement.error is None:
                busy_secs[device] = busy_secs.get(device, 0.0) + secs
                jobs[device] += 1
    return DryRun(
        cells=tuple(_cell(group, repeats[group], placed) for group, placed in groups.items()),
        job_count=sum(len(placed) for placed in groups.values()),
        skipped_count=sum(placement.error is not None for placed in groups.values() for placement, _ in placed),
        jobs_per_device=dict(jobs),
        device_hours=sum(busy_secs.values()) / 3600,
        expected_finish=now + max(busy_secs.values(), default=0.0),
        basis=estimate.basis(max(busy_secs, key=lambda name: busy_secs[name], default=None)),
    )


def _cell(group: tuple[str, str, str, Settings, Scenario], repeats: int, placed: list[tuple[Placement, float]]) -> DryRunCell:
    model, variant, environment, settings, scenario = group
    able = [(placement, secs) for placement, secs in placed if placement.error is None]
    return DryRunCell(
        model=model,
        variant=variant,
        environment=environment,
        settings=settings,
        scenario=scenario,
        repeats=repeats,
        devices=tuple(dict.fromkeys(_called(placement) for placement, _ in placed)),
        job_count=len(placed),
        seconds_each=sum(secs for _, secs in able) / len(able) if able else 0.0,
        skipped=tuple(dict.fromkeys(placement.error.message for placement, _ in placed if placement.error is not None)),
    )


def _called(placement: Placement) -> str:
    return placement.candidates[0] if not placement.device_query else "any of " + ", ".join(placement.candidates)


class _Estimate:
    """Seconds for one job, remembering what it was built on."""

    def __init__(self, plan: Plan, invoke_secs: Mapping[tuple[str, str], float]) -> None:
        self._plan = plan
        self._measured = invoke_secs
        self._assumed: set[str] = set()
        self._known = 0
        self._soak_queries = 0.0

    def seconds(self, cell: Cell, device: str) -> float:
        model = self._plan.models[cell.model]
        measured = self._measured.get((model.variants[cell.variant].info.sha256, device))
        settings = self._plan.scenarios[cell.scenario]
        if settings.soak is not None:
            # It is not cut off by the limit: that is what the rest of the job may take beside it.
            self._soak_queries = max(self._soak_queries, most_queries(settings.soak, measured))
            return longest_secs(settings.soak) + JOB_OVERHEAD_SECS
        if cell.scenario == Scenario.ACCURACY:
            if measured is None:
                self._assumed.add(cell.variant)
            else:
                self._known += 1
            run = model.dataset.inputs.sample_count * (ASSUMED_INVOKE_SECS if measured is None else measured)
        else:
            run = _latency_secs(settings, measured or 0.0)
        return min(run, self._plan.limits.timeout_secs) + JOB_OVERHEAD_SECS

    def basis(self, busiest: str | None) -> tuple[str, ...]:
        said = [f"each job: {JOB_OVERHEAD_SECS:g} s to start, load and collect (assumed)"]
        latency = self._plan.scenarios.get(Scenario.LATENCY)
        if latency is not None:
            said.append(
                f"latency: warm-up of {latency.warmup_min_secs:g} s and {latency.min_duration_secs:g} s measured; longer, up to "
                f"{latency.max_duration_secs:g} s, where {latency.min_query_count} queries take longer (known for models measured before)"
            )
        soak = self._plan.scenarios.get(Scenario.SOAK)
        if soak is not None and soak.soak is not None:
            said.append(_soak_basis(soak.soak, self._soak_queries))
        if self._known:
            said.append("accuracy: samples × the time of one query measured earlier on the same device")
        if self._assumed:
            listed = ", ".join(sorted(self._assumed))
            said.append(f"accuracy of {listed}: samples × {ASSUMED_INVOKE_SECS * 1000:g} ms (assumed: never measured there)")
        said.append("every device runs one job at a time and nothing else; what already waits, retries and cooling down are not counted")
        if busiest is not None:
            said.append(f"the finish is that of the busiest device, {busiest}")
        return tuple(said)


def _soak_basis(soak: PlannedSoak, queries: float) -> str:
    most = QUERY_STREAM_MOST_BYTES
    made = "" if math.isinf(queries) else f"; about {queries:,.0f} queries ({_megabytes(min(queries * QUERY_BYTES, most))}) at most"
    return (
        f"soak: {format_duration(longest_secs(soak))} each, parts at their longest, without the wait for a start gate{made}; a query is "
        f"{QUERY_BYTES} bytes on the device and on the way, and a soak ends early at {_megabytes(most)} ({most // QUERY_BYTES:,} queries)"
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _latency_secs(settings: ScenarioSettings, invoke_secs: float) -> float:
    warmup = max(settings.warmup_min_secs, settings.warmup_runs * invoke_secs)
    steady = max(settings.min_duration_secs, settings.min_query_count * invoke_secs)
    return warmup + min(steady, settings.max_duration_secs)
