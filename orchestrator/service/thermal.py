"""The thermal story of a soak: which job is meant, what its attempts left, and the story made anew from their traces."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlmodel import col, select

from agent import protocol
from agent.errors import ConfigurationError
from agent.protocol import RunOutcome
from orchestrator.analysis.thermal import tell
from orchestrator.analysis.thermal_energy import ExternalPower
from orchestrator.dispatch.measuring import Streams, external_power, limit_of, load_streams
from orchestrator.domain.plan import Plan
from orchestrator.domain.results import ErrorInfo, ResultEnvelope
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Emulation, Scenario
from orchestrator.domain.thermal import ThermalStory
from orchestrator.report.reduce_thermal import shown_story
from orchestrator.service import selection
from orchestrator.service.context import Context
from orchestrator.service.experiments import UnknownExperiment
from orchestrator.store.database import read_session
from orchestrator.store.imported import POWER, latest_import
from orchestrator.store.results import AttemptRecord, load_attempts, load_envelopes
from orchestrator.store.tables import Experiment, ImportedTrace, Job


class NoSoak(ConfigurationError):
    code = "no_soak"


class NoTrace(ConfigurationError):
    code = "no_trace"


@dataclass(frozen=True)
class AttemptLine:
    """One attempt of a job; ``kept`` tells whether it left something to tell a story of."""

    number: int
    status: str
    kept: bool
    complete: bool
    error: ErrorInfo | None


@dataclass(frozen=True)
class LoadedSoak:
    """One attempt of a soak job with all that its story is made of. ``limit_c`` is the profile's.

    ``power`` is the record of an imported trace, ``external_power`` the trace itself.
    """

    envelope: ResultEnvelope
    attempt: AttemptRecord
    attempts: tuple[AttemptLine, ...]
    outcome: RunOutcome
    soak: PlannedSoak
    plan: Plan
    streams: Streams
    limit_c: float | None
    power: ImportedTrace | None
    external_power: ExternalPower | None

    @property
    def job_id(self) -> str:
        return self.envelope.job.id

    @property
    def complete(self) -> bool:
        return self.attempt.complete

    @property
    def device(self) -> str:
        return self.envelope.device.name if self.envelope.device else ""

    @property
    def emulated(self) -> Emulation:
        return self.envelope.device.emulated if self.envelope.device else Emulation.NONE

    @property
    def telemetry_hz(self) -> float:
        return self.soak.telemetry_hz or self.plan.telemetry_hz


def find_soaks(context: Context, text: str) -> tuple[ResultEnvelope, ...]:
    """Return the soak jobs that a text means: a job's id or a unique beginning of one, or a selection as of ``edgematrix compare``.

    Raises :class:`NoSoak` when it means no soak, and what a selection raises.
    """
    with read_session(context.engine) as opened:
        begins = opened.exec(select(Job.id).where(col(Job.id).startswith(text, autoescape=True)).limit(2)).all()
        meant = load_envelopes(opened, job_ids=begins) if len(begins) == 1 else []
    try:
        found = tuple(meant) or selection.select(context, text).envelopes
    except UnknownExperiment as error:
        raise UnknownExperiment(f"no job and no experiment begins with {text!r}", "edgematrix list; edgematrix show EXPERIMENT") from error
    soaks = tuple(item for item in found if item.job.scenario is Scenario.SOAK)
    if not soaks:
        what = f"{text} is a run of the scenario {found[0].job.scenario.value}" if len(found) == 1 else f"{text} has no soak"
        raise NoSoak(what, "a spec asks for one with `scenarios: {soak: {}}`: docs/thermal.md")
    return soaks


def find_soak(context: Context, text: str) -> str:
    """Return the id of the one soak job that a text means. Raises :class:`NoSoak` also when it means several, and names them."""
    found = find_soaks(context, text)
    if len(found) > 1:
        some = ", ".join(f"{item.job.id} ({item.variant.name} on {item.device.name if item.device else 'no device'})" for item in found[:6])
        raise NoSoak(f"{text} means {len(found)} soaks: {some}{', …' if len(found) > 6 else ''}", "name one of these jobs")
    return found[0].job.id


def load_soak(context: Context, job_id: str, attempt: int | None = None) -> LoadedSoak:
    """Load one attempt of a soak job: the one asked for, else the one measured, else the last that left anything.

    Raises :class:`NoSoak` for a job that is none, and :class:`NoTrace` when the attempt left nothing or there was none.
    """
    with read_session(context.engine) as opened:
        envelopes = load_envelopes(opened, job_ids=[job_id])
        if not envelopes or envelopes[0].job.scenario is not Scenario.SOAK:
            raise NoSoak(f"there is no soak job {job_id!r}", "edgematrix show EXPERIMENT names its jobs")
        envelope = envelopes[0]
        records = load_attempts(opened, job_id)
        plan = Plan.model_validate(opened.get_one(Experiment, envelope.experiment.id).plan)
        chosen = _choose(envelope, records, attempt)
        imported = latest_import(opened, job_id, chosen.number, POWER)
    soak = plan.scenarios[Scenario.SOAK].soak
    assert soak is not None  # a soak was planned with its settings
    assert chosen.outcome_message is not None  # _choose has looked
    return LoadedSoak(
        envelope=envelope,
        attempt=chosen,
        attempts=tuple(map(_line, records)),
        outcome=protocol.from_json(RunOutcome, json.dumps(chosen.outcome_message)),
        soak=soak,
        plan=plan,
        streams=load_streams(context.artifacts, chosen.traces),
        limit_c=limit_of(envelope.device.profile) if envelope.device else None,
        power=imported,
        external_power=external_power(context.engine, context.artifacts, job_id, chosen.number),
    )


def tell_soak(run: LoadedSoak) -> ThermalStory:
    """Tell the story of a loaded attempt; of an emulated CPU, nothing that would tell of its speed."""
    told = tell(
        job_id=run.job_id,
        attempt=run.attempt.number,
        streams=run.streams,
        outcome=run.outcome,
        soak=run.soak,
        limit_c=run.limit_c,
        emulated=run.emulated,
        complete=run.complete,
        telemetry_hz=run.telemetry_hz,
        external_power=run.external_power,
    )
    return shown_story(told, run.emulated)


def story(context: Context, job_id: str, attempt: int | None = None) -> ThermalStory:
    """Return the story of a soak job, made anew from its traces; errors as of :func:`load_soak`."""
    return tell_soak(load_soak(context, job_id, attempt))


# --- below ---------------------------------------------------------------------------------------------------


def _choose(envelope: ResultEnvelope, records: list[AttemptRecord], number: int | None) -> AttemptRecord:
    job_id = envelope.job.id
    if number is not None:
        found = next((record for record in records if record.number == number), None)
        if found is None:
            there = f"it had {len(records)}" if records else "none has begun"
            raise NoTrace(f"{job_id} has no attempt {number}", there)
    else:
        found = next((record for record in records if record.complete), None)
        found = found or next((record for record in reversed(records) if _left_something(record)), None)
        if found is None:
            why = f": {envelope.job.error.message}" if envelope.job.error else ""
            remedy = "wait until it has ended: edgematrix watch" if envelope.job.outcome is None else "edgematrix show " + job_id
            raise NoTrace(f"{job_id} has left nothing to tell a story of{why}", remedy)
    if not _left_something(found):
        why = f": {found.error['message']}" if found.error else ""
        raise NoTrace(f"attempt {found.number} of {job_id} left nothing{why}", "leave --attempt out for one that did")
    return found


def _left_something(record: AttemptRecord) -> bool:
    return protocol.QUERIES in record.traces and record.outcome_message is not None


def _line(record: AttemptRecord) -> AttemptLine:
    error = record.error
    told = None
    if error is not None:
        told = ErrorInfo(error_class=error["class"], code=error["code"], message=error["message"], remedy=error.get("remedy", ""))
    return AttemptLine(record.number, record.status or "open", _left_something(record), record.complete, told)
