"""A job with a start gate: it waits in its row, not in a worker, and says what for. The device's temperatures come over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.errors import DeviceUnreachable
from orchestrator.dispatch.drive import drive
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.service import experiments, surroundings
from orchestrator.store.database import read_session
from orchestrator.store.results import load_attempts
from orchestrator.store.tables import Job
from orchestrator.transports import CommandResult
from tests.integration.dispatch.bench import Bench

GATE = {"temperature_c": 40.0, "tolerance_c": 2.0, "slope_c_per_min": 1000.0, "hold_secs": 0.0}
SHORT = {"duration_secs": 2, "window_secs": 0.5, "probe": {"every_secs": 0.5, "cold_rounds": 2}}


def show(bench: Bench, channels: Callable[[], list[dict[str, Any]]]) -> list[float]:
    """Let the device's answer to ``thermals`` be these channels; return the times at which it was asked."""
    real = bench.wire.run
    asked: list[float] = []

    def run(argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        if "thermals" not in argv:
            return real(argv, timeout_secs=timeout_secs, max_output_bytes=max_output_bytes)
        asked.append(bench.now())
        told = [
            {"name": "thermal.soc_c", "quantity": "temperature", "unit": "°C", "value": None, "error": None} | item for item in channels()
        ]
        return CommandResult(0, json.dumps({"ok": True, "channels": told}).encode(), b"")

    bench.wire.run = run  # type: ignore[method-assign]
    return asked


def step(bench: Bench, job_id: str) -> Job:
    drive(bench.gateway(), job_id, bench.job(job_id).fence or 0)
    return bench.job(job_id)


def describe(bench: Bench) -> str:
    (line,) = experiments.progress(bench.context, bench.experiment).devices
    return line.running.words if line.running else ""


def test_a_soak_begins_at_its_start_temperature_and_its_worker_never_waits(bench: Bench) -> None:
    temperatures = iter([52.0, 47.0, 41.0, 41.0])
    shown: list[float] = []

    def channels() -> list[dict[str, Any]]:
        shown.append(next(temperatures))
        return [{"value": shown[-1]}, {"name": "thermal.battery_c", "value": 90.0}, {"name": "thermal.case_c", "value": 30.0}]

    show(bench, channels)
    job_id = bench.submit_soak(start_gate=GATE, **SHORT)
    bench.lease()
    job = step(bench, job_id)
    assert job.state == JobState.PREPARING
    assert describe(bench) == "waits for its start temperature: 52.0 °C; gate 40 ± 2 °C"
    assert (job.next_drive_at or 0.0) - bench.now() > 5.0, "far from the gate the device is left alone"
    assert step(bench, job_id).state == JobState.PREPARING
    assert "falling" in describe(bench)
    assert step(bench, job_id).state == JobState.RUNNING
    assert describe(bench) == ""
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    assert shown == [52.0, 47.0, 41.0]
    with read_session(bench.context.engine) as opened:
        (record,) = load_attempts(opened, job_id)
    gate = (record.outcome_message or {})["conditions"]["start_gate"]
    assert (gate["channel"], gate["temperature_c"]) == ("thermal.soc_c", 41.0)


def test_a_run_that_was_started_and_not_noted_down_is_not_made_to_wait_for_its_own_heat(bench: Bench) -> None:
    heat = [40.0]
    show(bench, lambda: [{"value": heat[0]}])
    job_id = bench.submit_soak(start_gate=GATE, **SHORT)
    bench.lease()

    def lose_the_answer(argv: Sequence[str]) -> None:
        if "start" in argv:
            raise DeviceUnreachable("the link is cut", "mend it")

    bench.wire.on_answer = lose_the_answer
    assert step(bench, job_id).state == JobState.PREPARING
    bench.wire.on_answer = lambda argv: None
    heat[0] = 80.0
    bench.skew_secs = 20.0
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED


def test_a_gate_that_is_waited_for_in_vain_ends_the_job_and_says_how_warm_it_was(bench: Bench) -> None:
    show(bench, lambda: [{"value": 55.5}])
    job_id = bench.submit_soak({"max_attempts": 3}, start_gate=GATE | {"max_wait_secs": 1.0}, **SHORT)
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.attempts) == (JobOutcome.ERROR, 1)
    assert job.error is not None
    assert (job.error["class"], job.error["code"]) == ("infrastructure", "start_gate_not_reached")
    assert "thermal.soc_c shows 55.5 °C" in job.error["message"]
    assert "gate 40 ± 2 °C" in job.error["message"]
    bench.assert_device_is_clean()


def test_a_gate_waits_longer_for_a_cut_link_than_a_push_does(bench: Bench) -> None:
    show(bench, lambda: [{"value": 55.0}])
    job_id = bench.submit_soak(start_gate=GATE | {"max_wait_secs": 600.0}, **SHORT)
    bench.lease()
    step(bench, job_id)

    def cut(name: str, count: int) -> None:
        raise DeviceUnreachable("the link is cut", "mend it")

    bench.wire.on_call = cut
    assert step(bench, job_id).state == JobState.PREPARING
    assert bench.counts(job_id) == (1, 0)
    bench.wire.on_call = lambda name, count: None
    experiments.cancel(bench.context, job_id)
    assert bench.drive_until_free(job_id).outcome == JobOutcome.CANCELED


def test_the_surroundings_are_set_before_the_gate_and_reset_after_the_job(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "surroundings.log"
    write = ["sh", "-c", f'echo "$@" >> {log}', "sh"]
    name = "this-computer"
    surroundings.set_surroundings(
        bench.context, name, {"chamber": [*write, "chamber", "{celsius}"], "fan": [*write, "fan", "{state}"], "reset": [*write, "reset"]}
    )
    before: list[str] = []

    def channels() -> list[dict[str, Any]]:
        before.append(log.read_text())
        return [{"value": 40.0}]

    show(bench, channels)
    job_id = bench.submit_soak(start_gate=GATE, surroundings={"chamber_c": 41.5, "fan": "off; rm -rf /"}, **SHORT)
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    assert before == ["chamber 41.5\nfan off; rm -rf /\n"]
    assert log.read_text() == "chamber 41.5\nfan off; rm -rf /\nreset\n"
    with read_session(bench.context.engine) as opened:
        (record,) = load_attempts(opened, job_id)
    assert (record.outcome_message or {})["conditions"]["surroundings"] == {"chamber": "41.5", "fan": "off; rm -rf /"}
