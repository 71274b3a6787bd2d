import math

import numpy as np
import pytest

from agent.errors import DeviceReplyInvalid
from orchestrator.analysis.statistics import Undetermined
from orchestrator.analysis.tensors import TensorError, compare_outputs


def _outputs(values: np.ndarray, sample: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"sample": np.arange(len(values), dtype=np.uint32) if sample is None else sample, "values": values.astype(np.float32)}


def test_errors_are_what_the_definitions_give_by_hand() -> None:
    error = compare_outputs(_outputs(np.array([[3.0, 4.0], [0.0, 5.0]])), _outputs(np.array([[3.0, 3.0], [0.0, 5.0]])))
    assert isinstance(error, TensorError)
    assert error.sqnr_db == pytest.approx(20 * math.log10(math.sqrt(50) / 1))
    assert error.rmse == pytest.approx(0.5)
    assert error.max_abs == pytest.approx(1.0)
    assert error.cosine == pytest.approx((21 / (5 * math.sqrt(18)) + 1) / 2)


def test_uniform_rounding_has_the_noise_that_theory_gives_it() -> None:
    """Rounding to a step leaves an RMSE of step / sqrt(12), so SQNR follows from the signal's own power."""
    values = np.random.default_rng(1).normal(0, 1, (2000, 50))
    step = 0.05
    error = compare_outputs(_outputs(values), _outputs(np.round(values / step) * step))
    assert isinstance(error, TensorError)
    assert error.rmse == pytest.approx(step / math.sqrt(12), rel=0.01)
    assert error.sqnr_db == pytest.approx(20 * math.log10(math.sqrt(12) / step), abs=0.1)


def test_outputs_are_matched_by_sample_not_by_row() -> None:
    values = np.random.default_rng(2).normal(0, 1, (20, 3))
    order = np.random.default_rng(3).permutation(20)
    error = compare_outputs(_outputs(values), _outputs(values[order], order.astype(np.uint32)))
    assert isinstance(error, TensorError)
    assert error.max_abs == 0
    assert error.sqnr_db == Undetermined("the outputs equal the reference's: there is no noise")


def test_a_sample_that_is_not_finite_is_left_out_and_the_count_tells() -> None:
    values = np.ones((4, 2))
    broken = values.copy()
    broken[1, 0] = np.nan
    error = compare_outputs(_outputs(values), _outputs(broken))
    assert isinstance(error, TensorError)
    assert error.count == 3
    assert isinstance(compare_outputs(_outputs(values), _outputs(values * np.inf)), Undetermined)


def test_outputs_of_another_size_cannot_be_compared() -> None:
    answer = compare_outputs(_outputs(np.ones((4, 2))), _outputs(np.ones((4, 3))))
    assert isinstance(answer, Undetermined)
    assert "2 output values" in answer.cause


def test_the_outputs_of_one_sample_twice_are_refused() -> None:
    with pytest.raises(DeviceReplyInvalid):
        compare_outputs(_outputs(np.ones((2, 2))), _outputs(np.ones((2, 2)), np.zeros(2, dtype=np.uint32)))
