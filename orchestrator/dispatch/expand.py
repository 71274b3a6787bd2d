"""Turn a plan into an experiment and its job rows, in one transaction.

Job ids are the experiment's id and a running number: they sort in the order in which the jobs are to run, and new rows go to the end of the
primary key's tree.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlmodel import Session

from orchestrator.dispatch.placement import Placement, Placer
from orchestrator.dispatch.placement import device_facts as device_facts
from orchestrator.domain.cells import Cell, expand_cells, job_key, request_prefix
from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.plan import Plan
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.states import JobOutcome, JobState, Scenario
from orchestrator.store.artifacts import ArtifactRef, record_artifacts
from orchestrator.store.tables import Device, Environment, Experiment, Job, StateChange

MAX_JOBS = 1_000_000

#: The columns of a job row, in the order of the tuples that :func:`_rows` makes.
JOB_COLUMNS = (
    *(
        "id",
        "experiment_id",
        "job_key",
        "model",
        "variant",
        "environment",
        "num_threads",
        "provider",
        "graph_optimization",
        "scenario",
        "repeat",
    ),
    *("device_query", "device_id", "state", "outcome", "error", "attempts", "fence", "next_drive_at", "progress", "waiting_for"),
    *("submitted_at", "finished_at"),
)


def expand(
    session: Session,
    *,
    plan: Plan,
    spec: ExperimentSpec,
    devices: Sequence[Device],
    environments: Sequence[Environment],
    actor: str,
    clock: Callable[[], float],
    new_id: Callable[[], str],
    agent_sha256: str,
    edgematrix_version: str,
    priority: int | None = None,
) -> str:
    """Insert the experiment and all its jobs into the transaction of ``session`` and return the experiment's id.

    ``each`` gives one job for every matching device, ``any`` as many as its count, without a device yet. A job whose device lacks the
    environment or the runtime is inserted finished, with the outcome ``skipped`` and the error that says what is missing. ``new_id`` gives
    at most 50 letters, digits, ``-`` or ``_``; ``clock`` Unix seconds; ``priority`` overrules the spec's.

    Raises :class:`SpecError` when no device matches, a named device does not exist, nothing of a variant can run, or there are more than
    MAX_JOBS jobs.
    """
    placer = Placer(spec, plan, devices, environments)
    cells = expand_cells(spec)
    placer.refuse_hopeless(cells)
    experiment_id, now = new_id(), clock()
    rows = list(itertools.islice(_rows(cells, placer, plan, experiment_id, agent_sha256, now), MAX_JOBS + 1))
    if len(rows) > MAX_JOBS:
        raise SpecError(
            [spec.source.mistake((), f"the matrix has more than {MAX_JOBS} jobs", "shorten the axes under settings, or exclude cells")]
        )
    session.add(
        Experiment(
            id=experiment_id,
            name=spec.name,
            spec_file=spec.source.file,
            spec_text=spec.source.text,
            spec_sha256=hashlib.sha256(spec.source.text.encode()).hexdigest(),
            plan=plan.model_dump(mode="json"),
            priority=spec.priority if priority is None else priority,
            max_devices=spec.limits.max_devices,
            submitted_at=now,
            submitted_by=actor,
            edgematrix_version=edgematrix_version,
            agent_sha256=agent_sha256,
        )
    )
    session.add(
        StateChange(subject="experiment", subject_id=experiment_id, old="", new="submitted", actor=actor, why=f"{len(rows)} jobs", at=now)
    )
    session.flush()
    record_artifacts(session, _artifacts(plan), now)
    _insert_jobs(session, rows)
    return experiment_id


def _rows(
    cells: Sequence[Cell], placer: Placer, plan: Plan, experiment_id: str, agent_sha256: str, now: float
) -> Iterator[tuple[Any, ...]]:
    prefixes: dict[tuple[str, str, Scenario], Any] = {}
    fates: dict[int, tuple[str, str | None, str | None, float | None]] = {}
    number = 0
    for cell in cells:
        model, variant, scenario, settings = cell.model, cell.variant, cell.scenario, cell.settings
        prefix = prefixes.get((model, variant, scenario))
        if prefix is None:
            prefix = request_prefix(plan.models[model], variant, scenario, plan.scenarios[scenario], agent_sha256)
            prefixes[(model, variant, scenario)] = prefix
        for placement in placer.placements(cell):
            # Placements are cached by the placer for as long as it lives, so their identity names them.
            fate = fates.get(id(placement))
            if fate is None:
                fate = fates[id(placement)] = _fate(placement, now)
            state, outcome, error, finished_at = fate
            number += 1
            yield (
                *(f"{experiment_id}-{number:06d}", experiment_id, job_key(prefix, cell, placement.asked), model, variant, cell.environment),
                *(settings.num_threads, settings.provider, settings.graph_optimization, scenario.value, cell.repeat),
                *(placement.device_query, placement.device_id, state, outcome, error, 0, None, None, None, None, now, finished_at),
            )


def _fate(placement: Placement, now: float) -> tuple[str, str | None, str | None, float | None]:
    """Return state, outcome, error and time of finishing with which a job of this placement starts."""
    if placement.error is None:
        return JobState.SUBMITTED.value, None, None, None
    return JobState.FINISHED.value, JobOutcome.SKIPPED.value, json.dumps(placement.error.to_json()), now


def _insert_jobs(session: Session, rows: list[tuple[Any, ...]]) -> None:
    """One executemany on the driver: the ORM and Core's own would cost more than the database."""
    connection = session.connection()
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(JOB_COLUMNS))
    statement = f"INSERT INTO {Job.__tablename__} ({', '.join(JOB_COLUMNS)}) VALUES ({marks})"  # noqa: S608  constants of this module
    connection.exec_driver_sql(statement, rows)


def _artifacts(plan: Plan) -> list[ArtifactRef]:
    refs = []
    for model in plan.models.values():
        dataset = model.dataset
        refs.append(ArtifactRef(dataset.inputs.sha256, dataset.inputs.size_bytes, "inputs"))
        if dataset.answers_sha256 is not None:
            refs.append(ArtifactRef(dataset.answers_sha256, dataset.answers_size_bytes or 0, "answers"))
        refs += [ArtifactRef(variant.info.sha256, variant.info.size_bytes, "model") for variant in model.variants.values()]
    return list({ref.sha256: ref for ref in refs}.values())
