"""What ``compare`` pairs, what it computes, and when it says that it cannot know."""

from __future__ import annotations

import pytest

from orchestrator.domain.states import Emulation, JobOutcome
from orchestrator.service.comparison import CellComparison, Comparison, compare
from orchestrator.service.selection import SelectionInvalid
from tests.unit.service.lab import Cell, Lab, predictions


def labels(result: Comparison) -> list[tuple[str, str]]:
    return [(pair.label_a, pair.label_b) for pair in result.pairs]


def only(result: Comparison) -> CellComparison:
    assert len(result.pairs) == 1
    return result.pairs[0]


@pytest.fixture
def two_places(lab: Lab) -> Lab:
    lab.add_experiment(
        "exp1",
        [
            Cell("fp32", predictions(), latencies_ms=(2.0, 2.1, 2.05)),
            Cell("w8a8", predictions(range(30)), latencies_ms=(1.0, 1.05, 1.02)),
            Cell("fp32", predictions(), environment="litert", latencies_ms=(2.0, 2.1, 2.05)),
            Cell("w8a8", predictions(range(30)), environment="litert", latencies_ms=(1.9, 2.3, 2.1)),
        ],
    )
    return lab


def test_two_variants_are_compared_in_each_place_of_their_own(two_places: Lab) -> None:
    result = compare(two_places.context, "last:fp32", "last:w8a8")
    assert labels(result) == [("fp32 · default", "w8a8 · default"), ("fp32 · litert", "w8a8 · litert")]
    assert result.unmatched == ()


def test_a_loss_beyond_chance_is_worse_and_a_clear_gain_in_time_is_faster(two_places: Lab) -> None:
    pair = compare(two_places.context, "last:fp32", "last:w8a8").pairs[0]
    assert pair.accuracy is not None
    assert pair.latency is not None
    assert pair.accuracy_verdict == "worse"
    assert pair.accuracy.difference == pytest.approx(-15.0)
    assert pair.accuracy.high is not None
    assert pair.accuracy.high < 0
    assert pair.accuracy.mcnemar_p == pytest.approx(2 * 0.5**30)
    assert (pair.accuracy.flips_to_wrong, pair.accuracy.flips_to_right) == (30, 0)
    assert pair.latency.verdict == "faster"
    assert pair.latency.ratio == pytest.approx(0.5, rel=0.02)


def test_a_ratio_whose_interval_holds_one_is_undetermined_and_says_why(two_places: Lab) -> None:
    latency = compare(two_places.context, "last:fp32", "last:w8a8").pairs[1].latency
    assert latency is not None
    assert latency.verdict == "undetermined"
    assert "holds 1" in str(latency.cause)


def test_one_repeat_gives_no_interval_and_says_so(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions(), latencies_ms=(1.0,)), Cell("w8a8", predictions(), latencies_ms=(2.0,))])
    latency = only(compare(lab.context, "last:fp32", "last:w8a8")).latency
    assert latency is not None
    assert latency.low is None
    assert latency.verdict == "undetermined"
    assert "repeat" in str(latency.cause)
    assert latency.ratio == pytest.approx(2.0)


def test_by_environment_compares_each_variant_with_itself(two_places: Lab) -> None:
    result = compare(two_places.context, "last", by="environment")
    assert labels(result) == [("fp32 · default", "fp32 · litert"), ("w8a8 · default", "w8a8 · litert")]
    assert all(pair.accuracy is not None and pair.accuracy.bit_exact_share == 1.0 for pair in result.pairs)


def test_by_variant_takes_the_reference_as_base(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("w8a8", predictions([1])), Cell("fp32", predictions()), Cell("w8", predictions())])
    assert labels(compare(lab.context, "last", by="variant")) == [("fp32", "w8a8"), ("fp32", "w8")]


def test_two_experiments_are_compared_cell_by_cell_and_the_rest_is_named(lab: Lab) -> None:
    lab.add_experiment("aaa1", [Cell("fp32", predictions()), Cell("w8a8", predictions())], age_secs=100)
    lab.add_experiment("bbb2", [Cell("fp32", predictions()), Cell("w8", predictions())])
    result = compare(lab.context, "aaa1", "bbb2")
    assert labels(result) == [("aaa1 · fp32", "bbb2 · fp32")]
    assert result.unmatched == ("aaa1 · w8a8", "bbb2 · w8")


def test_experiments_on_one_device_each_are_compared_across_the_devices(lab: Lab) -> None:
    lab.add_device("other")
    lab.add_experiment("aaa1", [Cell("fp32", predictions()), Cell("w8a8", predictions())], age_secs=100)
    lab.add_experiment("bbb2", [Cell("fp32", predictions(), device="other"), Cell("w8a8", predictions([3]), device="other")])
    result = compare(lab.context, "aaa1", "bbb2")
    assert [(pair.accuracy.flips_to_wrong if pair.accuracy else None) for pair in result.pairs] == [0, 1]


def test_two_jobs_are_compared_whatever_they_are(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("w8a8", predictions([1, 2]), environment="litert")])
    pair = only(compare(lab.context, "exp1-001", "exp1-004"))
    assert pair.accuracy is not None
    assert pair.accuracy.flips_to_wrong == 2
    assert pair.latency is None


def test_the_latency_of_an_emulated_cpu_is_withheld(lab: Lab) -> None:
    lab.add_device("qemu", Emulation.CPU)
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("fp32", predictions([5]), device="qemu")])
    pair = only(compare(lab.context, "last", by="device"))
    assert pair.latency is not None
    assert pair.latency.ratio is None
    assert "emulated" in str(pair.latency.cause)
    assert pair.accuracy is not None
    assert pair.accuracy.flips_to_wrong == 1
    assert "EMULATED" in pair.label_b


def test_a_side_that_was_not_measured_is_undetermined_and_named(lab: Lab) -> None:
    error = {"class": "job", "code": "model_rejected", "message": "no", "remedy": ""}
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("bad", predictions(), outcome=JobOutcome.ERROR, error=error)])
    pair = only(compare(lab.context, "last:fp32", "last:bad"))
    assert pair.accuracy_verdict == "undetermined"
    assert pair.accuracy is not None
    assert pair.accuracy.difference is None
    assert "not measured" in str(pair.accuracy.cause)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("last:fp64", "last:w8a8", "no variant 'fp64'"),
        ("last:colour=red", "last", "no axis 'colour'"),
        ("nothing", "last", "nothing"),
        ("exp1-001", "exp1-002", "same scenario"),
    ],
)
def test_a_selection_that_cannot_be_read_names_what_there_is(two_places: Lab, a: str, b: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        compare(two_places.context, a, b)
    assert getattr(caught.value, "error_class", "") == "configuration"
    assert getattr(caught.value, "remedy", "")


def test_one_selection_without_an_axis_is_refused(two_places: Lab) -> None:
    with pytest.raises(SelectionInvalid, match="compared with nothing"):
        compare(two_places.context, "last")
