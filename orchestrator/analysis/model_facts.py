"""What the readers of model files collect: tensors, constants by data type, and the words for how a file is quantized.

A *weight* is a constant of rank 2 or more that is not a 32- or 64-bit integer: so biases, scales, zero points, shapes and paddings are
counted apart, whatever their type.
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
#: Quantized data types, by the short names that quantization schemes go by (``U8S8``).
SHORT_TYPE_NAMES = {"uint8": "U8", "int8": "S8", "uint16": "U16", "int16": "S16", "uint4": "U4", "int4": "S4", "uint2": "U2", "int2": "S2"}


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
    kind = max(sorted(SHORT_TYPE_NAMES.keys() & weights.keys()), key=lambda name: weights[name], default=None)
    static = sorted(SHORT_TYPE_NAMES[name] for name in set(activations) & SHORT_TYPE_NAMES.keys())
    if kind is None:
        if static:
            return f"activations only {'/'.join(static)}"
        return "float16 weights" if weights["float16"] > sum(weights.values()) / 2 else "none"
    scheme = f"{SHORT_TYPE_NAMES[kind]} {'per-channel' if per_channel else 'per-tensor'}{', 7-bit weights' if seven_bit else ''}"
    if static and not dynamic:
        return f"{'/'.join(static)}{scheme}"
    return f"weights only {scheme}" if weights_only else f"dynamic range {scheme}"
