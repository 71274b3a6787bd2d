"""docs/spec.md must say what the reader does."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.domain.spec import ExperimentSpec, LatencyScenario, Precision, Variant
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.steps import Step

DOCS = (Path(__file__).parents[3] / "docs" / "spec.md").read_text()


def test_the_first_example_of_the_documentation_is_a_valid_spec() -> None:
    example = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)[0]
    assert parse_spec(example, "docs/spec.md").name == "digits"


def test_every_key_step_and_precision_is_documented() -> None:
    known = [*ExperimentSpec.model_fields, *Variant.model_fields, *Step.model_fields]
    assert [name for name in known if not re.search(rf"`{name}[`:]", DOCS)] == []
    assert [word for word in Precision.__args__ if not re.search(rf"\b{word}\b", DOCS)] == []


def test_the_documented_defaults_of_a_latency_run_are_the_real_ones() -> None:
    for name, value in LatencyScenario().model_dump(exclude_none=True).items():
        assert f"`{name}: {value:g}`" in DOCS
