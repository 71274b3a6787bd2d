"""What a model file really holds: its weights by data type, its operators, its inputs and outputs, and how it was quantized.

File names and declarations are often wrong; this looks into the file. Nothing is executed. See :mod:`orchestrator.analysis.model_facts` for
what counts as a weight.
"""

from __future__ import annotations

from orchestrator.analysis.model_facts import SHORT_TYPE_NAMES, ModelCensus, ModelUnreadable, Runtime

__all__ = ["ModelCensus", "ModelUnreadable", "Runtime", "census", "contradictions"]


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
    quantized = SHORT_TYPE_NAMES.keys() & found.activations.keys()
    if declared_precision in _FLOAT_ACTIVATIONS and quantized and not found.quantization.startswith(("dynamic", "weights only")):
        return (f"declared {declared_precision}, but its activations are quantized ahead of time, too: {nature}",)
    return ()
