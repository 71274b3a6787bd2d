"""What a reader is told of where the nodes ran, also by a device that lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Scenario
from orchestrator.report.findings import Finding, findings
from orchestrator.report.inputs import ReportExtras, ReportInput
from orchestrator.report.node_placement import node_placement
from orchestrator.report.page import render_report
from orchestrator.report.reading import read_matrix
from tests.unit.report.builders import BENCH_A, VARIANTS, envelope, experiment

LEFT = [{"name": f"layer_{index}", "operator": name, "provider": "builtin"} for index, name in enumerate(("CONV_2D",) * 3 + ("SOFTMAX",))]
PARTLY = {
    "asked": "xnnpack",
    "used": ["XNNPACK", "builtin"],
    "node_counts": {"XNNPACK": 9, "builtin": 4},
    "fallback_count": 4,
    "fallback": LEFT,
}
WHOLLY = {**PARTLY, "used": ["XNNPACK"], "node_counts": {"XNNPACK": 13}, "fallback_count": 0, "fallback": []}
UNKNOWN = {"asked": "cuda", "used": [], "node_counts": {}, "cause": "the runner ended while it looked"}


def _result(placement: Any, variant: int = 0) -> ResultEnvelope:
    result = envelope(VARIANTS[variant], BENCH_A, Scenario.LATENCY, 0)
    assert result.attempt is not None
    runner = {**result.attempt.runner, "placement": placement}
    return result.model_copy(update={"attempt": result.attempt.model_copy(update={"runner": runner})})


def _findings(*placements: Mapping[str, Any]) -> list[Finding]:
    results = [_result(placement, index) for index, placement in enumerate(placements)]
    return [item for item in findings(read_matrix(ReportInput(results))) if "asked for" in item.title or "unknown" in item.title]


def test_nodes_that_run_elsewhere_are_counted_with_their_operators() -> None:
    placed = node_placement(_result(PARTLY))
    assert placed is not None
    assert placed.text == "asked for xnnpack: 13 nodes, 9 XNNPACK and 4 builtin"
    assert placed.fallback_text == "asked for xnnpack: 4 of 13 nodes run elsewhere (3 CONV_2D and 1 SOFTMAX)"


def test_a_record_of_an_earlier_release_tells_what_it_holds() -> None:
    placed = node_placement(_result({"asked": "default", "used": ["XNNPACK"], "node_counts": {"XNNPACK": 3}, "cause": None}))
    assert placed is not None
    assert (placed.text, placed.elsewhere_count, placed.fallback_text) == ("asked for default: 3 nodes, 3 XNNPACK", None, "")


def test_a_placement_that_is_unknown_says_why() -> None:
    placed = node_placement(_result(UNKNOWN))
    assert placed is not None
    assert placed.text == "asked for cuda: unknown, the runner ended while it looked"


@pytest.mark.parametrize(
    "record",
    [
        {"asked": 5, "node_counts": {"a" * 10_000: 1, "b": -3, "c": "many"}, "fallback_count": "x", "fallback": [7, {"operator": 8}]},
        {"asked": "\u202egpu", "node_counts": [1], "fallback_count": 3, "fallback": {"a": 1}, "cause": ["x" * 9_000]},
        {"node_counts": {str(index): 1 for index in range(9_000)}},
    ],
)
def test_a_record_that_lies_is_cleaned_and_bounded(record: dict[str, Any]) -> None:
    placed = node_placement(_result(record))
    assert placed is not None
    assert len(placed.text) < 1_000
    assert "\u202e" not in placed.text
    assert len(placed.fallback_text) < 1_000
    assert node_placement(_result([1])) is None


def test_a_provider_that_did_not_run_every_node_is_a_finding_and_one_that_did_is_none() -> None:
    (found,) = _findings(PARTLY, {**PARTLY, "fallback_count": 13, "node_counts": {"builtin": 13}}, WHOLLY)
    assert (found.level, found.title) == ("amber", "2 cells asked for xnnpack: not every node runs there")
    first, second = (case.name for case in VARIANTS[:2])
    assert f"{first} on bench-a: 4 of 13 nodes elsewhere (9 XNNPACK and 4 builtin)" in found.text
    assert f"{second} on bench-a: 13 of 13 nodes elsewhere (13 builtin)" in found.text


def test_a_placement_asked_for_and_unknown_is_noted() -> None:
    (found,) = _findings(UNKNOWN, WHOLLY)
    assert (found.level, found.title) == ("note", "Whether cuda ran all nodes is unknown for 1 cell")


def test_the_report_says_which_profiles_were_never_tried_on_their_hardware() -> None:
    data = experiment(devices=[BENCH_A], repeats=1)
    told = ReportExtras(untried_profiles=(BENCH_A.profile,))
    pages = [render_report(ReportInput(data.results, extras)) for extras in (ReportExtras(), told)]
    assert [len(re.findall(r"tried on hardware: no", page)) for page in pages] == [0, 1]
