"""The declarative input steps: from one stored sample to the batch of one that the model takes. Timed as pre-process.

Each step works on one sample without its batch axis, images as height, width[, channels]:

==============  ====================================================================================================================
dequantize      float32 ``(x - zero_point) * scale``
resize          rows and columns to ``height`` × ``width`` with half-pixel centres; ``nearest`` keeps the type, ``bilinear`` gives float32.
                No anti-aliasing (as TensorFlow's ``image.resize`` and ONNX ``half_pixel``)
layout          reorders the axes ``from`` → ``to``, e.g. NHWC → NCHW; a leading N in both stands for the batch axis and may be left out
scale           float32 ``x * factor + offset``
normalize       float32 ``(x - mean) / std``; a list holds one number per channel, on the last axis
quantize        the model's own input scale and zero point: ``round_half_even(x / scale) + zero_point``, saturating
cast            to another type, as C casts
reshape         to ``shape``, where one -1 stands for what is left
==============  ====================================================================================================================

What a step may be is data in ``agent.steps``; the batch axis is added at the end where the model has it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.errors import DtypeMismatch, RequestInvalid, ShapeMismatch
from agent.protocol import TensorInfo, check_steps

Step = Callable[[np.ndarray], np.ndarray]


def compile_steps(steps: Sequence[Mapping[str, Any]], model_input: TensorInfo, sample_shape: Sequence[int], sample_dtype: str) -> Step:
    """Return the function that makes of one sample (``sample_shape``, ``sample_dtype``) the contiguous batch of one for ``model_input``.

    Dimensions of the model below 1 are dynamic and take any size. Raises :class:`RequestInvalid` for malformed steps or steps that do not
    fit the sample, :class:`ShapeMismatch` and :class:`DtypeMismatch` when what comes out is not what the model takes, with the step that
    mends it.
    """
    problems = check_steps(steps)
    if problems:
        raise RequestInvalid("; ".join(problems), "correct the input steps in the spec")
    compiled: List[Step] = []
    value = np.zeros(tuple(sample_shape), np.dtype(sample_dtype))
    for index, step in enumerate(steps):
        try:
            function = _BUILDERS[step["kind"]](step, model_input)
            value = function(value)
        except (ValueError, IndexError) as error:
            message = f"steps[{index}] `{step['kind']}` does not fit a sample of shape {list(value.shape)} and type {value.dtype}: {error}"
            raise RequestInvalid(message, "correct the step, or the steps before it") from error
        compiled.append(function)
    batch_shape = _batch_shape(value.shape, model_input)
    _check_dtype(value.dtype, model_input)
    return _chain(compiled, batch_shape)


def _chain(steps: List[Step], batch_shape: Tuple[int, ...]) -> Step:
    contiguous = np.ascontiguousarray
    if not steps:
        return lambda sample: contiguous(sample).reshape(batch_shape)
    if len(steps) == 1:
        only = steps[0]
        return lambda sample: contiguous(only(sample)).reshape(batch_shape)

    def run(sample: np.ndarray) -> np.ndarray:
        for step in steps:
            sample = step(sample)
        return contiguous(sample).reshape(batch_shape)

    return run


def _batch_shape(shape: Tuple[int, ...], model_input: TensorInfo) -> Tuple[int, ...]:
    """Add the batch axis where the model has one more axis than the sample, and compare."""
    wanted = model_input.shape
    batch = (1, *shape) if len(shape) == len(wanted) - 1 else shape
    if len(batch) == len(wanted) and _fits(batch, wanted):
        return batch
    message = f"the input steps give shape {list(batch)}, the model's input {model_input.name!r} takes {_shape_text(wanted)}"
    raise ShapeMismatch(message, _shape_remedy(batch, wanted))


def _fits(batch: Sequence[int], wanted: Sequence[int]) -> bool:
    return all(wanted[axis] == size or wanted[axis] < 1 for axis, size in enumerate(batch))


def _shape_remedy(batch: Tuple[int, ...], wanted: Sequence[int]) -> str:
    fixed = [size for size in wanted if size > 0]
    if len(batch) == len(wanted) and wanted and wanted[0] > 1 and list(batch[1:]) == list(wanted[1:]):
        return f"the model was exported with a fixed batch of {wanted[0]}: export it with a batch of 1"
    if len(batch) == 4 == len(wanted) and sorted(batch) == sorted(fixed):
        to_first = wanted[1] < wanted[3]
        return f"add the step `layout` from {'NHWC to NCHW' if to_first else 'NCHW to NHWC'}"
    if len(fixed) == len(wanted) and np.prod(batch) == np.prod(wanted):
        return f"add the step `reshape` with shape {list(wanted[1:])}"
    if len(batch) == 4 == len(wanted) and batch[3] == wanted[3]:
        return f"add the step `resize` with height {wanted[1]} and width {wanted[2]}"
    return "add steps (`resize`, `layout`, `reshape`) that give the model's shape, or use a dataset made for this model"


def _check_dtype(dtype: np.dtype[Any], model_input: TensorInfo) -> None:
    if dtype.name == model_input.dtype:
        return
    is_integer = np.dtype(model_input.dtype).kind in "iu"
    if is_integer and model_input.scale is not None and dtype.kind == "f":
        remedy = "add the step `quantize`, which uses the model's own scale and zero point"
    elif is_integer and model_input.scale is not None:
        remedy = "add the steps `dequantize` (with the scale and zero point of the stored samples) and `quantize`"
    elif model_input.dtype.startswith("float") and dtype.kind in "iu":
        remedy = "add the step `dequantize` (stored samples are quantized) or `scale` (they are pixels)"
    else:
        remedy = f"add the step `cast` with dtype {model_input.dtype}"
    raise DtypeMismatch(f"the input steps give {dtype.name}, the model's input {model_input.name!r} takes {model_input.dtype}", remedy)


def _shape_text(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(size) if size > 0 else "any" for size in shape) + "]"


# --- the steps -----------------------------------------------------------------------------------------------


def _dequantize(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    scale, zero_point = np.float32(step["scale"]), np.float32(step["zero_point"])
    return lambda sample: (sample.astype(np.float32) - zero_point) * scale


def _quantize(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    if model_input.scale is None or model_input.zero_point is None:
        message = f"the step `quantize` needs a quantized input; {model_input.name!r} is {model_input.dtype} without scale and zero point"
        raise RequestInvalid(message, "leave the step `quantize` out for this variant")
    dtype = np.dtype(model_input.dtype)
    if dtype.name not in ("int8", "uint8", "int16", "uint16"):
        # float32 holds every value of these types exactly, and no runtime quantizes an input to a wider one
        message = f"the step `quantize` makes 8 and 16 bit integers; {model_input.name!r} is {dtype.name}"
        raise RequestInvalid(message, "use the step `cast`")
    limits = np.iinfo(dtype)
    scale, zero_point = np.float32(model_input.scale), np.float32(model_input.zero_point)
    low, high = np.float32(limits.min), np.float32(limits.max)
    return lambda sample: np.clip(np.rint(sample / scale) + zero_point, low, high).astype(dtype)


def _resize(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    height, width = step["height"], step["width"]
    return _resize_nearest(height, width) if step["method"] == "nearest" else _resize_bilinear(height, width)


def _centres(size: int, from_size: int) -> np.ndarray:
    """Half-pixel centres of ``size`` output positions, in input positions (float64)."""
    return (np.arange(size) + 0.5) * (from_size / size)


def _resize_nearest(height: int, width: int) -> Step:
    def resize(sample: np.ndarray) -> np.ndarray:
        if sample.ndim < 2:
            raise ValueError("an image has at least two axes")
        rows = np.minimum(_centres(height, sample.shape[0]).astype(np.intp), sample.shape[0] - 1)
        columns = np.minimum(_centres(width, sample.shape[1]).astype(np.intp), sample.shape[1] - 1)
        picked: np.ndarray = sample[rows[:, None], columns]
        return picked

    return resize


def _resize_bilinear(height: int, width: int) -> Step:
    def along(sample: np.ndarray, axis: int, size: int) -> np.ndarray:
        last = sample.shape[axis] - 1
        at = np.clip(_centres(size, last + 1) - 0.5, 0, last)
        low = at.astype(np.intp)
        weight = (at - low).astype(np.float32).reshape((-1,) + (1,) * (sample.ndim - 1 - axis))
        first, second = sample.take(low, axis), sample.take(np.minimum(low + 1, last), axis)
        result: np.ndarray = first + (second - first) * weight
        return result

    def resize(sample: np.ndarray) -> np.ndarray:
        if sample.ndim < 2:
            raise ValueError("an image has at least two axes")
        return along(along(sample.astype(np.float32), 0, height), 1, width)

    return resize


def _layout(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    given, wanted = step["from"], step["to"]
    if given[0] == wanted[0] == "N":
        given, wanted = given[1:], wanted[1:]
    order = [given.index(axis) for axis in wanted]

    return lambda sample: sample.transpose(order)


def _scale(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    factor = np.float32(step["factor"])
    if "offset" not in step:
        return lambda sample: sample.astype(np.float32) * factor
    offset = np.float32(step["offset"])
    return lambda sample: sample.astype(np.float32) * factor + offset


def _normalize(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    mean, std = np.asarray(step["mean"], np.float32), np.asarray(step["std"], np.float32)

    def normalize(sample: np.ndarray) -> np.ndarray:
        result: np.ndarray = (sample.astype(np.float32) - mean) / std
        if result.shape != sample.shape:
            raise ValueError(f"{max(mean.size, std.size)} numbers are not one per channel of the last axis")
        return result

    return normalize


def _cast(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    dtype = np.dtype(step["dtype"])
    return lambda sample: sample.astype(dtype)


def _reshape(step: Mapping[str, Any], model_input: TensorInfo) -> Step:
    shape = tuple(step["shape"])
    return lambda sample: sample.reshape(shape)


_BUILDERS: Dict[str, Callable[[Mapping[str, Any], TensorInfo], Step]] = {
    "dequantize": _dequantize,
    "resize": _resize,
    "layout": _layout,
    "scale": _scale,
    "normalize": _normalize,
    "quantize": _quantize,
    "cast": _cast,
    "reshape": _reshape,
}


def dequantizer(tensor: TensorInfo) -> Optional[Step]:
    """Return the function from raw values of ``tensor`` to float32 ``(q - zero_point) * scale``, or None where it is not quantized per
    tensor.
    """
    if tensor.scale is None or tensor.zero_point is None:
        return None
    scale, zero_point = np.float32(tensor.scale), np.float32(tensor.zero_point)
    return lambda raw: (raw.astype(np.float32) - zero_point) * scale
