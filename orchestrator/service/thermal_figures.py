"""What the figures of soaks are drawn from: their stories, and everything they recorded, reduced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.analysis.thermal_run import lay_out
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Scenario
from orchestrator.domain.thermal import ThermalStory
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.reduce_thermal import reduce_soak, shown_story
from orchestrator.service.context import Context
from orchestrator.service.thermal import LoadedSoak, NoTrace, load_soak, tell_soak


def thermal_panels(context: Context, job_ids: Iterable[str]) -> list[ThermalPanel]:
    """Return what is drawn of soak jobs, one after the other: the traces of one lie in memory at a time.

    Raises :class:`orchestrator.service.thermal.NoSoak` for a job that is none and :class:`~orchestrator.service.thermal.NoTrace` for one
    that left nothing.
    """
    return [_told(load_soak(context, job_id)) for job_id in job_ids]


def experiment_panels(context: Context, envelopes: Iterable[ResultEnvelope]) -> Iterator[ThermalPanel]:
    """Yield what is drawn of every soak among the envelopes that left anything, also of attempts that were cut short."""
    for envelope in envelopes:
        if envelope.job.scenario is Scenario.SOAK:
            try:
                yield _told(load_soak(context, envelope.job.id))
            except NoTrace:
                continue


def panel_of(run: LoadedSoak, story: ThermalStory) -> ThermalPanel:
    """Return what is drawn of one attempt whose story has been told."""
    laid_out = lay_out(
        streams=run.streams, outcome=run.outcome, soak=run.soak, emulated=run.emulated, complete=run.complete, telemetry_hz=run.telemetry_hz
    )
    return ThermalPanel(
        variant=run.envelope.variant.name,
        device=run.device or "no device",
        story=shown_story(story, run.emulated),
        series=reduce_soak(story, laid_out),
        emulated=run.emulated,
        repeat=run.envelope.job.repeat,
    )


def _told(run: LoadedSoak) -> ThermalPanel:
    return panel_of(run, tell_soak(run))
