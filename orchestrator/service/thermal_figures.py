"""What the figures of soaks are drawn from: their stories, and everything they recorded, reduced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.analysis.thermal_run import lay_out
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Scenario
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.reduce_thermal import reduce_soak
from orchestrator.service.context import Context
from orchestrator.service.thermal import NoTrace, load_soak, tell_soak


def thermal_panels(context: Context, job_ids: Iterable[str], attempt: int | None = None) -> list[ThermalPanel]:
    """Return what is drawn of soak jobs, one after the other: the traces of one lie in memory at a time.

    Raises :class:`orchestrator.service.thermal.NoSoak` for a job that is none and :class:`~orchestrator.service.thermal.NoTrace` for one
    that left nothing.
    """
    return [_panel(context, job_id, attempt) for job_id in job_ids]


def experiment_panels(context: Context, envelopes: Iterable[ResultEnvelope]) -> Iterator[ThermalPanel]:
    """Yield what is drawn of every soak among the envelopes that left anything, also of attempts that were cut short."""
    for envelope in envelopes:
        if envelope.job.scenario is Scenario.SOAK:
            try:
                yield _panel(context, envelope.job.id, None)
            except NoTrace:
                continue


def _panel(context: Context, job_id: str, attempt: int | None) -> ThermalPanel:
    run = load_soak(context, job_id, attempt)
    story = tell_soak(context, run)
    laid_out = lay_out(
        streams=run.streams, outcome=run.outcome, soak=run.soak, emulated=run.emulated, complete=run.complete, telemetry_hz=run.telemetry_hz
    )
    return ThermalPanel(
        variant=run.envelope.variant.name,
        device=run.device or "no device",
        story=story,
        series=reduce_soak(story, laid_out),
        emulated=run.emulated,
        repeat=run.envelope.job.repeat,
    )
