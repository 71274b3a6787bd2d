"""The input steps give exactly the batch a model takes, and say what is missing when they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.errors import DtypeMismatch, RequestInvalid, ShapeMismatch
from agent.preprocess import compile_steps, dequantizer
from agent.protocol import STEP_PARAMETERS, TensorInfo, check_steps

INT8_IMAGE = TensorInfo("image", [1, 2, 3, 1], "int8", scale=0.5, zero_point=-3)


def _run(steps: list[dict[str, Any]], model_input: TensorInfo, sample: np.ndarray) -> np.ndarray:
    return compile_steps(steps, model_input, sample.shape, sample.dtype.str)(sample)


def _float(*shape: int) -> TensorInfo:
    return TensorInfo("x", list(shape), "float32")


def test_without_steps_the_sample_gets_its_batch_axis_and_nothing_else() -> None:
    sample = np.arange(6, dtype=np.float32).reshape(2, 3)
    batch = _run([], _float(1, 2, 3), sample)
    np.testing.assert_array_equal(batch, sample[None])
    assert batch.dtype == np.float32


@pytest.mark.parametrize("shape", [[-1, 2, 3], [1, -1, -1], [0, 2, 3], [2, 3], [-1, 3]])
def test_dynamic_dimensions_of_the_model_take_any_size(shape: list[int]) -> None:
    assert _run([], TensorInfo("x", shape, "float32"), np.zeros((2, 3), np.float32)).size == 6


def test_dequantize_and_quantize_are_inverse_for_every_int8_value() -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    model_input = TensorInfo("x", [1, 256], "int8", scale=0.5847029089927673, zero_point=83)
    steps = [{"kind": "dequantize", "scale": 0.5847029, "zero_point": 83}, {"kind": "quantize"}]
    np.testing.assert_array_equal(_run(steps, model_input, stored)[0], stored)


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    values = np.array([[0.25, 0.75, 1.25], [-0.25, 1e9, -np.inf]], np.float32)[..., None]
    batch = _run([{"kind": "quantize"}], INT8_IMAGE, values)
    # x / 0.5 = 0.5, 1.5, 2.5, -0.5 round to 0, 2, 2, 0; the zero point is -3
    np.testing.assert_array_equal(batch.reshape(-1), [-3, -1, -1, -3, 127, -128])
    assert batch.dtype == np.int8


def test_quantize_without_scale_and_zero_point_says_to_leave_it_out() -> None:
    with pytest.raises(RequestInvalid) as caught:
        _run([{"kind": "quantize"}], _float(1, 2), np.zeros(2, np.float32))
    assert "leave the step `quantize` out" in caught.value.remedy


def test_normalize_works_per_channel_on_the_last_axis() -> None:
    sample = np.array([[[10, 20, 30]]], np.uint8)
    batch = _run([{"kind": "normalize", "mean": [10, 10, 10], "std": [1, 2, 4]}], _float(1, 1, 1, 3), sample)
    np.testing.assert_array_equal(batch.reshape(-1), [0, 5, 5])
    scalar = _run([{"kind": "normalize", "mean": 10, "std": 2}], _float(1, 1, 1, 3), sample)
    np.testing.assert_array_equal(scalar.reshape(-1), [0, 5, 10])


def test_normalize_with_numbers_for_other_channels_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="does not fit"):
        _run([{"kind": "normalize", "mean": [1, 2], "std": 1}], _float(1, 1, 1, 3), np.zeros((1, 1, 3), np.uint8))


def test_scale_multiplies_then_adds() -> None:
    batch = _run([{"kind": "scale", "factor": 1 / 127.5, "offset": -1}], _float(1, 3), np.array([0, 127, 255], np.uint8))
    np.testing.assert_allclose(batch[0], [-1, -0.00392157, 1], atol=1e-6)
    np.testing.assert_array_equal(_run([{"kind": "scale", "factor": 2}], _float(1, 3), np.arange(3))[0], [0, 2, 4])


def test_layout_moves_channels_first_with_or_without_the_batch_axis_in_its_name() -> None:
    sample = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for given, wanted in (("NHWC", "NCHW"), ("HWC", "CHW")):
        batch = _run([{"kind": "layout", "from": given, "to": wanted}], _float(1, 4, 2, 3), sample)
        np.testing.assert_array_equal(batch[0], sample.transpose(2, 0, 1))
        assert batch.flags.c_contiguous


def test_bilinear_resize_uses_half_pixel_centres() -> None:
    sample = np.array([[0.0, 10.0], [20.0, 30.0]], np.float32)
    batch = _run([{"kind": "resize", "height": 4, "width": 4, "method": "bilinear"}], _float(1, 4, 4), sample)
    np.testing.assert_allclose(batch[0][0], [0, 2.5, 7.5, 10])
    np.testing.assert_allclose(batch[0][:, 0], [0, 5, 15, 20])
    down = _run([{"kind": "resize", "height": 1, "width": 1, "method": "bilinear"}], _float(1, 1, 1), sample)
    assert down[0, 0, 0] == 15


def test_nearest_resize_repeats_pixels_and_keeps_the_type() -> None:
    sample = np.array([[1, 2], [3, 4]], np.uint8)[..., None]
    model_input = TensorInfo("x", [1, 4, 4, 1], "uint8")
    batch = _run([{"kind": "resize", "height": 4, "width": 4, "method": "nearest"}], model_input, sample)
    np.testing.assert_array_equal(batch[0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


def test_cast_and_reshape() -> None:
    batch = _run([{"kind": "cast", "dtype": "float32"}, {"kind": "reshape", "shape": [2, -1]}], _float(1, 2, 3), np.arange(6))
    np.testing.assert_array_equal(batch[0], [[0, 1, 2], [3, 4, 5]])


def test_the_input_is_never_changed() -> None:
    sample = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    before = sample.copy()
    steps = [{"kind": "scale", "factor": 3.0}, {"kind": "normalize", "mean": 1.0, "std": 2.0}, {"kind": "quantize"}]
    _run(steps, INT8_IMAGE, sample)
    np.testing.assert_array_equal(sample, before)


@pytest.mark.parametrize(
    ("sample", "model_input", "remedy"),
    [
        (np.zeros((2, 3, 1), np.float32), INT8_IMAGE, "add the step `quantize`"),
        (np.zeros((2, 3, 1), np.uint8), INT8_IMAGE, "add the steps `dequantize`"),
        (np.zeros(3, np.int8), _float(1, 3), "add the step `dequantize`"),
        (np.zeros(3, np.float64), _float(1, 3), "add the step `cast` with dtype float32"),
    ],
)
def test_a_wrong_type_names_the_step_that_mends_it(sample: np.ndarray, model_input: TensorInfo, remedy: str) -> None:
    with pytest.raises(DtypeMismatch) as caught:
        _run([], model_input, sample)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("shape", "wanted", "remedy"),
    [
        ((32, 32, 3), [1, 3, 32, 32], "`layout` from NHWC to NCHW"),
        ((3, 32, 32), [1, 32, 32, 3], "`layout` from NCHW to NHWC"),
        ((28, 28), [1, 784], "`reshape` with shape [784]"),
        ((30, 30, 3), [1, 96, 96, 3], "`resize` with height 96 and width 96"),
        ((4,), [8, 4], "fixed batch of 8"),
        ((5,), [1, 7], "dataset made for this model"),
    ],
)
def test_a_wrong_shape_names_the_step_that_mends_it(shape: tuple[int, ...], wanted: list[int], remedy: str) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        _run([], TensorInfo("x", wanted, "float32"), np.zeros(shape, np.float32))
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ("quantize", "expected a list"),
        ([7], "expected an object"),
        ([{"scale": 1}], "unknown kind None"),
        ([{"kind": "rotate"}], "unknown kind 'rotate'"),
        ([{"kind": ["scale"]}], "unknown kind"),
        ([{"kind": "quantize", "scale": 1}], "unknown parameter 'scale'"),
        ([{"kind": "dequantize", "scale": 0.1}], "'zero_point' is missing"),
        ([{"kind": "dequantize", "scale": 0, "zero_point": 1}], "above 0"),
        ([{"kind": "dequantize", "scale": 0.1, "zero_point": 1.5}], "an integer"),
        ([{"kind": "scale", "factor": float("nan")}], "finite number"),
        ([{"kind": "scale", "factor": True}], "finite number"),
        ([{"kind": "resize", "height": 0, "width": 2, "method": "nearest"}], "1 or more"),
        ([{"kind": "resize", "height": 2, "width": 2, "method": "cubic"}], "nearest, bilinear"),
        ([{"kind": "layout", "from": "NHWC", "to": "NCH"}], "same axes"),
        ([{"kind": "layout", "from": "NHHC", "to": "NHWC"}], "different letters"),
        ([{"kind": "normalize", "mean": [0, 1], "std": [1, 0]}], "cannot be divided"),
        ([{"kind": "normalize", "mean": [], "std": 1}], "finite number"),
        ([{"kind": "cast", "dtype": "object"}], "none of float32"),
        ([{"kind": "reshape", "shape": [-1, -1]}], "at most one"),
        ([{"kind": "scale", "factor": 1}] * 33, "more than the 32"),
    ],
)
def test_a_malformed_step_is_named_without_needing_a_model(steps: Any, complaint: str) -> None:
    problems = check_steps(steps)
    assert len(problems) == 1
    assert complaint in problems[0]
    with pytest.raises(RequestInvalid):
        compile_steps(steps, _float(1, 3), (3,), "<f4")


def test_all_mistakes_are_reported_at_once() -> None:
    problems = check_steps([{"kind": "dequantize"}, {"kind": "rotate"}])
    assert len(problems) == 3
    assert problems[2].startswith("steps[1]")


def test_every_step_of_the_table_can_be_run() -> None:
    examples: dict[str, tuple[dict[str, Any], TensorInfo]] = {
        "dequantize": ({"scale": 0.5, "zero_point": 1}, _float(1, 2, 3, 1)),
        "resize": ({"height": 2, "width": 3, "method": "bilinear"}, _float(1, 2, 3, 1)),
        "layout": ({"from": "HWC", "to": "CHW"}, _float(1, 1, 2, 3)),
        "scale": ({"factor": 2}, _float(1, 2, 3, 1)),
        "normalize": ({"mean": 1, "std": 2}, _float(1, 2, 3, 1)),
        "quantize": ({}, INT8_IMAGE),
        "cast": ({"dtype": "float32"}, _float(1, 2, 3, 1)),
        "reshape": ({"shape": [6]}, _float(1, 6)),
    }
    assert set(examples) == set(STEP_PARAMETERS)
    for kind, (parameters, model_input) in examples.items():
        batch = _run([{"kind": kind, **parameters}], model_input, np.zeros((2, 3, 1), np.float32))
        assert list(batch.shape) == model_input.shape


def test_a_step_that_does_not_fit_the_sample_says_which() -> None:
    with pytest.raises(RequestInvalid, match=r"steps\[0\] `reshape` does not fit a sample of shape \[4\]"):
        _run([{"kind": "reshape", "shape": [3]}], _float(1, 3), np.zeros(4, np.float32))


def test_outputs_are_dequantized_with_their_own_scale() -> None:
    dequantize = dequantizer(TensorInfo("y", [1, 2], "int8", scale=1 / 256, zero_point=-128))
    assert dequantize is not None
    np.testing.assert_array_equal(dequantize(np.array([-128, 127], np.int8)), np.array([0, 255 / 256], np.float32))
    assert dequantizer(TensorInfo("y", [1, 2], "float32")) is None
