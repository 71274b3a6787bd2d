"""``python -I deploy/lab/plant CONFIG``: the folder itself is started, so that nothing but the standard library is needed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    importlib.import_module("plant.process").main(sys.argv[1])
