"""From a soak in a spec to what the device is asked, how long that takes, and how much of its answer is believed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import Engine

from agent import protocol
from orchestrator.dispatch.dry_run import JOB_OVERHEAD_SECS
from orchestrator.dispatch.expand import device_facts
from orchestrator.dispatch.request import QUERY_STREAM_MOST_BYTES, build_request, longest_secs, most_queries, required_streams, stream_limit
from orchestrator.domain.device_query import parse_query
from orchestrator.domain.plan import Plan
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Scenario
from orchestrator.store.tables import Device, Job
from tests.unit.dispatch.test_expand import device, estimate, plan_of, registered, spec_of, submit


def soaked(soak: str, more: str = "") -> Plan:
    return plan_of(spec_of(f"{more}scenarios: {{soak: {{{soak}}}}}\n"))


def job(scenario: str = "soak") -> Job:
    values: dict[str, Any] = {"job_key": "k", "model": "m", "variant": "o", "environment": "default", "repeat": 0, "device_query": ""}
    return Job(
        id="e-000001",
        experiment_id="e",
        num_threads=1,
        provider="default",
        scenario=scenario,
        state="scheduled",
        submitted_at=0.0,
        **values,
    )


def ask(soak: str, more: str = "") -> protocol.RunRequest:
    return build_request(soaked(soak, more), job(), ["python3"], 1, 7)


def test_the_device_is_asked_for_what_the_spec_says() -> None:
    request = ask(
        "duration_secs: 60, pattern: {duty_cycle: {on_secs: 5, off_secs: 3}}, precondition: {secs: 20, until_c: 60}, idle_secs: 4,"
        " co_load: {cpu_workers: 1, memory_workers: 2}, probe: {samples: 8, every_secs: 2, cold_rounds: 3}, marker: true,"
        " stop: {above_c: 90, below_battery_percent: 20}, cooldown: {secs: 30, until_c: 45}, control_sensor: thermal.soc_c"
    )
    assert request.soak == protocol.SoakSettings(
        duration_secs=60.0,
        pattern=protocol.LoadPattern("duty_cycle", on_secs=5.0, off_secs=3.0),
        probe=protocol.ProbeSettings(8, 2.0, 3),
        co_load=protocol.CoLoad(1, 2),
        idle_secs=4.0,
        precondition_secs=20.0,
        precondition_until_c=60.0,
        cooldown_secs=30.0,
        cooldown_until_c=45.0,
        stop_above_c=90.0,
        stop_below_battery_percent=20.0,
        marker=True,
        control_sensor="thermal.soc_c",
    )
    assert protocol.from_json(protocol.RunRequest, protocol.to_json(request)) == request


@pytest.mark.parametrize(
    ("gate", "sensor"),
    [("temperature_c: 40", "thermal.soc_c"), ("temperature_c: 40, sensor: ambient.case_c", "ambient.case_c")],
)
def test_the_start_gate_goes_by_the_control_sensor_unless_it_names_its_own(gate: str, sensor: str) -> None:
    asked = soaked(f"start_gate: {{{gate}}}, control_sensor: thermal.soc_c").scenarios[Scenario.SOAK].gate
    assert asked is not None
    assert (asked.temperature_c, asked.sensor) == (40.0, sensor)


def test_the_limit_of_time_is_for_what_a_soak_takes_beside_its_own_parts() -> None:
    assert ask("duration_secs: 100, idle_secs: 10, precondition: {secs: 20}, cooldown: {secs: 30}").timeout_secs == 600.0 + 160.0


def test_probes_are_no_more_than_there_are_samples() -> None:
    probe = (ask("probe: {samples: 4000}").soak or protocol.SoakSettings(0.0)).probe
    assert probe is not None
    assert probe.samples == 400


def test_a_soak_is_sampled_as_it_says_or_as_the_spec_does() -> None:
    slow = {"telemetry_hz": 5.0}
    assert build_request(soaked("telemetry_hz: 20").model_copy(update=slow), job(), [], 1, 7).telemetry_hz == 20.0
    assert build_request(soaked("").model_copy(update=slow), job(), [], 1, 7).telemetry_hz == 5.0


@pytest.mark.parametrize(("soak", "probes"), [("", True), ("probe: null", False)])
def test_a_soak_without_its_streams_is_no_measurement(soak: str, probes: bool) -> None:
    assert set(required_streams(soaked(soak), job())) == {"queries", "telemetry"} | ({"probes"} if probes else set())


def test_no_more_is_believed_of_a_stream_than_a_soak_can_make() -> None:
    plan = soaked("duration_secs: 100, probe: {samples: 10, every_secs: 1}")
    assert QUERY_STREAM_MOST_BYTES < stream_limit(plan, job(), "queries") < QUERY_STREAM_MOST_BYTES * 1.1
    assert stream_limit(plan, job(), "probes") < 2 * 1024 * 1024
    assert stream_limit(soaked("probe: null"), job(), "probes") <= 1024 * 1024


def test_how_many_queries_are_asked_is_known_where_the_pattern_or_an_earlier_measurement_tells_it() -> None:
    rate = PlannedSoak.model_validate({"duration_secs": 60.0, "pattern": {"fixed_rate": {"rate_hz": 30.0}}})
    recorded = PlannedSoak.model_validate(
        {"duration_secs": 25.0, "pattern": {"recorded": {"file": "x.csv", "cycle_secs": 10.0}}, "arrivals_secs": (0.0, 1.0)}
    )
    flat_out = PlannedSoak.model_validate({"duration_secs": 60.0})
    assert most_queries(rate, None) == 1800
    assert most_queries(recorded, None) == 6
    assert most_queries(flat_out, 0.001) == pytest.approx(60_000)
    assert math.isinf(most_queries(flat_out, None))


def test_a_dry_run_tells_how_long_soaks_last_and_how_much_they_may_leave() -> None:
    rest = "scenarios: {soak: {duration_secs: 1000, idle_secs: 10, cooldown: {secs: 90}, pattern: {fixed_rate: {rate_hz: 100}}}}\n"
    found = estimate(rest)
    assert longest_secs(plan_of(spec_of(rest)).scenarios[Scenario.SOAK].soak or PlannedSoak()) == 1100.0
    assert found.device_hours * 3600 == pytest.approx(2 * (1100.0 + JOB_OVERHEAD_SECS)), "the limit of time does not cut it short"
    (line,) = [line for line in found.basis if line.startswith("soak:")]
    assert "18 min each" in line
    assert "about 100,000 queries (2.1 MB) at most" in line
    assert "ends early at 2,147.5 MB (102,261,126 queries)" in line


def test_a_device_whose_surroundings_nobody_can_set_gets_skipped_jobs_that_say_how_to_register_a_way(database: Engine) -> None:
    registered(database, device("hot-1", surroundings={"chamber": ["chamber-cli", "{celsius}"]}), device("pi-1"))
    jobs = submit(database, spec_of("scenarios: {soak: {surroundings: {chamber_c: 40}}}\n"))
    assert {(job.device_id, job.outcome) for job in jobs} == {(1, None), (2, "skipped")}
    errors = [job.error for job in jobs if job.error is not None]
    assert {error["code"] for error in errors} == {"surroundings_missing"}
    assert "edgematrix device surroundings pi-1 --chamber" in errors[0]["remedy"]


def test_a_soak_for_any_device_is_offered_only_to_those_whose_surroundings_can_be_set(database: Engine) -> None:
    there: list[Device] = [device("hot-1", surroundings={"fan": ["fan-cli", "{state}"]}), device("pi-1")]
    registered(database, *there)
    jobs = submit(database, spec_of("devices: [{any: all}]\nscenarios: {soak: {surroundings: {fan: off}}}\n"))
    query = parse_query(jobs[0].device_query)
    assert [query.matches(device_facts(device(name))) for name in ("hot-1", "pi-1")] == [True, False]
