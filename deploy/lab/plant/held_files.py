"""Files that are rewritten in place: whoever holds one open reads the new value, as from a kernel's file."""

from __future__ import annotations

import os
from pathlib import Path

_WIDTH = 16


class HeldFiles:
    """Files below one folder, by their paths; every value is padded to one width, so that no reader ever sees half of two."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptors: dict[str, int] = {}
        self._said: dict[str, str] = {}

    def fix(self, path: str, text: str) -> None:
        """Write a file that never changes."""
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def put(self, path: str, value: object) -> None:
        """Say a value."""
        text = str(value)
        if self._said.get(path) == text:
            return
        if path not in self._descriptors:
            place = self._root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            self._descriptors[path] = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(self._descriptors[path], f"{text:<{_WIDTH - 1}}\n".encode(), 0)
        self._said[path] = text

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}

    def silence(self, path: str) -> None:
        """Leave nothing in a file: whoever reads it gets no number. The next :meth:`put` brings it back."""
        if self._said.pop(path, None) is not None:
            os.ftruncate(self._descriptors[path], 0)
