"""What comparisons look at beside the results themselves: per-sample answers, labels and outputs, read from the store once each."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from agent.errors import InfrastructureError
from orchestrator.domain.plan import Plan, PlannedModel
from orchestrator.domain.results import ResultEnvelope
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session
from orchestrator.store.tables import Experiment
from orchestrator.store.traces import read_trace

Columns = dict[str, Any]


class Evidence:
    """Reads lazily and keeps what it has read; make one for each question and let it go."""

    def __init__(self, engine: Engine, artifacts: ArtifactStore) -> None:
        self._engine = engine
        self._artifacts = artifacts
        self._traces: dict[str, Columns] = {}
        self._plans: dict[str, Plan] = {}

    def trace(self, envelope: ResultEnvelope, stream: str) -> Columns | None:
        """Return a stream of a job as arrays by column; None when the job has no such stream."""
        info = envelope.traces.get(stream)
        return None if info is None else self._read(info.sha256)

    def answers(self, envelope: ResultEnvelope) -> Columns | None:
        """Return the labels and slices of the job's data set, one row per sample; None when it has no labels."""
        sha256 = self.planned_model(envelope).dataset.answers_sha256
        return None if sha256 is None else self._read(sha256)

    def dataset_identity(self, envelope: ResultEnvelope) -> str:
        """Return what tells two data sets apart: the content of their inputs and of their answers."""
        dataset = self.planned_model(envelope).dataset
        return f"{dataset.inputs.sha256} {dataset.answers_sha256}"

    def planned_model(self, envelope: ResultEnvelope) -> PlannedModel:
        """Return what was planned for the job's model; raises KeyError for an envelope that is not of this store."""
        experiment_id = envelope.experiment.id
        if experiment_id not in self._plans:
            with read_session(self._engine) as opened:
                row = opened.get(Experiment, experiment_id)
                if row is None:
                    raise InfrastructureError(
                        f"experiment {experiment_id} is not in the database", "name an experiment that 'edgematrix list' shows"
                    )
                self._plans[experiment_id] = Plan.model_validate(row.plan)
        return self._plans[experiment_id].models[envelope.variant.model]

    def _read(self, sha256: str) -> Columns:
        if sha256 not in self._traces:
            self._traces[sha256] = read_trace(self._artifacts, sha256)
        return self._traces[sha256]
