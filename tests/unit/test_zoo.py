"""The example zoo is what its manifest, its README and the specs say it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tflite
import yaml
from onnx import numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = REPOSITORY / "examples" / "digits"
MODELS = REPOSITORY / "benchmarks" / "models"
MANIFEST: dict[str, Any] = json.loads((DIGITS / "manifest.json").read_text(encoding="utf-8"))
INT8_TFLITE, FLOAT16_TFLITE, FLOAT32_TFLITE = tflite.TensorType.INT8, tflite.TensorType.FLOAT16, tflite.TensorType.FLOAT32


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("folder", [DIGITS, MODELS], ids=["digits", "benchmark models"])
def test_every_committed_file_has_the_digest_and_size_of_its_manifest(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert set(files) == {path.name for path in folder.iterdir()} - {"manifest.json", "README.md"}
    for name, record in files.items():
        assert (digest(folder / name), (folder / name).stat().st_size) == (record["sha256"], record["size_bytes"]), name


def test_the_zoo_stays_small_enough_to_live_in_the_repository() -> None:
    assert sum(path.stat().st_size for folder in (DIGITS, MODELS) for path in folder.iterdir()) < 5_000_000


def test_the_demo_spec_declares_each_variant_as_the_manifest_does() -> None:
    spec = yaml.safe_load((REPOSITORY / "examples" / "digits.yaml").read_text(encoding="utf-8"))
    declared = {(v["name"], v["file"], v["runtime"], v["precision"], v["quantization"]) for v in spec["models"][0]["variants"]}
    built = {
        (record["variant"], f"digits/{name}", record["runtime"], record["precision"], record["quantization"])
        for name, record in MANIFEST["files"].items()
        if "variant" in record
    }
    assert declared == built


def test_the_test_data_are_the_last_697_digits_with_labels_and_honest_slices() -> None:
    arrays = dict(np.load(DIGITS / "digits_test.npz", allow_pickle=False))
    assert arrays["x"].shape == (697, 8, 8, 1)
    assert arrays["x"].dtype == np.float32
    assert (arrays["x"].min(), arrays["x"].max()) == (0.0, 1.0)
    np.testing.assert_array_equal(arrays["x"] * 16, np.rint(arrays["x"] * 16))
    np.testing.assert_array_equal(arrays["position"], np.arange(1100, 1797))
    assert set(arrays["y"].tolist()) == set(range(10))
    np.testing.assert_array_equal(arrays["class_group"] == "closed", np.isin(arrays["y"], [0, 6, 8, 9]))
    ink = arrays["x"].sum(axis=(1, 2, 3))
    assert ink[arrays["ink"] == "light"].max() <= ink[arrays["ink"] == "medium"].min()
    assert ink[arrays["ink"] == "medium"].max() <= ink[arrays["ink"] == "heavy"].min()
    assert arrays["file_third"].tolist() == sorted(arrays["file_third"].tolist(), key=["first", "middle", "last"].index)


def test_the_source_and_licence_of_the_data_are_named() -> None:
    readme = (DIGITS / "README.md").read_text(encoding="utf-8")
    for text in (MANIFEST["data"]["licence"].split(",")[0], "Alpaydin", "Kaynak", "10.24432/C50P49"):
        assert text in readme


def onnx_weights(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


@pytest.mark.parametrize(
    ("file", "activations", "weights", "per_channel", "largest"),
    [
        ("onnx_u8s8.onnx", np.uint8, np.int8, True, 127),
        ("onnx_u8s8_rr.onnx", np.uint8, np.int8, True, 64),
        ("onnx_u8u8.onnx", np.uint8, np.uint8, False, 255),
        ("onnx_s8s8.onnx", np.int8, np.int8, True, 127),
    ],
)
def test_each_static_onnx_variant_quantizes_as_its_name_says(
    file: str, activations: type, weights: type, per_channel: bool, largest: int
) -> None:
    model = onnx.load(DIGITS / file)
    constants = onnx_weights(model)
    zero_points = [constants[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert zero_points
    assert all(zero_point.dtype == activations for zero_point in zero_points)
    dequantized = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    kernels = {node.input[0]: constants[node.input[1]] for node in dequantized if constants[node.input[0]].dtype != np.int32}
    assert len(kernels) == 12  # one convolution, five depthwise and pointwise pairs, one dense layer
    for name, scale in kernels.items():
        values = constants[name]
        assert values.dtype == weights
        if values.ndim == 4:
            assert scale.size == (values.shape[0] if per_channel else 1)
    extremes = [np.abs(constants[name].astype(np.int32)).max() for name in kernels]
    assert max(extremes) <= largest
    assert min(extremes) > largest / 2


def test_the_dynamic_onnx_variant_computes_every_convolution_in_integers() -> None:
    model = onnx.load(DIGITS / "onnx_dynamic.onnx")
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("ConvInteger") == 11
    assert "MatMulInteger" in operators
    assert not {"Conv", "MatMul", "Gemm"} & set(operators)


class TfliteFile:
    """Tensor types of a TFLite file: its input, its output and its constants by type."""

    def __init__(self, name: str) -> None:
        model = tflite.Model.GetRootAsModel((DIGITS / name).read_bytes(), 0)
        graph = model.Subgraphs(0)
        self.input = graph.Tensors(graph.Inputs(0)).Type()
        self.output = graph.Tensors(graph.Outputs(0)).Type()
        self.constants: list[tuple[int, np.ndarray[Any, Any]]] = []
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            data = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if not isinstance(data, int):
                self.constants.append((tensor.Type(), data))

    def bytes_of(self, kind: int) -> int:
        return sum(len(data) for item, data in self.constants if item == kind)


def test_the_w8a8_tflite_variant_is_integer_from_input_to_output() -> None:
    file = TfliteFile("tflite_w8a8.tflite")
    assert (file.input, file.output) == (INT8_TFLITE, INT8_TFLITE)
    assert file.bytes_of(INT8_TFLITE) > 80_000
    assert file.bytes_of(FLOAT32_TFLITE) == 0


@pytest.mark.parametrize(
    ("name", "weights"),
    [("tflite_fp32.tflite", FLOAT32_TFLITE), ("tflite_dynamic.tflite", INT8_TFLITE), ("tflite_fp16.tflite", FLOAT16_TFLITE)],
)
def test_the_other_tflite_variants_take_floats_and_keep_most_weights_in_their_own_type(name: str, weights: int) -> None:
    file = TfliteFile(name)
    assert (file.input, file.output) == (FLOAT32_TFLITE, FLOAT32_TFLITE)
    assert file.bytes_of(weights) > 0.9 * sum(len(data) for kind, data in file.constants if kind != tflite.TensorType.INT32)


def test_onnx_and_tflite_hold_the_same_trained_weights() -> None:
    dense = next(values for values in onnx_weights(onnx.load(DIGITS / "onnx_fp32.onnx")).values() if values.shape == (128, 10))
    stored = [data.tobytes() for _, data in TfliteFile("tflite_fp32.tflite").constants]
    assert np.ascontiguousarray(dense.T).tobytes() in stored
    assert MANIFEST["fp32_largest_difference_onnx_tflite"] < 1e-4
