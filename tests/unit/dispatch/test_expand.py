"""From a plan to job rows: who gets a job, who cannot run it, and what is refused."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Engine, func
from sqlmodel import Session, select

from orchestrator.dispatch.dry_run import ASSUMED_INVOKE_SECS, JOB_OVERHEAD_SECS, DryRun, dry_run
from orchestrator.dispatch.expand import JOB_COLUMNS, device_facts, expand
from orchestrator.domain.device_query import parse_query
from orchestrator.domain.mistakes import Mistake, SpecError
from orchestrator.domain.plan import Plan, PlannedDataset, PlannedInputs, PlannedModel, PlannedTask, PlannedVariant
from orchestrator.domain.results import DatasetInfo, VariantInfo
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Artifact, Device, Environment, Experiment, Job, StateChange

HEAD = """\
format: 1
name: small
priority: 2
task: {kind: tensor}
dataset: {file: x.npz, inputs: x}
models:
  - name: m
    reference: o
    variants:
      - {name: o, file: o.onnx, runtime: onnx, precision: fp32}
      - {name: t, file: t.tflite, runtime: tflite, precision: w8a8}
"""
BOTH: dict[str, Any] = {"runtimes": {"onnx": {"available": True, "version": "1"}, "tflite": {"available": True, "version": "2"}}}
ONNX_ONLY: dict[str, Any] = {"runtimes": {"onnx": {"available": True}, "tflite": {"available": False, "cause": "needs numpy < 2"}}}


def spec_of(rest: str = "scenarios: {accuracy: }\n") -> ExperimentSpec:
    return parse_spec(HEAD + rest, "spec.yaml")


def plan_of(spec: ExperimentSpec) -> Plan:
    variants = {
        item.name: PlannedVariant(
            info=VariantInfo(
                model="m",
                name=item.name,
                reference=item.name == "o",
                runtime=item.runtime,
                precision=item.precision,
                quantization="none",
                file=item.file,
                sha256=item.name * 64,
                size_bytes=10,
            )
        )
        for item in spec.models[0].variants
    }
    dataset = PlannedDataset(
        info=DatasetInfo(file="x.npz", sha256="d" * 64, sample_count=400),
        inputs=PlannedInputs(sha256="1" * 64, size_bytes=20, sample_count=400, sample_shape=(1,), dtype="int8"),
        answers_sha256="a" * 64,
        answers_size_bytes=30,
    )
    model = PlannedModel(
        name="m", reference="o", task=PlannedTask(kind=spec.task_of(spec.models[0]).kind), dataset=dataset, variants=variants
    )
    return Plan(models={"m": model}, scenarios=spec.scenario_settings())


def device(name: str, device_id: int | None = None, **changes: Any) -> Device:
    values: dict[str, Any] = {
        "profile": "linux-x86_64",
        "gateway": "lab",
        "transport": "local",
        "address": {},
        "root": "/r",
        "labels": {},
        "health": "good",
        "facts": {"machine": "aarch64"},
        "added_at": 0.0,
    }
    return Device(id=device_id, name=name, **{**values, **changes})


def environment(device_id: int, name: str = "default", facts: dict[str, Any] | None = None) -> Environment:
    return Environment(
        device_id=device_id, name=name, interpreter=["python3"], digest="e", facts=BOTH if facts is None else facts, checked_at=0.0
    )


def registered(database: Engine, *devices: Device, facts: dict[str, Any] | None = None) -> None:
    with open_session(database) as session:
        session.add_all(devices)
        session.flush()
        session.add_all(environment(item.id, facts=facts) for item in devices if item.id is not None)


def submit(database: Engine, spec: ExperimentSpec, experiment_id: str = "e1", **changes: Any) -> list[Job]:
    with open_session(database) as session:
        arguments: dict[str, Any] = {
            "plan": plan_of(spec),
            "spec": spec,
            "devices": session.exec(select(Device).order_by(Device.name)).all(),
            "environments": session.exec(select(Environment)).all(),
            "actor": "ann",
            "clock": lambda: 1000.0,
            "new_id": lambda: experiment_id,
            "agent_sha256": "f" * 64,
            "edgematrix_version": "0.1.0",
            **changes,
        }
        expand(session, **arguments)
    return jobs_of(database, experiment_id)


def jobs_of(database: Engine, experiment_id: str) -> list[Job]:
    with Session(database) as session:
        return list(session.exec(select(Job).where(Job.experiment_id == experiment_id).order_by(Job.id)).all())


def mistakes_of(database: Engine, spec: ExperimentSpec) -> tuple[Mistake, ...]:
    with pytest.raises(SpecError) as caught:
        submit(database, spec)
    with Session(database) as session:
        assert session.exec(select(func.count()).select_from(Experiment)).one() == 0
    return caught.value.mistakes


def test_the_columns_that_are_written_are_those_of_the_table() -> None:
    assert Counter(JOB_COLUMNS) == Counter(Job.__table__.columns.keys())  # type: ignore[attr-defined]


def test_each_matching_device_gets_a_job_for_every_cell(database: Engine) -> None:
    registered(database, device("pi-1", labels={"room": "a"}), device("pi-2", labels={"room": "a"}), device("pc", labels={"room": "b"}))
    jobs = submit(database, spec_of("devices: [{each: \"label.room == 'a'\"}]\nscenarios: {accuracy: , latency: {repeats: 2}}\n"))
    names = {row.id: row.name for row in _devices(database)}
    assert Counter(names[job.device_id] for job in jobs) == {"pi-1": 6, "pi-2": 6}
    assert [job.id for job in jobs] == [f"e1-{number:06d}" for number in range(1, 13)]
    assert {(job.state, job.outcome, job.attempts, job.device_query) for job in jobs} == {("submitted", None, 0, "")}
    assert {job.graph_optimization for job in jobs if job.variant == "t"} == {None}
    assert len({job.job_key for job in jobs}) == len(jobs)


def _devices(database: Engine) -> list[Device]:
    with Session(database) as session:
        return list(session.exec(select(Device)).all())


def test_any_leaves_the_choice_of_the_device_open(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"), device("pi-3"))
    jobs = submit(database, spec_of("devices: [{any: all, count: 2}]\nscenarios: {accuracy: }\n"))
    assert [(job.variant, job.device_id, job.device_query) for job in jobs] == [("o", None, "all")] * 2 + [("t", None, "all")] * 2
    assert len({job.job_key for job in jobs}) == 4


def test_demands_that_meet_at_a_device_give_it_the_job_once(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"))
    jobs = submit(
        database, spec_of("devices: [{each: all}, {each: \"name == 'pi-1'\"}, {any: all}, {any: all}]\nscenarios: {accuracy: }\n")
    )
    assert Counter(job.device_id is None for job in jobs) == {False: 4, True: 4}


def test_the_experiment_keeps_spec_plan_files_and_who_asked(database: Engine) -> None:
    registered(database, device("pi-1"))
    spec = spec_of()
    submit(database, spec)
    submit(database, spec, "e2", priority=9)
    with Session(database) as session:
        experiment = session.get_one(Experiment, "e1")
        assert experiment.spec_text == spec.source.text
        assert Plan.model_validate(experiment.plan) == plan_of(spec)
        assert (experiment.priority, session.get_one(Experiment, "e2").priority) == (2, 9)
        assert (experiment.submitted_by, experiment.submitted_at, experiment.finished_at) == ("ann", 1000.0, None)
        assert {(row.sha256[0], row.kind, row.size_bytes) for row in session.exec(select(Artifact)).all()} == {
            *(("o", "model", 10), ("t", "model", 10), ("1", "inputs", 20), ("a", "answers", 30))
        }
        changes = session.exec(select(StateChange)).all()
        assert ("experiment", "e1", "submitted", "ann") in {(row.subject, row.subject_id, row.new, row.actor) for row in changes}


def test_a_runtime_that_an_environment_lacks_gives_skipped_jobs_that_say_why(database: Engine) -> None:
    registered(database, device("pi-1"))
    with open_session(database) as session:
        session.add(environment(1, "litert", ONNX_ONLY))
    jobs = submit(database, spec_of("environments: [default, litert]\nscenarios: {accuracy: }\n"))
    skipped = [job for job in jobs if job.outcome == "skipped"]
    assert [(job.variant, job.environment, job.state, job.finished_at) for job in skipped] == [("t", "litert", "finished", 1000.0)]
    assert skipped[0].error is not None
    assert skipped[0].error["code"] == "missing_runtime"
    assert skipped[0].error["class"] == "configuration"
    assert "needs numpy < 2" in skipped[0].error["message"]
    assert "env add litert" in skipped[0].error["remedy"]


def test_an_environment_that_a_device_lacks_gives_skipped_jobs_there_and_jobs_elsewhere(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"))
    with open_session(database) as session:
        session.add(environment(1, "litert"))
    jobs = submit(database, spec_of("environments: [litert]\nscenarios: {accuracy: }\n"))
    assert Counter((job.device_id, job.outcome) for job in jobs) == {(1, None): 2, (2, "skipped"): 2}
    errors = [job.error for job in jobs if job.error is not None]
    assert {error["code"] for error in errors} == {"missing_environment"}
    assert "pi-2 has no environment 'litert'; it has: default" in errors[0]["message"]


def test_a_device_that_cannot_run_an_any_job_is_not_offered_it_but_a_later_one_is(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"))
    with open_session(database) as session:
        session.add(environment(1, "litert"))
    jobs = submit(
        database, spec_of("devices: [{any: \"arch == 'arm64' or name == 'x'\"}]\nenvironments: [litert]\nscenarios: {accuracy: }\n")
    )
    query = parse_query(jobs[0].device_query)
    assert [query.matches(device_facts(device(name))) for name in ("pi-1", "pi-2", "pi-3")] == [True, False, True]


def test_an_excluded_device_gets_no_job_neither_by_each_nor_by_any(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"))
    rest = "settings: {num_threads: [1, 4]}\nscenarios: {accuracy: }\nexclude: [{variant: t}, {num_threads: 4, device: pi-2}]\n"
    rest += "include: [{variant: t}]\n"
    each = submit(database, spec_of("devices: [{each: all}]\n" + rest))
    assert [(job.variant, job.num_threads, job.device_id) for job in each] == [
        ("o", 1, 1),
        ("o", 1, 2),
        ("o", 4, 1),
        ("t", 1, 1),
        ("t", 1, 2),
    ]
    free = submit(database, spec_of("devices: [{any: all}]\n" + rest), "e2")
    allowed = [(job.num_threads, parse_query(job.device_query).matches(device_facts(device("pi-2")))) for job in free]
    assert allowed == [(1, True), (4, False), (1, True)]


def test_an_included_cell_with_a_device_runs_there_alone(database: Engine) -> None:
    registered(database, device("pi-1"), device("pi-2"))
    rest = "devices: [{each: \"name == 'pi-1'\"}]\nscenarios: {accuracy: }\ninclude: [{variant: o, num_threads: 4, device: pi-2}]\n"
    jobs = submit(database, spec_of(rest))
    assert [(job.variant, job.num_threads, job.device_id) for job in jobs] == [("o", 1, 1), ("t", 1, 1), ("o", 4, 2)]


def test_retired_devices_are_not_asked(database: Engine) -> None:
    registered(database, device("old", health="retired"), device("pi-1", health="bad"))
    assert {job.device_id for job in submit(database, spec_of())} == {2}


def test_a_query_that_matches_nothing_is_told_with_what_there_is(database: Engine) -> None:
    registered(database, device("pi-1", labels={"room": "a"}))
    spec = spec_of("devices:\n  - each: \"label.room == 'b'\"\n  - any: name == 'x'\nscenarios: {accuracy: }\n")
    mistakes = mistakes_of(database, spec)
    assert [(item.line, item.path) for item in mistakes] == [(13, "devices[0].each"), (14, "devices[1].any")]
    assert "pi-1 (profile 'linux-x86_64', gateway 'lab', arch 'arm64', label.room 'a')" in mistakes[0].message
    assert "name == 'pi-1'" in mistakes[0].remedy


def test_without_any_device_the_remedy_is_to_register_one(database: Engine) -> None:
    assert "edgematrix device add" in mistakes_of(database, spec_of())[0].remedy


def test_more_devices_than_match_cannot_be_asked_for(database: Engine) -> None:
    registered(database, device("pi-1"))
    assert "2 devices are asked for, but only 1 match" in mistakes_of(database, spec_of("devices: [{any: all, count: 2}]\n"))[0].message


def test_an_unknown_device_in_include_or_exclude_is_a_mistake(database: Engine) -> None:
    registered(database, device("pi-1"))
    mistakes = mistakes_of(database, spec_of("exclude: [{device: pi-2}]\ninclude: [{variant: o, device: pi-3}]\n"))
    assert [(item.line, item.message) for item in mistakes] == [
        (12, "no device has the name 'pi-2'"),
        (13, "no device has the name 'pi-3'"),
    ]


def test_a_variant_that_can_run_nowhere_is_a_mistake_and_nothing_is_submitted(database: Engine) -> None:
    registered(database, device("pi-1"), facts=ONNX_ONLY)
    mistakes = mistakes_of(database, spec_of())
    assert [(item.line, item.path) for item in mistakes] == [(11, "models[0].variants[1].name")]
    assert "no job of 't' can run" in mistakes[0].message


def test_an_empty_matrix_is_a_mistake(database: Engine) -> None:
    registered(database, device("pi-1"))
    assert "everything is excluded" in mistakes_of(database, spec_of("exclude: [{variant: [o, t]}]\n"))[0].message


def estimate(rest: str, devices: int = 1, **changes: Any) -> DryRun:
    spec = spec_of(rest)
    known = [device(f"pi-{number}", number) for number in range(1, devices + 1)]
    environments = [environment(number) for number in range(1, devices + 1)]
    return dry_run(plan=plan_of(spec), spec=spec, devices=known, environments=environments, now=1000.0, **changes)


def test_a_dry_run_counts_the_same_jobs_as_a_submission(database: Engine) -> None:
    registered(database, device("pi-1", 1), device("pi-2", 2))
    rest = "devices: [{each: all}, {any: all}]\nsettings: {num_threads: [1, 2]}\nscenarios: {accuracy: , latency: {repeats: 3}}\n"
    found = estimate(rest, 2)
    assert found.job_count == len(submit(database, spec_of(rest))) == sum(cell.job_count for cell in found.cells)
    assert sum(found.jobs_per_device.values()) == found.job_count
    assert abs(found.jobs_per_device["pi-1"] - found.jobs_per_device["pi-2"]) <= 2


def test_a_latency_job_is_estimated_by_its_warm_up_and_duration() -> None:
    found = estimate("scenarios: {latency: {repeats: 2, warmup_min_secs: 1, min_duration_secs: 7}}\n")
    assert found.expected_finish - 1000.0 == pytest.approx(4 * (1 + 7 + JOB_OVERHEAD_SECS))
    assert found.device_hours * 3600 == pytest.approx(4 * (1 + 7 + JOB_OVERHEAD_SECS))


def test_an_accuracy_job_is_estimated_by_what_was_measured_or_by_a_stated_assumption() -> None:
    rest = "scenarios: {accuracy: }\n"
    assumed = estimate(rest)
    assert assumed.expected_finish - 1000.0 == pytest.approx(2 * (400 * ASSUMED_INVOKE_SECS + JOB_OVERHEAD_SECS))
    assert any("o, t" in line and "assumed" in line for line in assumed.basis)
    known = estimate(rest, invoke_secs={("o" * 64, "pi-1"): 0.1})
    assert known.expected_finish - 1000.0 == pytest.approx(400 * (ASSUMED_INVOKE_SECS + 0.1) + 2 * JOB_OVERHEAD_SECS)
    assert any("measured earlier" in line for line in known.basis)


def test_a_slow_model_takes_until_the_minimum_count_but_not_beyond_the_maximum() -> None:
    rest = "scenarios: {latency: {min_query_count: 100, min_duration_secs: 1, max_duration_secs: 20, warmup_runs: 0, warmup_min_secs: 0}}\n"
    secs = [
        estimate(rest, invoke_secs=dict.fromkeys(itertools.product(("o" * 64, "t" * 64), ["pi-1"]), value)).expected_finish - 1000.0
        for value in (0.001, 0.1, 10.0)
    ]
    assert secs == [pytest.approx(2 * (steady + JOB_OVERHEAD_SECS)) for steady in (1, 10, 20)]


def test_devices_work_side_by_side() -> None:
    assert estimate("scenarios: {latency: }\n", 3).expected_finish == estimate("scenarios: {latency: }\n", 1).expected_finish
    assert (
        estimate("devices: [{any: all}]\nscenarios: {latency: }\n", 2).expected_finish
        < estimate("scenarios: {latency: }\n", 1).expected_finish
    )
