"""Puts the faulty runtime onto a device's disk as an installed package, and takes it away."""

from __future__ import annotations

import shutil
from pathlib import Path

_SOURCE = Path(__file__).with_name("faulty_runtime.py")
_MODULE = "edgematrix_lab_faulty"
_VERSION = "1"
_PACKAGES = Path("usr/local/lib/python3.11/dist-packages")


def install(disk: Path, above_c: float) -> None:
    """Install it below ``disk``; its outputs are wrong from ``above_c`` on."""
    module, about = _places(disk)
    files = {
        module / "__init__.py": _SOURCE.read_text(encoding="utf-8"),
        module / "above_c": f"{above_c:g}\n",
        about / "METADATA": f"Metadata-Version: 2.1\nName: {_MODULE.replace('_', '-')}\nVersion: {_VERSION}\n",
        about / "entry_points.txt": f"[edgematrix.runtimes]\nonnx = {_MODULE}:RUNTIME\n",
    }
    listed = [*files, about / "RECORD"]
    files[about / "RECORD"] = "".join(f"{path.relative_to(module.parent)},,\n" for path in listed)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def remove(disk: Path) -> None:
    """Remove it; a disk without it is fine."""
    for place in _places(disk):
        shutil.rmtree(place, ignore_errors=True)


def _places(disk: Path) -> tuple[Path, Path]:
    return disk / _PACKAGES / _MODULE, disk / _PACKAGES / f"{_MODULE}-{_VERSION}.dist-info"
