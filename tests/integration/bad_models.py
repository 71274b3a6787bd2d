"""Models that go wrong, each in a way of its own; all take and give what the digits models do unless that is what is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tflite
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.integration.running import DIGITS

_IMAGE = (1, 8, 8, 1)
#: Where a tensor's table keeps the place of its field ``quantization`` (schema.fbs: the fifth).
_QUANTIZATION = 12


def random_bytes(folder: Path) -> Path:
    return _write(folder / "random.onnx", random.Random(1).randbytes(4096))


def zero_bytes(folder: Path) -> Path:
    return _write(folder / "zeros.tflite", bytes(4096))


def half_an_onnx(folder: Path) -> Path:
    data = (DIGITS / "onnx_fp32.onnx").read_bytes()
    return _write(folder / "half.onnx", data[: len(data) // 2])


def half_a_tflite(folder: Path) -> Path:
    data = (DIGITS / "tflite_w8a8.tflite").read_bytes()
    return _write(folder / "half.tflite", data[: len(data) // 2])


def wild_offset(folder: Path) -> Path:
    """A real model whose input's scale and zero point lie two gigabytes further on: the runtime goes there, into a segmentation fault."""
    data = bytearray((DIGITS / "tflite_w8a8.tflite").read_bytes())
    tensor = tflite.Model.GetRootAs(data, 0).Subgraphs(0).Tensors(0)
    field = tensor._tab.Pos + tensor._tab.Offset(_QUANTIZATION)
    data[field : field + 4] = (2**31 - 1).to_bytes(4, "little")
    return _write(folder / "wild_offset.tflite", bytes(data))


def nested_too_deep(folder: Path) -> Path:
    """``If`` within ``If``, five hundred times."""
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["y"])], "g", [], [_tensor("y", _IMAGE)])
    data = graph.SerializeToString()
    for _ in range(500):
        node = NodeProto(op_type="If", input=["c"], output=["y"]).SerializeToString()
        branch = _field(5, _field(1, b"then_branch") + _field(6, data) + b"\xa0\x01" + bytes([AttributeProto.GRAPH]))
        data = _field(1, node + branch) + _field(2, b"g")
    model = ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 13)]).SerializeToString()
    return _write(folder / "nested.onnx", model + _field(7, data))


def huge_tensor(folder: Path) -> Path:
    """Asks for 256 terabytes while it runs."""
    shape = numpy_helper.from_array(np.array([2**40, 8, 8, 1]), "shape")
    nodes = [helper.make_node("Expand", ["image", "shape"], ["z"]), helper.make_node("ReduceMax", ["z"], ["y"], axes=[0], keepdims=1)]
    return _save(folder / "huge.onnx", nodes, _tensor("y", _IMAGE), [shape])


def endless(folder: Path) -> Path:
    """A loop of 2⁶² turns."""
    turn, go, go_on = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("go_on", TensorProto.BOOL))
    )
    steps = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", [turn, go, _tensor("v")], [go_on, _tensor("w")])
    constants = [numpy_helper.from_array(np.array(2**62), "turns"), numpy_helper.from_array(np.array(True), "yes")]
    nodes = [helper.make_node("Loop", ["turns", "yes", "image"], ["z"], body=body), *_ten_classes("z")]
    return _save(folder / "endless.onnx", nodes, _tensor("y", (1, 10)), [*constants, *_TEN])


def unknown_operator(folder: Path) -> Path:
    nodes = [helper.make_node("FromTheFuture", ["image"], ["z"]), *_ten_classes("z")]
    return _save(folder / "unknown_operator.onnx", nodes, _tensor("y", (1, 10)), _TEN)


def other_shape(folder: Path) -> Path:
    nodes = [helper.make_node("Flatten", ["image"], ["y"])]
    return _save(folder / "other_shape.onnx", nodes, _tensor("y", (1, 27)), image=helper.make_tensor_value_info("image", 1, (1, 3, 3, 3)))


def other_dtype(folder: Path) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.INT64, _IMAGE)
    nodes = [helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT), *_ten_classes("f")]
    return _save(folder / "other_dtype.onnx", nodes, _tensor("y", (1, 10)), _TEN, image)


def five_classes(folder: Path) -> Path:
    ends = [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in (("from", [0]), ("to", [5]), ("axes", [1]))]
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("Slice", ["flat", "from", "to", "axes"], ["y"])]
    return _save(folder / "five_classes.onnx", nodes, _tensor("y", (1, 5)), ends)


def not_a_number_for_half(folder: Path) -> Path:
    """NaN for the images whose mean is below 0.3, ten usable scores for the others."""
    constants = [numpy_helper.from_array(np.array(0.3, dtype=np.float32), "limit")]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "limit"], ["d"]),
        helper.make_node("Log", ["d"], ["l"]),
        *_ten_classes("image", "p"),
        helper.make_node("Add", ["p", "l"], ["y"]),
    ]
    return _save(folder / "nan_for_half.onnx", nodes, _tensor("y", (1, 10)), [*_TEN, *constants])


# --- below ---------------------------------------------------------------------------------------------------

_TEN = [
    numpy_helper.from_array(np.array(value, dtype=np.int64), name)
    for name, value in (("ten_from", [20]), ("ten_to", [30]), ("ten_axes", [1]))
]


def _ten_classes(source: str, result: str = "y") -> list[NodeProto]:
    """Ten of the pixels, as scores."""
    return [
        helper.make_node("Flatten", [source], [f"{source}_flat"]),
        helper.make_node("Slice", [f"{source}_flat", "ten_from", "ten_to", "ten_axes"], [result]),
    ]


def _tensor(name: str, shape: Sequence[int] | None = None) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(path: Path, nodes: list[NodeProto], result: object, constants: Sequence[object] = (), image: object | None = None) -> Path:
    graph: GraphProto = helper.make_graph(nodes, "g", [image or _tensor("image", _IMAGE)], [result], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return _write(path, model.SerializeToString())


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _field(number: int, data: bytes) -> bytes:
    """One length-delimited field of a protocol buffer; the real library refuses to write what is nested this deep."""
    size, length = bytearray(), len(data)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes([number << 3 | 2]) + bytes(size) + data
