"""A soak in a spec: what it means, and how the mistakes in it are told, each at its place."""

from __future__ import annotations

import pytest

from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.plan import ScenarioSettings
from orchestrator.domain.soak import Pattern, PlannedSoak
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import Scenario

HEAD = """\
format: 1
name: small
task: {kind: tensor}
dataset: {file: x.npz, inputs: x}
models:
  - {name: m, reference: a, variants: [{name: a, file: a.tflite, runtime: tflite, precision: fp32}]}
"""


def parse(soak: str, more: str = "") -> ExperimentSpec:
    return parse_spec(f"{HEAD}{more}scenarios:\n  soak:\n    {soak}\n", "spec.yaml")


def told(soak: str, more: str = "") -> list[tuple[str, str]]:
    """Where each mistake stands, and what it says with its remedy."""
    with pytest.raises(SpecError) as caught:
        parse(soak, more)
    return [(item.path.removeprefix("scenarios.soak."), f"{item.message} | {item.remedy}") for item in caught.value.mistakes]


def settings(soak: str) -> ScenarioSettings:
    return parse(soak).scenario_settings()[Scenario.SOAK]


def test_a_bare_soak_loads_flat_out_for_five_minutes_with_probes() -> None:
    soak = settings("").soak
    assert soak is not None
    assert (soak.pattern, soak.duration_secs, soak.probe is not None, soak.start_gate) == ("flat_out", 300.0, True, None)


def test_a_cold_start_has_no_warm_up() -> None:
    assert settings("pattern: cold_start").warmup_runs == 0
    assert settings("pattern: flat_out").warmup_runs == 10


def test_a_planned_soak_is_read_back_as_it_was_written() -> None:
    soak = settings("pattern: {fixed_rate: {rate_hz: 30}}").soak
    assert soak is not None
    assert isinstance(soak.pattern, Pattern)
    assert PlannedSoak.model_validate(soak.model_dump(mode="json")) == soak


def test_a_start_gate_stands_under_a_soak_or_a_latency_run() -> None:
    gate = settings("start_gate: {temperature_c: 40}").gate
    assert gate is not None
    spec = parse_spec(HEAD + "scenarios: {latency: {start_gate: {temperature_c: 41}}}\n", "spec.yaml")
    other = spec.scenario_settings()[Scenario.LATENCY].gate
    assert other is not None
    assert (gate.temperature_c, other.temperature_c) == (40.0, 41.0)


@pytest.mark.parametrize(
    ("soak", "place", "words"),
    [
        ("duratoin_secs: 60", "duratoin_secs", "did you mean 'duration_secs'?"),
        ("pattern: flatout", "pattern", "did you mean 'flat_out'?"),
        ("pattern: {fixed_rat: {rate_hz: 30}}", "pattern.fixed_rat", "did you mean 'fixed_rate'?"),
        ("pattern: {fixed_rate: {rate_hz: 0}}", "pattern.fixed_rate.rate_hz", "greater than 0"),
        ("pattern: {recorded: {file: x.csv}}", "pattern.recorded.cycle_secs", "the key 'cycle_secs' is missing"),
        ("pattern: {thermal_cycle: {low_c: 70, high_c: 60}}", "pattern.thermal_cycle", "low_c (70) is not below high_c (60)"),
        ("pattern: {fixed_rate: {rate_hz: 3}, duty_cycle: {on_secs: 1, off_secs: 1}}", "pattern", "2 are given"),
        ("pattern: 3", "pattern", "expected a mapping, found the number 3"),
        ("telemetry_hz: 100", "telemetry_hz", "less than or equal to 50"),
        ("{duration_secs: 10, probe: null}", "window_secs", "write window_secs: 1"),
        ("{duration_secs: 60, probe: {every_secs: 60}}", "probe.every_secs", "never answered in 60 s"),
        ("{stop: {above_c: 60}, precondition: {secs: 9, until_c: 70}}", "precondition.until_c", "the soak stops above 60 °C"),
        ("{stop: {above_c: 60}, pattern: {thermal_cycle: {low_c: 50, high_c: 60}}}", "pattern.thermal_cycle.high_c", "never reached"),
        ("{stop: {above_c: 60}, start_gate: {temperature_c: 65}}", "start_gate.temperature_c", "it would stop at once"),
        ("{start_gate: {temperature_c: 40}, precondition: {secs: 9, until_c: 35}}", "precondition.until_c", "it would do nothing"),
        ("start_gate: {temperature_c: 40, hold_secs: 10, max_wait_secs: 5}", "start_gate", "raise max_wait_secs"),
        ("cooldown: {secs: 0, until_c: 40}", "cooldown.until_c", "give cooldown.secs"),
        ("surroundings: {}", "surroundings", "name `chamber_c` or `fan`"),
        ("ambient: {stated_c: 20, sensor: ambient.x_c}", "ambient", "either stated or measured"),
    ],
)
def test_a_mistake_is_told_at_its_place(soak: str, place: str, words: str) -> None:
    ((found, message),) = told(soak)
    assert found == place
    assert words in message


def test_a_rate_of_sampling_that_a_soak_cannot_have_is_told_unless_it_has_its_own() -> None:
    ((place, message),) = told("", "telemetry_hz: 100\n")
    assert (place, "100" in message) == ("telemetry_hz", True)
    ((place, _),) = told("", "telemetry_hz: 0\n")
    assert place == "telemetry_hz"
    parse("telemetry_hz: 20", "telemetry_hz: 100\n")


def test_all_mistakes_of_a_soak_are_told_at_once() -> None:
    assert len(told("{pattern: flatout, windows: 3, cooldown: {secs: 0, until_c: 40}, surroundings: {}}")) == 4


def test_a_key_that_looks_like_a_mark_of_ours_is_an_unknown_key_like_any_other() -> None:
    ((place, message),) = told('pattern: {"<mapping>": 3, fixed_rate: {rate_hz: 3}}')
    assert (place, "unknown key '<mapping>'" in message) == ("pattern.<mapping>", True)
