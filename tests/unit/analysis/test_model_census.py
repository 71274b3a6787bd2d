from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import pytest
import tflite

from orchestrator.analysis.model_census import ModelUnreadable, census, contradictions

REALDATA = Path(__file__).parents[4] / "shared" / "realdata"
KWS = REALDATA / "kws"

needs_realdata = pytest.mark.skipif(not KWS.is_dir(), reason="the real models are not beside the checkout")


def _onnx_bytes(weight: np.ndarray, **changes: object) -> bytes:
    """One Gemm of ``weight`` (2, 3) with a bias and, so that constants of other kinds exist, a Reshape."""
    constants = [onh.from_array(weight, "w"), onh.from_array(np.zeros(3, np.float32), "b"), onh.from_array(np.array([1, 3]), "shape")]
    nodes = [oh.make_node("Gemm", ["x", "w", "b"], ["g"]), oh.make_node("Reshape", ["g", "shape"], ["y"])]
    ends = [
        oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 2]),
        oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3]),
    ]
    model = oh.make_model(oh.make_graph(nodes, "g", ends[:1], ends[1:], constants))
    for name, value in changes.items():
        setattr(model.graph.initializer[0], name, value)
    return bytes(model.SerializeToString())


def test_weights_are_told_from_biases_and_shapes() -> None:
    found = census(_onnx_bytes(np.ones((2, 3), np.float32)), "onnx")
    assert found.weights == {"float32": 6}
    assert found.weight_tensors == {"float32": 1}
    assert found.other_constants == {"float32": 3, "int64": 2}
    assert found.operators == {"Gemm": 1, "Reshape": 1}
    assert (found.inputs[0].name, found.inputs[0].shape, found.inputs[0].dtype) == ("x", (-1, 2), "float32")
    assert found.quantization == "none"


def test_weights_in_constant_nodes_and_in_subgraphs_are_found() -> None:
    inner = oh.make_graph(
        [oh.make_node("Constant", [], ["c"], value=onh.from_array(np.ones((4, 5), np.float16))), oh.make_node("Identity", ["c"], ["o"])],
        "inner",
        [],
        [oh.make_tensor_value_info("o", onnx.TensorProto.FLOAT16, [4, 5])],
    )
    node = oh.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    ends = [oh.make_tensor_value_info("x", onnx.TensorProto.BOOL, []), oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [4, 5])]
    data = oh.make_model(oh.make_graph([node], "g", ends[:1], ends[1:])).SerializeToString()
    found = census(data, "onnx")
    assert found.weights == {"float16": 20}
    assert found.operators == {"If": 1, "Constant": 2, "Identity": 2}


def test_weights_outside_of_the_file_are_refused_for_they_would_not_reach_the_device() -> None:
    model = onnx.ModelProto.FromString(_onnx_bytes(np.ones((2, 3), np.float32)))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    with pytest.raises(ModelUnreadable, match="another file"):
        census(model.SerializeToString(), "onnx")


def test_a_constant_that_claims_more_values_than_the_file_holds_is_refused() -> None:
    model = onnx.ModelProto.FromString(_onnx_bytes(np.ones((2, 3), np.float32)))
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    with pytest.raises(ModelUnreadable, match="holds 24 entries"):
        census(model.SerializeToString(), "onnx")


SCHEMES = {
    "onnx/kwsref__qdq_U8S8_pc.onnx": "U8S8 per-channel",
    "onnx/kwsref__qdq_U8S8_pt.onnx": "U8S8 per-tensor",
    "onnx/kwsref__qdq_U8S8_pc_rr.onnx": "U8S8 per-channel, 7-bit weights",
    "onnx/kwsref__qdq_U8U8_pc.onnx": "U8U8 per-channel",
    "onnx/kwsref__qdq_S8S8_pt.onnx": "S8S8 per-tensor",
    "onnx/kwsref__qop_U8S8_pt.onnx": "U8S8 per-tensor",
    "onnx/kwsref__fp32_orig.onnx": "none",
    "models/kws_int8_from_savedmodel.tflite": "S8S8 per-channel",
    "models/kws_fp32_from_savedmodel.tflite": "none",
    "models/kws_ref_model_float32.tflite": "dynamic range S8 per-tensor",
}


@needs_realdata
@pytest.mark.parametrize("file", SCHEMES)
def test_the_quantization_scheme_of_a_real_model_is_recognised(file: str) -> None:
    found = census((KWS / file).read_bytes(), "onnx" if file.endswith("onnx") else "tflite")
    assert found.quantization == SCHEMES[file]
    # Every file of the family holds the same network.
    assert sum(found.weights.values()) == 22_016
    assert sum(found.weight_tensors.values()) == 10


@needs_realdata
def test_the_file_named_float32_is_found_to_hold_int8_weights() -> None:
    found = census((KWS / "models/kws_ref_model_float32.tflite").read_bytes(), "tflite")
    assert contradictions("fp32", found) == (
        "declared fp32, but 5 of 10 weight tensors hold int8 (18,944 of 22,016 values): "
        "this file is quantized (dynamic range S8 per-tensor)",
    )
    assert contradictions("dynamic", found) == ()
    assert "activations are not quantized" in contradictions("w8a8", found)[0]


@needs_realdata
def test_a_float_file_declared_as_int8_is_contradicted_and_an_honest_one_is_not() -> None:
    float_file = census((KWS / "models/kws_fp32_from_savedmodel.tflite").read_bytes(), "tflite")
    int8_file = census((KWS / "models/kws_int8_from_savedmodel.tflite").read_bytes(), "tflite")
    assert "10 of 10 weight tensors hold float32" in contradictions("w8a8", float_file)[0]
    assert contradictions("fp32", float_file) == ()
    assert contradictions("w8a8", int8_file) == ()
    assert "ahead of time" in contradictions("dynamic", int8_file)[0]


@needs_realdata
def test_the_int8_input_is_told_with_scale_and_zero_point() -> None:
    (entry,) = census((KWS / "models/kws_ref_model.tflite").read_bytes(), "tflite").inputs
    assert (entry.shape, entry.dtype, entry.zero_point) == ((-1, 49, 10, 1), "int8", 83)
    assert entry.scale == pytest.approx(0.5847029)


def _real_models() -> list[Path]:
    return sorted([*KWS.glob("models/*.tflite"), *(REALDATA / "tflm").glob("models/*.tflite"), *KWS.glob("onnx/*qdq_U8S8_pc.onnx")])


def _is_refused(data: bytes, runtime: str) -> bool:
    try:
        census(data, runtime)  # type: ignore[arg-type]
    except ModelUnreadable:
        return True
    return False


def test_a_hundred_thousand_dimensions_are_refused_before_they_are_multiplied() -> None:
    model = onnx.ModelProto.FromString(_onnx_bytes(np.ones((2, 3), np.float32)))
    model.graph.initializer[0].dims[:] = [2**62] * 100_000
    with pytest.raises(ModelUnreadable, match="100000 dimensions"):
        census(model.SerializeToString(), "onnx")


def _tflite_bytes(tensors: int, weight: np.ndarray, buffers: int) -> bytes:
    """Many tensors over ``buffers`` buffer tables that all point to the same bytes, as no converter writes it."""
    builder = flatbuffers.Builder(1 << 16)
    data = builder.CreateByteVector(weight.tobytes())
    tables = []
    for number in range(buffers + 1):
        tflite.BufferStart(builder)
        if number:
            tflite.BufferAddData(builder, data)
        tables.append(tflite.BufferEnd(builder))
    tflite.TensorStartShapeVector(builder, weight.ndim)
    for dimension in reversed(weight.shape):
        builder.PrependInt32(dimension)
    shape = builder.EndVector()
    rows = []
    for number in range(tensors):
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, tflite.TensorType.INT8)
        tflite.TensorAddBuffer(builder, 1 + number % buffers)
        rows.append(tflite.TensorEnd(builder))

    def vector(start: Callable[[flatbuffers.Builder, int], None], items: list[int]) -> int:
        start(builder, len(items))
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())

    tensor_vector = vector(tflite.SubGraphStartTensorsVector, rows)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensor_vector)
    graphs = vector(tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(builder)])
    buffer_vector = vector(tflite.ModelStartBuffersVector, tables)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffer_vector)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_tensors_that_share_a_buffer_are_read_and_a_maze_of_pointers_to_the_same_bytes_is_refused() -> None:
    weight = np.ones((100, 100), np.int8)
    shared = census(_tflite_bytes(50, weight, buffers=1), "tflite")
    assert shared.weight_tensors == {"int8": 50}
    assert shared.quantization.endswith("7-bit weights")
    with pytest.raises(ModelUnreadable, match="over and over"):
        census(_tflite_bytes(50, weight, buffers=50), "tflite")


@needs_realdata
@pytest.mark.parametrize("path", _real_models(), ids=lambda path: path.name)
def test_a_damaged_file_is_read_or_refused_and_nothing_else_happens(path: Path) -> None:
    """Truncations and random bytes, seeded: an answer or ModelUnreadable, never another error and never for long."""
    runtime = "onnx" if path.suffix == ".onnx" else "tflite"
    sound = path.read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for number in range(150):
        data = bytearray(sound)
        if number % 3 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        else:
            # Where the tables lie: damage there moves offsets, not weights.
            for position in rng.integers(0, min(len(data), 4000) if number % 3 == 1 else len(data), size=8):
                data[position] = int(rng.integers(0, 256))
        refused += _is_refused(bytes(data), runtime)
    assert refused >= 50


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"not a model at all", bytes(range(256)) * 8, b"\xff\xff\xff\xffTFL3" + b"\xff" * 64]
)
def test_bytes_that_are_no_model_are_refused(data: bytes, runtime: str) -> None:
    with pytest.raises(ModelUnreadable):
        census(data, runtime)  # type: ignore[arg-type]


@needs_realdata
def test_a_model_of_the_other_format_is_refused() -> None:
    with pytest.raises(ModelUnreadable):
        census((KWS / "models/kws_ref_model.tflite").read_bytes(), "onnx")
    with pytest.raises(ModelUnreadable):
        census((KWS / "onnx/kwsref__fp32_orig.onnx").read_bytes(), "tflite")
