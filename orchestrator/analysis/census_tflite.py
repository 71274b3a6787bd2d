"""Reads a TFLite file (schema v3) for the census, through the flatbuffer bindings of the ``tflite`` package.

A flatbuffer is a web of offsets that a hostile file may point anywhere, also many times to one place. So every count is held
against the size of the file before it is walked, and every access error of the bindings means that the file is damaged.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import numpy as np
import tflite

from orchestrator.analysis.model_facts import ModelCensus, ModelUnreadable, Tally, TensorFacts, count_values, describe_quantization

_TYPES: dict[int, str] = {number: name.lower() for name, number in vars(tflite.TensorType).items() if not name.startswith("_")}
_BITS = {"int4": 4, "bool": 8, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16, "int32": 32, "uint32": 32}
_BITS |= {"float32": 32, "int64": 64, "uint64": 64, "float64": 64, "complex64": 64, "complex128": 128}
_OPERATORS: dict[int, str] = {number: name for name, number in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}
_CUSTOM = int(tflite.BuiltinOperator.CUSTOM)

_MOST_DIMENSIONS = 16
_MOST_ENDS = 1_000
_LONGEST_NAME = 200
_REMEDY = "check that the file is complete and was made for TFLite (its bytes 4 to 7 read TFL3)"


def read_tflite(data: bytes) -> ModelCensus:
    """Take the census of a TFLite file; raises ModelUnreadable."""
    if data[4:8] != b"TFL3":
        raise ModelUnreadable("this is not a TFLite file: the mark TFL3 is missing", _REMEDY)
    try:
        return _Reader(data).read()
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise ModelUnreadable(f"the TFLite file is damaged: {error}", _REMEDY) from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._model = tflite.Model.GetRootAs(data, 0)
        self._tally = Tally()
        self._activations: Counter[str] = Counter()
        self._quantized_activations: set[str] = set()
        self._operators: Counter[str] = Counter()
        self._per_channel = False
        self._weights_are_expanded = False
        self._seven_bit = True
        self._scanned: set[int] = set()
        self._names: dict[int, str] = {}
        self._unspent = 2 * len(data)

    def read(self) -> ModelCensus:
        subgraphs = self._bounded(self._model.SubgraphsLength())
        if subgraphs == 0:
            raise ModelUnreadable("the TFLite file has no graph", _REMEDY)
        walked = 0
        for number in range(subgraphs):
            graph = self._model.Subgraphs(number)
            walked += self._bounded(graph.TensorsLength()) + self._bounded(graph.OperatorsLength())
            # Many graphs may point to one and the same list; honest ones lie side by side.
            self._bounded(walked)
            self._walk(graph)
        main = self._model.Subgraphs(0)
        eight_bit = self._tally.weight_tensors["int8"] > 0 and self._seven_bit
        return ModelCensus(
            runtime="tflite",
            weights=dict(self._tally.weights),
            weight_tensors=dict(self._tally.weight_tensors),
            other_constants=dict(self._tally.other_constants),
            operators=dict(self._operators),
            activations=dict(self._activations),
            inputs=self._ends(main, main.Inputs, main.InputsLength()),
            outputs=self._ends(main, main.Outputs, main.OutputsLength()),
            quantization=describe_quantization(
                self._tally.weights,
                self._quantized_activations,
                per_channel=self._per_channel,
                weights_only=self._weights_are_expanded,
                seven_bit=eight_bit,
            ),
        )

    def _walk(self, graph: Any) -> None:
        weights = set()
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            dtype = self._dtype(tensor)
            stored = self._stored(tensor)
            if stored is None:
                self._activations[dtype] += 1
                # An int16 tensor without a scale is audio, not a quantized activation.
                quantization = tensor.Quantization()
                if quantization is not None and quantization.ScaleLength() > 0:
                    self._quantized_activations.add(dtype)
                continue
            shape = self._shape(tensor)
            self._check_size(tensor, dtype, shape, stored)
            if self._tally.add(dtype, shape):
                weights.add(index)
                self._note_scheme(tensor, dtype, stored)
        codes = self._bounded(self._model.OperatorCodesLength())
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            if not 0 <= operator.OpcodeIndex() < codes:
                raise ModelUnreadable(f"operator {index} has a code that the file does not define", _REMEDY)
            name = self._operator_name(operator.OpcodeIndex())
            self._operators[name] += 1
            if name == "DEQUANTIZE" and operator.InputsLength() and operator.Inputs(0) in weights:
                self._weights_are_expanded = True

    def _bounded(self, count: int) -> int:
        """Every entry of a list takes at least four bytes of the file."""
        if not 0 <= count <= len(self._data) // 4:
            raise ModelUnreadable(f"the TFLite file claims {count} entries in {len(self._data)} bytes", _REMEDY)
        return count

    @staticmethod
    def _dtype(tensor: Any) -> str:
        dtype = _TYPES.get(tensor.Type())
        if dtype is None:
            raise ModelUnreadable(f"the TFLite file has a tensor of unknown type {tensor.Type()}", _REMEDY)
        return dtype

    def _stored(self, tensor: Any) -> int | None:
        """Return how many bytes the file holds for a tensor, None when it is no constant."""
        if not 0 <= tensor.Buffer() < self._bounded(self._model.BuffersLength()):
            raise ModelUnreadable(f"a tensor names buffer {tensor.Buffer()}, which the file does not have", _REMEDY)
        buffer = self._model.Buffers(tensor.Buffer())
        # Files beyond 2 GB keep their data behind the flatbuffer.
        if buffer.Offset() > 1:
            if buffer.Offset() + buffer.Size() > len(self._data):
                raise ModelUnreadable("the TFLite file is cut short: a buffer lies behind its end", _REMEDY)
            return int(buffer.Size())
        if buffer.DataLength() == 0:
            return None
        return int(buffer.DataAsNumpy().nbytes)

    @staticmethod
    def _shape(tensor: Any) -> tuple[int, ...]:
        if tensor.ShapeLength() > _MOST_DIMENSIONS:
            raise ModelUnreadable(f"a tensor has {tensor.ShapeLength()} dimensions", _REMEDY)
        return tuple(int(tensor.Shape(index)) for index in range(tensor.ShapeLength()))

    @staticmethod
    def _check_size(tensor: Any, dtype: str, shape: tuple[int, ...], stored: int) -> None:
        bits = _BITS.get(dtype)
        # Texts and sparse tensors have layouts of their own.
        if bits is None or tensor.Sparsity() is not None:
            return
        needed = (count_values(shape) * bits + 7) // 8
        if any(dimension < 0 for dimension in shape) or needed != stored:
            raise ModelUnreadable(f"a {dtype} constant of shape {list(shape)} has {stored} bytes", _REMEDY)

    def _note_scheme(self, tensor: Any, dtype: str, stored: int) -> None:
        quantization = tensor.Quantization()
        if quantization is not None and quantization.ScaleLength() > 1:
            self._per_channel = True
        if dtype == "int8" and self._seven_bit and tensor.Buffer() not in self._scanned:
            self._scanned.add(tensor.Buffer())
            self._spend(stored)
            values = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
            self._seven_bit = isinstance(values, np.ndarray) and bool((np.abs(values.view(np.int8).astype(np.int16)) <= 64).all())

    def _spend(self, byte_count: int) -> None:
        """Bytes that are read one by one: an honest file holds each of them once, a hostile one may point a million times to the same."""
        self._unspent -= byte_count
        if self._unspent < 0:
            raise ModelUnreadable("the TFLite file points to the same bytes over and over", _REMEDY)

    def _operator_name(self, index: int) -> str:
        if index not in self._names:
            code = self._model.OperatorCodes(index)
            # Files of before 2020 keep the number in the 8-bit field.
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            self._names[index] = (
                f"custom:{self._text(code.CustomCode())}" if number == _CUSTOM else _OPERATORS.get(number, f"operator {number}")
            )
        return self._names[index]

    def _text(self, raw: bytes | None) -> str:
        if raw is None:
            return ""
        self._spend(len(raw))
        return raw[:_LONGEST_NAME].decode("utf-8", "replace")

    def _ends(self, graph: Any, index_of: Any, count: int) -> tuple[TensorFacts, ...]:
        if count > _MOST_ENDS:
            raise ModelUnreadable(f"the TFLite file claims {count} inputs or outputs", _REMEDY)
        return tuple(self._facts(graph, index_of(position)) for position in range(count))

    def _facts(self, graph: Any, index: int) -> TensorFacts:
        if not 0 <= index < graph.TensorsLength():
            raise ModelUnreadable(f"an input or output names tensor {index}, which the graph does not have", _REMEDY)
        tensor = graph.Tensors(index)
        quantization = tensor.Quantization()
        single = quantization is not None and quantization.ScaleLength() == 1 and quantization.ZeroPointLength() == 1
        # An open dimension is 1 in the shape and -1 in the signature.
        shape = self._shape(tensor)
        if tensor.ShapeSignatureLength() == len(shape):
            shape = tuple(int(tensor.ShapeSignature(position)) for position in range(len(shape)))
        return TensorFacts(
            name=self._text(tensor.Name()),
            shape=shape,
            dtype=self._dtype(tensor),
            scale=float(quantization.Scale(0)) if single else None,
            zero_point=int(quantization.ZeroPoint(0)) if single else None,
        )
