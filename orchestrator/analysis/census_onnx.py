"""Reads an ONNX file for the census, through the protobuf messages of the ``onnx`` package. No path that a file names is ever opened."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from orchestrator.analysis.model_facts import ModelCensus, ModelUnreadable, Tally, TensorFacts, count_values, describe_quantization

_NAMES = {"float": "float32", "double": "float64", "undefined": "unknown"}
_TYPES: dict[int, str] = {number: _NAMES.get(name.lower(), name.lower()) for name, number in onnx.TensorProto.DataType.items()}
_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4e2m1": 4, "bool": 8, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16}
_BITS |= {"float16": 16, "bfloat16": 16, "int32": 32, "uint32": 32, "float32": 32, "int64": 64, "uint64": 64, "float64": 64}
_MOST_DIMENSIONS = 64
_LONGEST_NAME = 200
_REMEDY = "check that the file is complete and that all weights are inside it (onnx.save with save_as_external_data=False)"

#: Operator → position of its weight; the scale follows it.
_WEIGHT_SLOTS = {"DequantizeLinear": 0, "QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "DynamicQuantizeMatMul": 1}
#: Operator → position of the weight's zero point, where the scale is applied elsewhere.
_ZERO_POINT_SLOTS = {"MatMulInteger": 3, "ConvInteger": 3}
#: Operators that quantize activations while the model runs.
_DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
#: Operator → position of the zero point of its activations.
_ACTIVATION_SLOTS = {"QuantizeLinear": 2, "QLinearConv": 2, "QLinearMatMul": 2, "QGemm": 2}


def read_onnx(data: bytes) -> ModelCensus:
    """Take the census of an ONNX file; raises ModelUnreadable."""
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelUnreadable(f"this is not an ONNX file: {error}", _REMEDY) from error
    # Almost any bytes are *some* protobuf message, no bytes at all among them.
    if model.ir_version <= 0 or not model.graph.output or not model.graph.node:
        raise ModelUnreadable("this is not an ONNX file: it has no version or no graph", _REMEDY)
    nodes = list(_nodes(model.graph))
    constants = {tensor.name: tensor for graph in _graphs(model.graph) for tensor in graph.initializer}
    constants |= {node.output[0]: attribute.t for node in nodes for attribute in node.attribute if _is_constant(node, attribute)}
    parameters = {
        name
        for node in nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in itertools.islice(node.input, 1, 3)
        if name
    }
    tally = Tally()
    weights = {name: tensor for name, tensor in constants.items() if tally.add(_dtype(tensor), _shape(tensor), name in parameters)}
    activations = _quantized_activations(nodes, constants)
    return ModelCensus(
        runtime="onnx",
        weights=dict(tally.weights),
        weight_tensors=dict(tally.weight_tensors),
        other_constants=dict(tally.other_constants),
        operators=dict(Counter(node.op_type[:_LONGEST_NAME] for node in nodes)),
        activations=dict(activations),
        inputs=tuple(_facts(value) for value in model.graph.input if value.name not in constants),
        outputs=tuple(_facts(value) for value in model.graph.output),
        quantization=describe_quantization(
            tally.weights,
            activations,
            per_channel=_per_channel(nodes, weights, constants),
            dynamic=any(node.op_type in _DYNAMIC for node in nodes),
            weights_only=any(node.op_type == "DequantizeLinear" for node in nodes),
            seven_bit=_seven_bit(weights.values()),
        ),
    )


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes; protobuf's own limit of 100 bounds the depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for inner in _graphs(graph):
        yield from inner.node


def _is_constant(node: Any, attribute: Any) -> bool:
    return node.op_type == "Constant" and attribute.name == "value" and attribute.HasField("t") and len(node.output) > 0


def _dtype(tensor: Any) -> str:
    return _TYPES.get(tensor.data_type, "unknown")


def _shape(tensor: Any) -> tuple[int, ...]:
    """Return a constant's shape after holding it against the bytes that are really there."""
    if len(tensor.dims) > _MOST_DIMENSIONS:
        raise ModelUnreadable(f"a constant has {len(tensor.dims)} dimensions", _REMEDY)
    shape = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ModelUnreadable("the weights lie in another file; only this one would reach a device", _REMEDY)
    bits = _BITS.get(_dtype(tensor))
    if any(dimension < 0 for dimension in shape):
        raise ModelUnreadable(f"a constant has the shape {list(shape)}", _REMEDY)
    if bits is None:
        return shape
    needed = count_values(shape)
    if tensor.HasField("raw_data"):
        needed, stored = (needed * bits + 7) // 8, len(tensor.raw_data)
    else:
        lengths = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        # Types below 8 bits are packed, so many to a byte.
        needed, stored = (needed * bits + 7) // 8 if bits < 8 else needed, max(len(values) for values in lengths)
    if stored != needed:
        raise ModelUnreadable(f"a {_dtype(tensor)} constant of shape {list(shape)} holds {stored} entries", _REMEDY)
    return shape


def _quantized_activations(nodes: list[Any], constants: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in nodes:
        slot = _ACTIVATION_SLOTS.get(node.op_type)
        if slot is None or (node.op_type == "QuantizeLinear" and node.input and node.input[0] in constants):
            continue
        zero_point = constants.get(node.input[slot]) if len(node.input) > slot else None
        # The standard's default without a zero point.
        found["uint8" if zero_point is None else _dtype(zero_point)] += 1
    return found


def _per_channel(nodes: list[Any], weights: dict[str, Any], constants: dict[str, Any]) -> bool:
    for node in nodes:
        slot = _WEIGHT_SLOTS.get(node.op_type)
        names = []
        if slot is not None and len(node.input) > slot + 1 and node.input[slot] in weights:
            names.append(node.input[slot + 1])
        zero_point = _ZERO_POINT_SLOTS.get(node.op_type)
        if zero_point is not None and len(node.input) > zero_point and node.input[1] in weights:
            names.append(node.input[zero_point])
        if any(name in constants and count_values(constants[name].dims) > 1 for name in names):
            return True
    return False


def _seven_bit(weights: Any) -> bool:
    """Tell whether all signed 8-bit weights stay within 7 bits, as quantizers' ``reduce_range`` makes them."""
    signed = [tensor for tensor in weights if _dtype(tensor) == "int8"]
    return bool(signed) and all(int(np.abs(_values(tensor)).max(initial=0)) <= 64 for tensor in signed)


def _values(tensor: Any) -> np.ndarray[Any, np.dtype[np.int16]]:
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype=np.int8).astype(np.int16)
    return np.asarray(tensor.int32_data, dtype=np.int64).clip(-128, 127).astype(np.int16)


def _facts(value: Any) -> TensorFacts:
    tensor = value.type.tensor_type
    dimensions = tuple(int(item.dim_value) if item.HasField("dim_value") else -1 for item in tensor.shape.dim)
    return TensorFacts(name=value.name[:_LONGEST_NAME], shape=dimensions, dtype=_TYPES.get(tensor.elem_type, "unknown"))
