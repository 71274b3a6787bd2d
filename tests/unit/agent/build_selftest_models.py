"""Build the two tiny models that agent/runtimes/selftest.py holds: y = x·Wᵀ + b with W = [[1, 2], [3, 4]], b = [0.5, -0.5]; and the two
quantized ones of agent/runtimes/golden.py, large enough that the CPU's 8-bit multiply decides their answers.

Run in the orchestrator's environment, which has onnx, tflite and flatbuffers: ``python tests/unit/agent/build_selftest_models.py`` prints
both as base64.
"""

from __future__ import annotations

import base64
import sys
import textwrap
from dataclasses import dataclass

import flatbuffers
import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.array([[1, 2], [3, 4]], np.float32)
BIAS = np.array([0.5, -0.5], np.float32)
GOLDEN_IN, GOLDEN_OUT = 64, 16


def onnx_model() -> bytes:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(BIAS, "b")]
    graph = helper.make_graph([node], "g", value[:1], value[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tflite_model() -> bytes:
    return fully_connected(
        [
            Tensor("x", [1, 2], tflite.TensorType.FLOAT32),
            Tensor("w", [2, 2], tflite.TensorType.FLOAT32, WEIGHTS.tobytes()),
            Tensor("b", [2], tflite.TensorType.FLOAT32, BIAS.tobytes()),
            Tensor("y", [1, 2], tflite.TensorType.FLOAT32),
        ],
        version=1,
    )


def golden_weights() -> np.ndarray:
    """Of the whole range of int8, with a sign that changes slowly: neighbours add up, which is what makes a multiply saturate."""
    row, column = np.meshgrid(np.arange(GOLDEN_OUT), np.arange(GOLDEN_IN), indexing="ij")
    return (((row * 29 + column * 7) % 128) * np.where((row + column // 8) % 2, 1, -1)).astype(np.int8)


def golden_onnx() -> bytes:
    """x → uint8 → matrix product with int8 weights, one scale for each column → y; quantized as static QDQ tools write it."""
    scales = (0.01 + 0.001 * np.arange(GOLDEN_OUT)).astype(np.float32)
    constants = {
        "xs": np.float32(0.02), "xz": np.uint8(128), "w": golden_weights().T.copy(), "ws": scales, "wz": np.zeros(GOLDEN_OUT, np.int8),
        "ys": np.float32(0.5), "yz": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["p"]),
        helper.make_node("QuantizeLinear", ["p", "ys", "yz"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "ys", "yz"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, GOLDEN_IN])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, GOLDEN_OUT])
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "golden", [x], [y], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden_tflite() -> bytes:
    """A fully connected layer in int8, as the converter writes it."""
    bias = (np.arange(GOLDEN_OUT) * 37 - 500).astype(np.int32)
    return fully_connected(
        [
            Tensor("x", [1, GOLDEN_IN], tflite.TensorType.INT8, scale=0.02, zero_point=3),
            Tensor("w", [GOLDEN_OUT, GOLDEN_IN], tflite.TensorType.INT8, golden_weights().tobytes(), 0.01, 0),
            Tensor("b", [GOLDEN_OUT], tflite.TensorType.INT32, bias.tobytes(), 0.0002, 0),
            Tensor("y", [1, GOLDEN_OUT], tflite.TensorType.INT8, scale=0.5, zero_point=-5),
        ],
        version=4,
    )


@dataclass
class Tensor:
    name: str
    shape: list[int]
    type: int
    data: bytes = b""
    scale: float | None = None
    zero_point: int = 0


def fully_connected(described: list[Tensor], version: int) -> bytes:
    """A model of one FULLY_CONNECTED operator over input, weights, bias and output."""
    builder = flatbuffers.Builder(1024)

    def vector(start, offsets):
        start(builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def integers(values):
        return builder.CreateNumpyVector(np.array(values, np.int32))

    def aligned(data):
        builder.StartVector(1, len(data), 16)  # schema.fbs asks for constants on 16 bytes
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        return builder.EndVector()

    def quantization(tensor):
        scale, zero = (
            builder.CreateNumpyVector(np.array([tensor.scale], np.float32)),
            builder.CreateNumpyVector(np.array([tensor.zero_point])),
        )
        tflite.QuantizationParametersStart(builder)
        tflite.QuantizationParametersAddScale(builder, scale)
        tflite.QuantizationParametersAddZeroPoint(builder, zero)
        return tflite.QuantizationParametersEnd(builder)

    def buffer_of(data):
        content = aligned(data) if data else None
        tflite.BufferStart(builder)
        if content is not None:
            tflite.BufferAddData(builder, content)
        return tflite.BufferEnd(builder)

    # The first buffer is empty by convention, and stands for "no constant".
    constants = [tensor for tensor in described if tensor.data]
    buffers = [buffer_of(data) for data in (b"", *(tensor.data for tensor in constants))]
    tensors = []
    for tensor in described:
        text, sizes = builder.CreateString(tensor.name), integers(tensor.shape)
        quantized = quantization(tensor) if tensor.scale is not None else None
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, sizes)
        tflite.TensorAddType(builder, tensor.type)
        tflite.TensorAddBuffer(builder, constants.index(tensor) + 1 if tensor.data else 0)
        tflite.TensorAddName(builder, text)
        if quantized is not None:
            tflite.TensorAddQuantization(builder, quantized)
        tensors.append(tflite.TensorEnd(builder))
    tflite.FullyConnectedOptionsStart(builder)
    options = tflite.FullyConnectedOptionsEnd(builder)
    inputs, outputs = integers([0, 1, 2]), integers([3])
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, 0)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    tflite.OperatorAddBuiltinOptionsType(builder, tflite.BuiltinOptions.FullyConnectedOptions)
    tflite.OperatorAddBuiltinOptions(builder, options)
    operator = tflite.OperatorEnd(builder)
    tensor_list, operator_list = vector(tflite.SubGraphStartTensorsVector, tensors), vector(tflite.SubGraphStartOperatorsVector, [operator])
    graph_inputs, graph_outputs = integers([0]), integers([3])
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensor_list)
    tflite.SubGraphAddInputs(builder, graph_inputs)
    tflite.SubGraphAddOutputs(builder, graph_outputs)
    tflite.SubGraphAddOperators(builder, operator_list)
    graph = tflite.SubGraphEnd(builder)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, tflite.BuiltinOperator.FULLY_CONNECTED)
    tflite.OperatorCodeAddBuiltinCode(builder, tflite.BuiltinOperator.FULLY_CONNECTED)
    tflite.OperatorCodeAddVersion(builder, version)
    code = tflite.OperatorCodeEnd(builder)
    codes, graphs = vector(tflite.ModelStartOperatorCodesVector, [code]), vector(tflite.ModelStartSubgraphsVector, [graph])
    buffer_list = vector(tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffer_list)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    made = {"ONNX_MODEL": onnx_model(), "TFLITE_MODEL": tflite_model(), "GOLDEN_ONNX": golden_onnx(), "GOLDEN_TFLITE": golden_tflite()}
    for name, model in made.items():
        text = "\n".join(textwrap.wrap(base64.b64encode(model).decode(), 120))
        sys.stdout.write(f"{name} {len(model)}\n{text}\n")
