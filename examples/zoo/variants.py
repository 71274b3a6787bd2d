"""Writes every variant of the one network: ONNX by tf2onnx and onnxruntime.quantization, TFLite by TensorFlow's converter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

ONNX_OPSET = 13
INPUT_SHAPE = (1, 8, 8, 1)


@dataclass(frozen=True)
class Variant:
    """One file: its name in specs, its runtime, declared precision, and how it was quantized, in words."""

    name: str
    file: str
    runtime: str
    precision: str
    quantization: str


@dataclass(frozen=True)
class StaticScheme:
    """One static QDQ scheme of onnxruntime: types of activations and weights, per channel or tensor, full or 7-bit weight range."""

    variant: Variant
    activations: QuantType
    weights: QuantType
    per_channel: bool
    reduce_range: bool = False


def _static(suffix: str, words: str, activations: QuantType, weights: QuantType, **scheme: bool) -> StaticScheme:
    variant = Variant(f"onnx-{suffix.replace('_', '-')}", f"onnx_{suffix}.onnx", "onnx", "w8a8", words)
    return StaticScheme(variant, activations, weights, **scheme)


ONNX_FP32 = Variant("onnx-fp32", "onnx_fp32.onnx", "onnx", "fp32", "none")
STATIC_SCHEMES = (
    _static("u8s8", "static QDQ U8S8 per-channel", QuantType.QUInt8, QuantType.QInt8, per_channel=True),
    _static(
        "u8s8_rr", "static QDQ U8S8 per-channel, reduced range", QuantType.QUInt8, QuantType.QInt8, per_channel=True, reduce_range=True
    ),
    # onnxruntime's integer convolution takes uint8 weights with one zero point only, so per-channel U8U8 would fall back to float.
    _static("u8u8", "static QDQ U8U8 per-tensor", QuantType.QUInt8, QuantType.QUInt8, per_channel=False),
    _static("s8s8", "static QDQ S8S8 per-channel", QuantType.QInt8, QuantType.QInt8, per_channel=True),
)
# onnxruntime's ConvInteger has no int8-weight kernel on CPUs: dynamic quantization of convolutions means uint8 weights.
ONNX_DYNAMIC = Variant("onnx-dynamic", "onnx_dynamic.onnx", "onnx", "dynamic", "dynamic U8U8 per-tensor")
TFLITE_FP32 = Variant("tflite-fp32", "tflite_fp32.tflite", "tflite", "fp32", "none")
TFLITE_W8A8 = Variant("tflite-w8a8", "tflite_w8a8.tflite", "tflite", "w8a8", "full integer S8S8 per-channel, int8 input and output")
TFLITE_DYNAMIC = Variant("tflite-dynamic", "tflite_dynamic.tflite", "tflite", "dynamic", "dynamic range, int8 weights")
TFLITE_FP16 = Variant("tflite-fp16", "tflite_fp16.tflite", "tflite", "fp16", "float16 weights")
VARIANTS = (ONNX_FP32, *(scheme.variant for scheme in STATIC_SCHEMES), ONNX_DYNAMIC, TFLITE_FP32, TFLITE_W8A8, TFLITE_DYNAMIC, TFLITE_FP16)


class _Calibration(CalibrationDataReader):
    """Hands the calibration images to onnxruntime one at a time."""

    def __init__(self, input_name: str, x: NDArray[np.float32]) -> None:
        self._feeds = ({input_name: image[np.newaxis]} for image in x)

    def get_next(self) -> Any:
        return next(self._feeds, None)


def write_all(model: tf.keras.Model, calibration: NDArray[np.float32], folder: Path) -> None:
    """Write every variant of ``model`` into ``folder``; ``calibration`` holds images (N, 8, 8, 1) scaled to 0..1."""
    _write_onnx(model, calibration, folder)
    _write_tflite(model, calibration, folder)


def _signature(model: tf.keras.Model) -> Any:
    specification = tf.TensorSpec(INPUT_SHAPE, tf.float32, name="image")
    return tf.function(lambda image: {"logits": model(image, training=False)}).get_concrete_function(specification)


def _write_onnx(model: tf.keras.Model, calibration: NDArray[np.float32], folder: Path) -> None:
    specification = (tf.TensorSpec(INPUT_SHAPE, tf.float32, name="image"),)
    proto, _ = tf2onnx.convert.from_keras(model, specification, opset=ONNX_OPSET)
    _save(proto, folder / ONNX_FP32.file)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(folder / ONNX_FP32.file, prepared, skip_symbolic_shape=True)
        input_name = proto.graph.input[0].name
        for scheme in STATIC_SCHEMES:
            quantized = Path(scratch) / scheme.variant.file
            quantize_static(
                prepared,
                quantized,
                _Calibration(input_name, calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=scheme.activations,
                weight_type=scheme.weights,
                per_channel=scheme.per_channel,
                reduce_range=scheme.reduce_range,
                calibrate_method=CalibrationMethod.MinMax,
            )
            _save(onnx.load(quantized), folder / scheme.variant.file)
        dynamic = Path(scratch) / ONNX_DYNAMIC.file
        quantize_dynamic(prepared, dynamic, weight_type=QuantType.QUInt8)
        _save(onnx.load(dynamic), folder / ONNX_DYNAMIC.file)


def _save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model without what differs from run to run or from machine to machine (documentation strings may hold paths)."""
    proto.graph.doc_string = ""
    proto.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _write_tflite(model: tf.keras.Model, calibration: NDArray[np.float32], folder: Path) -> None:
    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for image in calibration:
            yield [image[np.newaxis]]

    def converter() -> Any:
        return tf.lite.TFLiteConverter.from_concrete_functions([_signature(model)], model)

    (folder / TFLITE_FP32.file).write_bytes(converter().convert())

    w8a8 = converter()
    w8a8.optimizations = [tf.lite.Optimize.DEFAULT]
    w8a8.representative_dataset = representative
    w8a8.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    w8a8.inference_input_type = tf.int8
    w8a8.inference_output_type = tf.int8
    (folder / TFLITE_W8A8.file).write_bytes(w8a8.convert())

    dynamic = converter()
    dynamic.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / TFLITE_DYNAMIC.file).write_bytes(dynamic.convert())

    fp16 = converter()
    fp16.optimizations = [tf.lite.Optimize.DEFAULT]
    fp16.target_spec.supported_types = [tf.float16]
    (folder / TFLITE_FP16.file).write_bytes(fp16.convert())


def onnx_logits(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits (N, 10) of an ONNX variant for images scaled to 0..1, one image at a time on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[np.newaxis]})[0] for image in x])


def tflite_logits(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits (N, 10) of a TFLite variant for images scaled to 0..1; integer inputs and outputs are converted by their own scale."""
    interpreter = tf.lite.Interpreter(os.fspath(path), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for image in x:
        value = image[np.newaxis]
        if source["dtype"] == np.int8:
            scale, zero_point = source["quantization"]
            value = np.clip(np.round(value / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        row = interpreter.get_tensor(target["index"])
        if target["dtype"] == np.int8:
            scale, zero_point = target["quantization"]
            row = (row.astype(np.float32) - zero_point) * np.float32(scale)
        rows.append(row)
    return np.concatenate(rows)
