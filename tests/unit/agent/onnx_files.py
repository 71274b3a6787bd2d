"""ONNX files for tests, encoded by hand: the device environments have onnxruntime, and no onnx package to build models with."""

from __future__ import annotations

from collections.abc import Sequence

FLOAT = 1
INT8 = 3
INT16 = 5
INT64 = 7


def onnx_file(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    inputs: Sequence[tuple[str, int, Sequence[int]]],
    outputs: Sequence[tuple[str, int, Sequence[int]]],
    opset: int = 13,
) -> bytes:
    """Return a model of ``nodes`` (operator, inputs, outputs) over tensors (name, element type, shape; -1 is symbolic)."""
    graph = b"".join(_bytes(1, _node(*node)) for node in nodes)
    graph += _text(2, "g")
    graph += b"".join(_bytes(11, _value(*value)) for value in inputs)
    graph += b"".join(_bytes(12, _value(*value)) for value in outputs)
    return _number(1, 7) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, opset))


def unary(operator: str, shape: Sequence[int], element: int = FLOAT, opset: int = 13) -> bytes:
    """Return a model that applies one operator to its input."""
    return onnx_file([(operator, ["x"], ["y"])], [("x", element, shape)], [("y", element, shape)], opset)


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    return b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs) + _text(4, operator)


def _value(name: str, element: int, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size) if size >= 0 else _text(2, "n")) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, element) + _bytes(2, sizes)))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
