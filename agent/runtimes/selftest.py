"""A tiny model per runtime, really run: the only proof that a runtime works here.

Both compute y = x·Wᵀ + b with W = [[1, 2], [3, 4]] and b = [0.5, -0.5]; ``tests/unit/agent/build_selftest_models.py`` builds them.
"""

from __future__ import annotations

import base64
from typing import Any, Optional

import numpy as np

ONNX_MODEL = base64.b64decode(
    b"CAc6gAEKIQoBeAoBdwoBYhIBeSIER2VtbSoNCgZ0cmFuc0IYAaABAhIBZyobCAIIAhABQgF3ShAAAIA/AAAAQAAAQEAAAIBAKhEIAhABQgFiSggAAAA/AAAA"
    b"v1oTCgF4Eg4KDAgBEggKAggBCgIIAmITCgF5Eg4KDAgBEggKAggBCgIIAkIECgAQDQ=="
)

TFLITE_MODEL = base64.b64decode(
    b"IAAAAFRGTDMAAAAAAAAAAAAADgAUABAADAAIAAAABAAOAAAAEAAAABwAAAAgAAAAAwAAAAMAAACkAQAAeAEAAFQBAAABAAAAMAAAAAEAAAAQAAAADAAMAAsA"
    b"AAAAAAQADAAAAAkAAAAAAAAJDAAUABAADAAIAAQADAAAACAAAAAMAAAAEAAAABwAAAABAAAAAwAAAAEAAAAAAAAAAQAAACgAAAAEAAAAzAAAAJgAAABoAAAA"
    b"RAAAAAAADgAUAAAAEAAMAAsABAAOAAAAKAAAAAAAAAgIAAAADAAAAAEAAAADAAAAAwAAAAAAAAABAAAAAgAAABz///+Q////FAAAAAQAAAACAAAAAQAAAAIA"
    b"AAABAAAAeQAAAOD///8UAAAAAgAAAAQAAAABAAAAAgAAAAEAAABiAAAADAAQAAwAAAAIAAQADAAAABgAAAABAAAABAAAAAIAAAACAAAAAgAAAAEAAAB3AAAA"
    b"DAAMAAgAAAAAAAQADAAAABQAAAAEAAAAAgAAAAEAAAACAAAAAQAAAHgAAADm////BAAAAAgAAAAAAAA/AAAAvwAAAAAAAAYACAAEAAYAAAAEAAAAEAAAAAAA"
    b"gD8AAABAAABAQAAAgEAAAAAAAAAAAAQABAAEAAAA"
)

_INPUT = np.array([[1, 2]], np.float32)
_EXPECTED = np.array([[5.5, 10.5]], np.float32)


def onnx_self_test(package: Any) -> Optional[str]:
    """Run the tiny model in ``package`` (onnxruntime); return None, or why it does not work."""
    try:
        options = package.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = package.InferenceSession(ONNX_MODEL, options, providers=["CPUExecutionProvider"])
        return _compare(session.run(None, {"x": _INPUT})[0])
    except Exception as error:  # noqa: BLE001 (whatever it raises, it does not work)
        return _cause(error)


def tflite_self_test(module: Any) -> Optional[str]:
    """Run the tiny model in ``module`` (an interpreter module); return None, or why it does not work."""
    try:
        interpreter = module.Interpreter(model_content=TFLITE_MODEL, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _INPUT)
        interpreter.invoke()
        return _compare(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    except Exception as error:  # noqa: BLE001 (whatever it raises, it does not work)
        return _cause(error)


def _compare(output: Any) -> Optional[str]:
    if np.array_equal(output, _EXPECTED):
        return None
    return f"the tiny model gives {np.asarray(output).tolist()} instead of {_EXPECTED.tolist()}"


def _cause(error: BaseException) -> str:
    """Say the first error of a chain: for an extension built for another numpy the last one says nothing."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
