"""What a model file really holds: its weights by data type, its operators, its inputs and outputs, and how it was quantized.

File names and declarations are often wrong; this looks into the file. Nothing is executed. A *weight* is a constant of rank 2 or
more that is not a 32- or 64-bit integer: so biases, scales, zero points, shapes and paddings are counted apart, whatever their
type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from agent.errors import ConfigurationError

Runtime = Literal["tflite", "onnx"]


class ModelUnreadable(ConfigurationError):
    """The file is not a model of the format it is declared as, or it is damaged."""

    code = "model_unreadable"


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: ``shape`` has -1 where a dimension is open; scale and zero point when it is quantized per tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class ModelCensus:
    """``weights`` and ``other_constants`` count values, ``weight_tensors`` and ``activations`` tensors, all by data type (numpy's names).

    ``activations`` holds the tensors between operators that the file stores with a quantized type or, for TFLite, any type.
    ``quantization`` is in words: activation and weight type as in ``U8S8 per-channel``, ``dynamic range ...``, ``weights only
    ...``, ``float16 weights`` or ``none``.
    """

    runtime: Runtime
    weights: dict[str, int]
    weight_tensors: dict[str, int]
    other_constants: dict[str, int]
    operators: dict[str, int]
    activations: dict[str, int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    quantization: str


def census(data: bytes, runtime: Runtime) -> ModelCensus:
    """Look into a model file. Work and memory are bounded by the size of ``data``, whatever it holds.

    Raises ModelUnreadable for bytes that are not such a model, are cut short or contradict themselves.
    """
    # Both parsers cost a tenth of a second to import, and most commands need neither.
    if runtime == "tflite":
        from orchestrator.analysis.census_tflite import read_tflite

        return read_tflite(data)
    from orchestrator.analysis.census_onnx import read_onnx

    return read_onnx(data)


@dataclass
class Tally:
    """Collects the constants of one file while a reader walks over it."""

    weights: Counter[str] = field(default_factory=Counter)
    weight_tensors: Counter[str] = field(default_factory=Counter)
    other_constants: Counter[str] = field(default_factory=Counter)

    def add(self, dtype: str, shape: tuple[int, ...], is_parameter: bool = False) -> bool:
        """Count one constant; ``is_parameter`` marks scales and zero points. Tells whether it is a weight."""
        values = count_values(shape)
        if len(shape) < 2 or dtype in _NEVER_WEIGHTS or is_parameter:
            self.other_constants[dtype] += values
            return False
        self.weights[dtype] += values
        self.weight_tensors[dtype] += 1
        return True


_NEVER_WEIGHTS = frozenset({"int32", "int64", "uint32", "uint64", "bool", "string", "resource", "variant"})
_SHORT = {"uint8": "U8", "int8": "S8", "uint16": "U16", "int16": "S16", "uint4": "U4", "int4": "S4", "uint2": "U2", "int2": "S2"}


def count_values(shape: Iterable[int]) -> int:
    """Multiply the dimensions, in whole numbers that cannot overflow."""
    product = 1
    for dimension in shape:
        product *= dimension
    return product


def describe_quantization(
    weights: Counter[str],
    activations: Iterable[str],
    *,
    per_channel: bool,
    dynamic: bool = False,
    weights_only: bool = False,
    seven_bit: bool = False,
) -> str:
    """Say how a file is quantized, from its weight types and the types of its quantized activations."""
    # The type with most values names the scheme; a tie is broken by name.
    kind = max(sorted(_SHORT.keys() & weights.keys()), key=lambda name: weights[name], default=None)
    static = sorted(_SHORT[name] for name in set(activations) & _SHORT.keys())
    if kind is None:
        if static:
            return f"activations only {'/'.join(static)}"
        return "float16 weights" if weights["float16"] > sum(weights.values()) / 2 else "none"
    scheme = f"{_SHORT[kind]} {'per-channel' if per_channel else 'per-tensor'}{', 7-bit weights' if seven_bit else ''}"
    if static and not dynamic:
        return f"{'/'.join(static)}{scheme}"
    return f"weights only {scheme}" if weights_only else f"dynamic range {scheme}"


_EIGHT_BITS = frozenset({"int8", "uint8"})
_FOUR_BITS = frozenset({"int4", "uint4"})
#: Declared precision → the weight types it allows.
_ALLOWED_WEIGHTS = {
    "fp32": frozenset({"float32", "float64"}),
    "fp16": frozenset({"float16"}),
    "bf16": frozenset({"bfloat16"}),
    "int8": _EIGHT_BITS,
    "uint8": _EIGHT_BITS,
    "w8a8": _EIGHT_BITS,
    "w8a16": _EIGHT_BITS,
    "w16a16": frozenset({"int16", "float16"}),
    "w8": _EIGHT_BITS,
    "dynamic": _EIGHT_BITS,
    "w4": _FOUR_BITS,
    "w4a16": _FOUR_BITS,
}
#: Declared precision → the types its activations must have, where the name promises any.
_PROMISED_ACTIVATIONS = {"int8": _EIGHT_BITS, "uint8": _EIGHT_BITS, "w8a8": _EIGHT_BITS, "w8a16": frozenset({"int16", "uint16", "float16"})}
_FLOAT_ACTIVATIONS = frozenset({"w8", "w4", "dynamic"})


_NATURES = {"none": "this file is not quantized", "float16 weights": "this file holds float16 weights"}


def contradictions(declared_precision: str, found: ModelCensus) -> tuple[str, ...]:
    """Say in sentences where a file is not what it is declared to be; empty when nothing contradicts.

    A float model must hold no other weights at all; a quantized one may leave the smaller part of its values unquantized, as
    converters do. ``mixed`` and names that are not known here promise nothing.
    """
    allowed = _ALLOWED_WEIGHTS.get(declared_precision)
    if allowed is None or not found.weights:
        return ()
    foreign = {dtype: values for dtype, values in found.weights.items() if dtype not in allowed}
    total, outside = sum(found.weights.values()), sum(foreign.values())
    nature = _NATURES.get(found.quantization, f"this file is quantized ({found.quantization})")
    if (declared_precision == "fp32" and foreign) or outside > total / 2:
        tensors = sum(found.weight_tensors.values())
        return tuple(
            f"declared {declared_precision}, but {found.weight_tensors[dtype]} of {tensors} weight tensors hold {dtype} "
            f"({values:,} of {total:,} values): {nature}"
            for dtype, values in sorted(foreign.items())
        )
    promised = _PROMISED_ACTIVATIONS.get(declared_precision)
    if promised is not None and not promised & found.activations.keys():
        return (f"declared {declared_precision}, but its activations are not quantized: {nature}",)
    quantized = _SHORT.keys() & found.activations.keys()
    if declared_precision in _FLOAT_ACTIVATIONS and quantized and not found.quantization.startswith(("dynamic", "weights only")):
        return (f"declared {declared_precision}, but its activations are quantized ahead of time, too: {nature}",)
    return ()
