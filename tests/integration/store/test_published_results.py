"""What every reader may rely on when results are published and read, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert
from sqlmodel import Session

from agent import protocol
from agent.errors import RunLost
from orchestrator.domain.results import Metric, Reason, ResultEnvelope, SensorRecord, TraceInfo, ValidityRecord
from orchestrator.domain.states import Validity
from orchestrator.store import tables
from orchestrator.store.artifacts import ArtifactRef, record_artifacts
from orchestrator.store.database import read_session, session
from orchestrator.store.errors import ResultExists, ResultMissing
from orchestrator.store.results import insert_result, load_attempts, load_envelopes, replace_metrics

SHA = "ab" * 32
METRICS = (
    Metric(name="invoke_ms.p50", value=0.125, unit="ms", low=0.124, high=0.126, count=6_000_000_000),
    Metric(name="invoke_ms.p99", value=None, unit="ms", count=40, cause="p99 needs 662 queries; there are 40"),
)
VALIDITY = ValidityRecord(
    level=Validity.SEMIVALID,
    reasons=(Reason(code="high_variation", level=Validity.SEMIVALID, message="varies by 3.1 %", value=3.1, threshold=2.5),),
    unknown=("temperature",),
)
TRACES = {"queries": TraceInfo(sha256=SHA, size_bytes=10, rows=40)}


def outcome(job_id: str, number: int, status: str = "completed") -> dict[str, Any]:
    return dataclasses.asdict(
        protocol.RunOutcome(
            protocol=1,
            job_id=job_id,
            attempt=number,
            fence=number + 6,
            agent_version="0.1.0",
            agent_sha256="ef" * 32,
            status=status,
            started_utc="2025-11-21T01:00:00.000Z",
            ended_utc="2025-11-21T01:00:09.500Z",
            duration_secs=9.5,
            runner=protocol.RunnerReport(steady_count=40, load_ns=1_000_000),
            conditions={"cpu": {"model": "a CPU", "features": {"avx512_vnni": True}}},
            sensors=[protocol.SensorInfo("cpu_busy_percent", "%", "/proc/stat")],
        )
    )


def add_attempt(opened: Session, job_id: str, device: int, number: int = 1, **fields: Any) -> None:
    values = {
        "started_at": 1_763_686_800.0,
        "ended_at": 1_763_686_809.5,
        "status": "completed",
        "fence": number + 6,
        "conditions_key": "k" * 64,
        "outcome_message": outcome(job_id, number),
    }
    opened.add(tables.Attempt(job_id=job_id, number=number, device_id=device, **{**values, **fields}))
    opened.flush()


def publish(opened: Session, job_id: str, attempt: int = 1, **fields: Any) -> None:
    values = {"metrics": METRICS, "validity": VALIDITY, "traces": TRACES, "analysis_version": 1, "now": 1_763_686_810.0}
    insert_result(opened, job_id=job_id, attempt=attempt, **{**values, **fields})


@pytest.fixture
def device(database: Engine, rows: Any) -> int:
    with session(database) as opened:
        rows.experiment(opened)
        added: int = rows.device(opened)
        return added


def load(database: Engine, **which: Any) -> list[ResultEnvelope]:
    with read_session(database) as reading:
        return load_envelopes(reading, **which)


def test_a_completed_job_is_read_back_with_everything_that_was_published(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="completed", attempts=1, graph_optimization="all")
        add_attempt(opened, "j1", device)
        publish(opened, "j1")
    (found,) = load(database, experiment_id="e1")
    assert found.experiment.submitted_utc == "2023-11-14T22:13:20.250Z"
    assert (found.job.state, found.job.outcome, found.job.settings.graph_optimization) == ("finished", "completed", "all")
    assert (found.variant.name, found.variant.precision, found.variant.reference) == ("w8a8", "w8a8", False)
    assert found.dataset.class_count == 10
    assert found.device is not None
    assert (found.device.name, found.device.profile, found.device.emulated) == ("bench-1", "linux-x86_64", "none")
    assert found.attempt is not None
    assert (found.attempt.number, found.attempt.fence, found.attempt.duration_secs) == (1, 7, 9.5)
    assert found.attempt.agent_sha256 == "ef" * 32
    assert found.attempt.conditions["cpu"]["features"]["avx512_vnni"] is True
    assert found.attempt.runner["steady_count"] == 40
    assert found.attempt.sensors == (SensorRecord(name="cpu_busy_percent", unit="%", source="/proc/stat"),)
    assert found.validity == VALIDITY
    assert found.metrics == METRICS
    assert found.traces == TRACES
    assert found.analysis_version == 1


def test_an_envelope_survives_its_json(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="completed", attempts=1)
        add_attempt(opened, "j1", device)
        publish(opened, "j1")
    (found,) = load(database)
    assert ResultEnvelope.model_validate_json(found.model_dump_json()) == found


def test_a_job_that_waits_has_no_device_attempt_or_result(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1")
    (found,) = load(database)
    assert (found.job.state, found.job.outcome) == ("submitted", None)
    assert (found.device, found.attempt, found.validity, found.analysis_version) == (None, None, None, None)
    assert (found.metrics, found.traces) == ((), {})


def test_a_job_that_runs_has_its_device_and_no_attempt_yet(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="running", attempts=1)
        add_attempt(opened, "j1", device, ended_at=None, status=None, outcome_message=None)
    (found,) = load(database)
    assert found.device is not None
    assert found.attempt is None


def test_a_lost_run_shows_the_attempt_and_the_error_with_its_remedy(database: Engine, rows: Any, device: int) -> None:
    error = RunLost("the run vanished", "check the power of the device").to_json()
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="error", attempts=1, error=error)
        add_attempt(opened, "j1", device, status="error", outcome_message=None, error=error)
    (found,) = load(database)
    assert found.job.error is not None
    assert (found.job.error.error_class, found.job.error.code) == ("infrastructure", "run_lost")
    assert found.job.error.remedy == "check the power of the device"
    assert found.attempt is not None
    assert (found.attempt.started_utc, found.attempt.duration_secs) == ("2025-11-21T01:00:00.000Z", 9.5)
    assert found.attempt.agent_sha256 == "cd" * 32
    assert found.validity is None


def test_the_attempt_shown_is_the_one_that_was_measured_else_the_last(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        for job in ("measured", "failed"):
            rows.job(opened, job, device_id=device, state="finished", attempts=3)
            for number in (1, 2, 3):
                add_attempt(opened, job, device, number)
        publish(opened, "measured", attempt=2)
    shown = {found.job.id: found.attempt.number for found in load(database) if found.attempt is not None}
    assert shown == {"measured": 2, "failed": 3}


def test_jobs_are_chosen_by_experiment_and_by_name(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.experiment(opened, "e2")
        for number in range(3):
            rows.job(opened, f"a{number}", "e1", submitted_at=float(number))
            rows.job(opened, f"b{number}", "e2", submitted_at=10.0 + number)
    assert [found.job.id for found in load(database, experiment_id="e2")] == ["b0", "b1", "b2"]
    assert [found.job.id for found in load(database, job_ids=["b1", "a2", "b1", "nothing"])] == ["a2", "b1"]
    assert [found.job.id for found in load(database, experiment_id="e1", job_ids=["b1", "a2"])] == ["a2"]
    assert len(load(database)) == 6
    assert load(database, job_ids=[]) == []
    assert load(database, experiment_id="nothing") == []


def test_more_jobs_than_one_query_takes_are_read_with_a_bounded_number_of_queries(database: Engine, rows: Any, device: int) -> None:
    identifiers = [f"j{number:05}" for number in range(4_500)]
    with session(database) as opened:
        rows.job(opened, "pattern")
        pattern = opened.get_one(tables.Job, "pattern").model_dump()
        many = [{**pattern, "id": identifier, "job_key": identifier} for identifier in identifiers]
        opened.connection().execute(insert(tables.Job), many)
    statements: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *call: statements.append(call[2]))
    assert [found.job.id for found in load(database, job_ids=identifiers)] == identifiers
    assert len([statement for statement in statements if statement.startswith("SELECT")]) <= 15


def test_a_job_gets_one_result_and_the_second_is_refused_whole(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="completed", attempts=1)
        add_attempt(opened, "j1", device)
        publish(opened, "j1")
    with pytest.raises(ResultExists, match="j1"), session(database) as opened:
        publish(opened, "j1", metrics=[Metric(name="other", value=1.0, unit="ms")])
    (found,) = load(database)
    assert found.metrics == METRICS


def test_of_two_processes_that_publish_at_once_one_is_refused(database: Engine, database_url: str, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="collecting", attempts=1)
        add_attempt(opened, "j1", device)
    script = """
import sys
from orchestrator.domain.results import Metric, ValidityRecord
from orchestrator.store.database import open_database, session
from orchestrator.store.errors import ResultExists
from orchestrator.store.results import insert_result
engine = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with session(engine) as opened:
        insert_result(opened, job_id="j1", attempt=1, metrics=[Metric(name="by", value=float(sys.argv[2]), unit="")],
                      validity=ValidityRecord(level="valid"), traces={}, analysis_version=1, now=0.0)
    print("published")
except ResultExists:
    print("refused")
engine.dispose()
"""
    command = [sys.executable, "-W", "error", "-c", script, database_url]
    running = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in range(5)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120)[0].strip() for process in running]
    assert sorted(ends) == ["published"] + ["refused"] * 4
    (found,) = load(database)
    assert found.metric("by") == Metric(name="by", value=float(ends.index("published")), unit="")


def test_metrics_made_anew_take_the_place_of_the_old_ones(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="completed", attempts=1)
        add_attempt(opened, "j1", device)
        publish(opened, "j1")
    again = (Metric(name="invoke_ms.p50", value=0.2, unit="ms"),)
    valid = ValidityRecord(level=Validity.VALID)
    with session(database) as opened:
        replace_metrics(opened, job_id="j1", metrics=again, validity=valid, analysis_version=2)
    (found,) = load(database)
    assert (found.metrics, found.validity, found.analysis_version, found.traces) == (again, valid, 2, TRACES)


def test_a_job_without_a_result_cannot_be_recomputed(database: Engine, rows: Any, device: int) -> None:
    with session(database) as opened:
        rows.job(opened, "j1", state="finished", outcome="error")
    with pytest.raises(ResultMissing), session(database) as opened:
        replace_metrics(opened, job_id="j1", metrics=METRICS, validity=VALIDITY, analysis_version=2)
    (found,) = load(database)
    assert found.metrics == ()


def test_an_artifact_is_noted_once(database: Engine) -> None:
    ref = ArtifactRef(SHA, 2**40, "model")
    with session(database) as opened:
        record_artifacts(opened, [ref, ref], 1.0)
        record_artifacts(opened, [ref], 2.0)
        record_artifacts(opened, [], 3.0)
    with read_session(database) as reading:
        noted = reading.get_one(tables.Artifact, SHA)
        assert (noted.size_bytes, noted.kind, noted.created_at) == (2**40, "model", 1.0)


def test_every_attempt_of_a_job_is_read_with_what_it_left_whether_or_not_it_gave_the_result(
    database: Engine, rows: Any, device: int
) -> None:
    error = {"class": "infrastructure", "code": "run_lost", "message": "gone", "remedy": ""}
    left = {"queries": {"sha256": "cd" * 32, "size_bytes": 9, "rows": 3}}
    with session(database) as opened:
        rows.job(opened, "j1", device_id=device, state="finished", outcome="completed", attempts=3)
        add_attempt(opened, "j1", device, 1, status="error", error=error, traces=left)
        add_attempt(opened, "j1", device, 2, status="error", error=error, outcome_message=None)
        add_attempt(opened, "j1", device, 3, clock_offset_secs=0.25)
        publish(opened, "j1", attempt=3)
    with read_session(database) as reading:
        first, second, third = load_attempts(reading, "j1")
        assert load_attempts(reading, "j2") == []
    assert (first.number, first.complete, first.traces, first.error) == (1, False, left, error)
    assert (second.complete, second.traces, second.outcome_message) == (False, {}, None)
    assert (third.complete, third.clock_offset_secs) == (True, 0.25)
    assert third.traces == {name: trace.model_dump(mode="json") for name, trace in TRACES.items()}
