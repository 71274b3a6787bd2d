"""The power trace of an external meter: read, aligned, kept as an artifact, attached to a job's attempt, and measured with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent import protocol
from agent.errors import ConfigurationError
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.measuring import remeasure
from orchestrator.domain.thermal import ThermalStory
from orchestrator.service.context import Context
from orchestrator.service.power_alignment import Alignment, AlignmentFailed, align_by_clock, align_by_marker
from orchestrator.service.power_csv import Mapping, MeterTrace, read_power_csv
from orchestrator.service.thermal import LoadedSoak, load_soak, story
from orchestrator.store.artifacts import ArtifactRef, record_artifacts
from orchestrator.store.database import session as open_session
from orchestrator.store.imported import POWER
from orchestrator.store.tables import ImportedTrace
from orchestrator.store.traces import publish_trace


@dataclass(frozen=True)
class PowerImport:
    """What an import came to. ``covered_percent`` is how much of the steady part the trace spans; ``story`` is told with it."""

    job_id: str
    attempt: int
    source: str
    rows: int
    alignment: Alignment
    covered_percent: float
    story: ThermalStory


def import_power(
    context: Context, job_id: str, path: Path, mapping: Mapping, *, meter_offset_secs: float | None, attempt: int | None = None
) -> PowerImport:
    """Attach a meter's CSV file to an attempt; the last one attached counts. The job's metrics are made anew with it.

    ``meter_offset_secs`` is the meter's clock less this computer's; None aligns on the marker load. Raises PowerTraceInvalid,
    :class:`AlignmentFailed`, and what loading the attempt raises; nothing is kept then.
    """
    run = load_soak(context, job_id, attempt)
    trace = read_power_csv(path, mapping)
    alignment = _align(run, trace, meter_offset_secs)
    time_ns = alignment.device_ns(trace.time_secs)
    covered = _covered_percent(run, time_ns)
    if covered <= 0:
        raise AlignmentFailed(
            f"{path} does not overlap the measured part of {job_id}: it {_where(run, time_ns)}",
            "is it the trace of this run, and --time-unit or --clock-offset what it says?",
        )
    info = publish_trace(context.artifacts, {"time_ns": time_ns, "power_mw": trace.power_mw})
    source = f"{path.name}, {mapping.words()}"
    now = context.clock()
    with open_session(context.engine) as session:
        record_artifacts(session, [ArtifactRef(info.sha256, info.size_bytes, "trace")], now)
        session.add(
            ImportedTrace(
                job_id=job_id,
                attempt=run.attempt.number,
                kind=POWER,
                sha256=info.sha256,
                size_bytes=info.size_bytes,
                rows=info.rows,
                source=source,
                alignment=asdict(alignment),
                actor=context.actor,
                at=now,
            )
        )
        note_change(session, "job", job_id, "power", f"external: {info.sha256[:12]}", context.actor, now, source)
    if run.complete:
        remeasure(context.engine, context.artifacts, run.plan, job_id)
    return PowerImport(job_id, run.attempt.number, source, info.rows, alignment, covered, story(context, job_id, run.attempt.number))


def _align(run: LoadedSoak, trace: MeterTrace, meter_offset_secs: float | None) -> Alignment:
    if meter_offset_secs is None:
        events: dict[str, Any] = run.streams.get(protocol.EVENTS) or {"code": [], "time_ns": [], "value": []}
        return align_by_marker(trace, events)
    attempt = run.attempt
    return align_by_clock(
        trace, run.outcome.conditions, attempt.clock_offset_secs, attempt.clock_offset_uncertainty_secs, meter_offset_secs
    )


def _steady_ns(run: LoadedSoak) -> tuple[int, int]:
    """When the measured part began and ended, raw monotonic nanoseconds of the device."""
    queries = run.streams[protocol.QUERIES]
    steady = np.flatnonzero(queries["phase"] == protocol.PHASES.index("steady"))
    if not len(steady) or run.outcome.runner is None:
        raise _NoSteadyPart(f"{run.job_id} has no query of its measured part", "attach a trace to a run that was measured")
    origin = run.outcome.runner.origin_monotonic_ns
    return origin + int(queries["start_ns"][steady[0]]), origin + int(queries["start_ns"][steady[-1]])


class _NoSteadyPart(ConfigurationError):
    code = "no_steady_part"


def _covered_percent(run: LoadedSoak, time_ns: np.ndarray[Any, Any]) -> float:
    begin, end = _steady_ns(run)
    both = min(end, int(time_ns[-1])) - max(begin, int(time_ns[0]))
    return 100.0 * max(0, both) / max(1, end - begin)


def _where(run: LoadedSoak, time_ns: np.ndarray[Any, Any]) -> str:
    begin, end = _steady_ns(run)
    if time_ns[-1] < begin:
        return f"ends {(begin - int(time_ns[-1])) / 1e9:.1f} s before it begins"
    return f"begins {(int(time_ns[0]) - end) / 1e9:.1f} s after its end"
