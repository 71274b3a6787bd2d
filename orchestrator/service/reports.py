"""Gathers what a report shows (results, distributions, comparisons, telemetry, soaks) and writes it as one HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from agent import protocol
from orchestrator import __version__
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Emulation, Scenario
from orchestrator.report.inputs import LatencyDistribution, ReportExtras, ReportInput, TelemetrySeries
from orchestrator.report.page import render_report
from orchestrator.report.reduce import reduce_latency, reduce_telemetry
from orchestrator.service.context import Context
from orchestrator.service.devices import untried_profiles
from orchestrator.service.evidence import Evidence
from orchestrator.service.export import write_atomically
from orchestrator.service.pairwise import compare_across_places, compare_with_references
from orchestrator.service.thermal_figures import experiment_panels
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes
from orchestrator.store.tables import Experiment
from orchestrator.store.traces import read_trace

#: What a latency distribution needs of the ``queries`` trace; the rest is not read.
_LATENCY_COLUMNS = ("phase", "pre_ns", "invoke_ns", "post_ns")


def write_report(context: Context, experiment_id: str, path: Path) -> Path:
    """Write the report of an experiment to ``path``, whole or not at all, and return the file's full path.

    Raises :class:`agent.errors.DiskFull` or :class:`agent.errors.FolderUnwritable`.
    """
    page = render_report(gather(context, experiment_id))
    write_atomically(path, page.encode("utf-8", "replace"))
    return path.resolve()


def gather(context: Context, experiment_id: str) -> ReportInput:
    """Return everything that the report of one experiment shows; of one that still runs, what there is."""
    with read_session(context.engine) as opened:
        experiment = opened.get_one(Experiment, experiment_id)
        envelopes = load_envelopes(opened, experiment_id=experiment_id)
    evidence = Evidence(context.engine, context.artifacts)
    extras = ReportExtras(
        latencies=tuple(latency_distributions(envelopes, context.artifacts)),
        comparisons=(*compare_with_references(envelopes, evidence), *compare_across_places(envelopes, evidence)),
        telemetry=tuple(telemetry_series(envelopes, context.artifacts)),
        soaks=tuple(experiment_panels(context, envelopes)),
        spec_file=experiment.spec_file,
        spec_text=experiment.spec_text,
        untried_profiles=untried_profiles(),
        command=f"edgematrix run {shlex.quote(experiment.spec_file)}",
    )
    generated = datetime.fromtimestamp(context.clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return ReportInput(results=envelopes, extras=extras, edgematrix_version=__version__, generated_utc=generated)


def latency_distributions(envelopes: Iterable[ResultEnvelope], artifacts: ArtifactStore) -> Iterator[LatencyDistribution]:
    """Yield the distribution of every measured latency job; none of an emulated CPU, whose times are withheld."""
    for envelope in envelopes:
        trace = envelope.traces.get(protocol.QUERIES)
        emulated = envelope.device is not None and envelope.device.emulated is Emulation.CPU
        if envelope.job.scenario is not Scenario.LATENCY or trace is None or emulated:
            continue
        reduced = reduce_latency(envelope.job.id, read_trace(artifacts, trace.sha256, _LATENCY_COLUMNS))
        if reduced is not None:
            yield reduced


def telemetry_series(envelopes: Sequence[ResultEnvelope], artifacts: ArtifactStore) -> Iterator[TelemetrySeries]:
    """Yield every sensor's series of every latency job; accuracy jobs are not timed, so theirs would say nothing."""
    for envelope in envelopes:
        trace = envelope.traces.get(protocol.TELEMETRY)
        if envelope.job.scenario is not Scenario.LATENCY or trace is None or envelope.attempt is None:
            continue
        columns = read_trace(artifacts, trace.sha256)
        for index, sensor in enumerate(envelope.attempt.sensors):
            rows = np.asarray(columns["sensor"]) == index
            reduced = reduce_telemetry(envelope.job.id, sensor.name, sensor.unit, columns["time_ns"][rows], columns["value"][rows])
            if reduced is not None:
                yield reduced
