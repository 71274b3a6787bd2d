"""The declarative input steps as data: their names and parameters, and what makes a list of them wrong. Pure; part of the protocol.

``agent.protocol`` offers ``STEP_PARAMETERS`` and ``check_steps`` to the orchestrator; ``agent.preprocess`` runs the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple


@dataclass(frozen=True)
class StepParameter:
    """One parameter of an input step: ``kind`` is a key of STEP_VALUE_KINDS; ``choices`` closes a text."""

    kind: str
    required: bool = True
    choices: Tuple[str, ...] = ()


#: What a parameter of each kind may be, in words for messages.
STEP_VALUE_KINDS = {
    "number": "a finite number",
    "positive": "a number above 0",
    "integer": "an integer",
    "size": "an integer of 1 or more",
    "numbers": "a finite number or a list of them",
    "shape": "a list of integers of 1 or more, at most one of them -1",
    "axes": "the axes as different letters, as in NHWC",
    "text": "a text",
}

STEP_DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")

#: The input steps: kind → parameter → what it may be. A step is one JSON object, ``{"kind": "scale", "factor": 0.5}``; steps work on one
#: sample without its batch axis, in order; ``agent.preprocess`` says what each does.
STEP_PARAMETERS: Dict[str, Dict[str, StepParameter]] = {
    "dequantize": {"scale": StepParameter("positive"), "zero_point": StepParameter("integer")},
    "resize": {
        "height": StepParameter("size"),
        "width": StepParameter("size"),
        "method": StepParameter("text", choices=("nearest", "bilinear")),
    },
    "layout": {"from": StepParameter("axes"), "to": StepParameter("axes")},
    "scale": {"factor": StepParameter("number"), "offset": StepParameter("number", required=False)},
    "normalize": {"mean": StepParameter("numbers"), "std": StepParameter("numbers")},
    "quantize": {},
    "cast": {"dtype": StepParameter("text", choices=STEP_DTYPES)},
    "reshape": {"shape": StepParameter("shape")},
}
MAX_STEPS = 32


def check_steps(steps: Any) -> List[str]:
    """Return what is wrong with a list of input steps, one sentence each, without needing a model; empty when all is well."""
    if not isinstance(steps, (list, tuple)):
        return [f"steps: expected a list, found {type(steps).__name__}"]
    if len(steps) > MAX_STEPS:
        return [f"steps: {len(steps)} are more than the {MAX_STEPS} allowed"]
    return [problem for index, step in enumerate(steps) for problem in _check_step(f"steps[{index}]", step)]


def _check_step(where: str, step: Any) -> List[str]:
    if not isinstance(step, Mapping):
        return [f"{where}: expected an object with the key 'kind', found {type(step).__name__}"]
    kind = step.get("kind")
    if not isinstance(kind, str) or kind not in STEP_PARAMETERS:
        return [f"{where}: unknown kind {kind!r}; there are {', '.join(STEP_PARAMETERS)}"]
    parameters = STEP_PARAMETERS[kind]
    takes = f"`{kind}` takes {', '.join(parameters) or 'no parameters'}"
    problems = [f"{where}: unknown parameter {name!r}; {takes}" for name in step if name != "kind" and name not in parameters]
    for name, parameter in parameters.items():
        if name not in step:
            if parameter.required:
                problems.append(f"{where}: parameter {name!r} is missing; {takes}")
        elif not _is_step_value(parameter.kind, step[name]):
            problems.append(f"{where}.{name}: expected {STEP_VALUE_KINDS[parameter.kind]}, found {step[name]!r:.60}")
        elif parameter.choices and step[name] not in parameter.choices:
            problems.append(f"{where}.{name}: {step[name]!r:.60} is none of {', '.join(parameter.choices)}")
    if not problems and kind == "layout" and sorted(step["from"]) != sorted(step["to"]):
        problems.append(f"{where}: {step['from']} and {step['to']} do not name the same axes")
    if not problems and kind == "normalize" and 0 in (step["std"] if isinstance(step["std"], (list, tuple)) else [step["std"]]):
        problems.append(f"{where}.std: a standard deviation of 0 cannot be divided by")
    return problems


def _is_step_value(kind: str, value: Any) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    is_number = is_integer or (isinstance(value, float) and math.isfinite(value))
    if kind == "text":
        return isinstance(value, str)
    if kind == "axes":
        return isinstance(value, str) and value.isalpha() and len(set(value)) == len(value)
    if kind == "integer":
        return is_integer
    if kind == "size":
        return is_integer and value >= 1
    if kind == "positive":
        return is_number and value > 0
    if kind == "number":
        return is_number
    if not isinstance(value, (list, tuple)):
        return kind == "numbers" and is_number
    if kind == "numbers":
        return len(value) > 0 and all(_is_step_value("number", item) for item in value)
    return len(value) > 0 and all(_is_step_value("size", item) or item == -1 for item in value) and list(value).count(-1) <= 1
