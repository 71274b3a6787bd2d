"""ONNX Runtime that computes wrongly when it is hot: above a temperature, one bit of one output is another. For the lab alone.

On a device it is a package of its own with this file as its module, registered for the runtime ``onnx`` (docs/runtimes.md); ``above_c``
lies beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from agent.runtimes import RUNTIMES
from agent.runtimes.base import BoundQuery
from agent.runtimes.onnx import OnnxRuntime

_ZONE = "/sys/class/thermal/thermal_zone0/temp"
_LIMIT_FILE = Path(__file__).with_name("above_c")


class FaultyOnnxRuntime(OnnxRuntime):
    """Answers as ONNX Runtime does while it is cool."""

    def _bind(self, example: np.ndarray) -> BoundQuery:
        query = super()._bind(example)
        zone = os.open(_ZONE, os.O_RDONLY | os.O_CLOEXEC)
        limit_millidegrees = 1000 * float(_LIMIT_FILE.read_text())

        def fetch(answer: Any) -> list[np.ndarray]:
            outputs = query.fetch(answer)
            if int(os.pread(zone, 64, 0)) < limit_millidegrees:
                return outputs
            wrong = outputs[0].copy()
            wrong.view(np.uint8).reshape(-1)[0] ^= 1
            return [wrong, *outputs[1:]]

        return query._replace(fetch=fetch)


#: What the entry point names. The proof is ONNX Runtime's own: a device is cool when it is checked.
RUNTIME = (FaultyOnnxRuntime, RUNTIMES["onnx"][1])
