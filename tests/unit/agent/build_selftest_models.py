"""Build the two tiny models that agent/runtimes/selftest.py holds: y = x·Wᵀ + b with W = [[1, 2], [3, 4]], b = [0.5, -0.5].

Run in the orchestrator's environment, which has onnx, tflite and flatbuffers: ``python tests/unit/agent/build_selftest_models.py`` prints
both as base64.
"""

from __future__ import annotations

import base64
import sys
import textwrap

import flatbuffers
import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.array([[1, 2], [3, 4]], np.float32)
BIAS = np.array([0.5, -0.5], np.float32)


def onnx_model() -> bytes:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(BIAS, "b")]
    graph = helper.make_graph([node], "g", value[:1], value[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tflite_model() -> bytes:
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

    buffers = []
    for data in (b"", WEIGHTS.tobytes(), BIAS.tobytes()):
        content = aligned(data) if data else None
        tflite.BufferStart(builder)
        if content is not None:
            tflite.BufferAddData(builder, content)
        buffers.append(tflite.BufferEnd(builder))
    tensors = []
    for name, shape, buffer in (("x", [1, 2], 0), ("w", [2, 2], 1), ("b", [2], 2), ("y", [1, 2], 0)):
        text, sizes = builder.CreateString(name), integers(shape)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, sizes)
        tflite.TensorAddType(builder, tflite.TensorType.FLOAT32)
        tflite.TensorAddBuffer(builder, buffer)
        tflite.TensorAddName(builder, text)
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
    for name, model in (("ONNX_MODEL", onnx_model()), ("TFLITE_MODEL", tflite_model())):
        text = "\n".join(textwrap.wrap(base64.b64encode(model).decode(), 120))
        sys.stdout.write(f"{name} {len(model)}\n{text}\n")
