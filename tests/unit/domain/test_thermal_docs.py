"""docs/thermal.md must say what the reader does."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.analysis.metric_names import METRICS
from orchestrator.domain.soak import Cooldown, Onset, Probe, SoakScenario, StartGate
from orchestrator.domain.spec_text import parse_spec

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "thermal.md").read_text()


def test_the_spec_of_the_documentation_and_the_example_can_be_read() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    soak = parse_spec(example, "docs/thermal.md").scenarios.soak
    assert soak is not None
    assert soak.duration_secs == 900
    assert parse_spec((ROOT / "examples" / "soak.yaml").read_text(), "soak.yaml").scenarios.soak is not None


def test_every_field_of_a_soak_is_documented() -> None:
    for name in SoakScenario.model_fields:
        assert re.search(rf"^\| `{name}`|^\| `[^|]*`{name}`", DOCS, re.MULTILINE), name
    for part in (StartGate, Cooldown, Probe, Onset):
        assert [name for name in part.model_fields if not re.search(rf"\b{name}\b", DOCS)] == []


def test_the_documented_defaults_are_the_real_ones() -> None:
    soak = SoakScenario()
    for name in ("repeats", "duration_secs", "idle_secs", "window_secs"):
        assert f"| `{name}` | {getattr(soak, name):g} |" in DOCS
    gate = StartGate(temperature_c=40)
    for name in ("tolerance_c", "slope_c_per_min", "hold_secs", "max_wait_secs"):
        assert f"{name}: {getattr(gate, name):g}" in DOCS
    assert soak.probe is not None
    for name in ("samples", "every_secs", "cold_rounds"):
        assert f"{name}: {getattr(soak.probe, name):g}" in DOCS
    assert f"| {soak.onset.rise_percent:g} %, {soak.onset.windows} |" in DOCS
    assert f"| {soak.cooldown.secs:g} s |" in DOCS


def test_quantities_named_in_the_documentation_exist() -> None:
    named = set(re.findall(r"--tolerance (\w+)=", DOCS))
    assert named
    assert named <= set(METRICS)
