"""A device that answers what a test tells it to, behind the same interface as a real one; everything that it is asked is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.errors import DeviceUnreachable
from orchestrator.transports import CommandResult, Transport

Answer = dict[str, Any] | bytes | Exception

HEALTHY: dict[str, Answer] = {
    "hello": {"ok": True, "protocol": 2, "machine": "aarch64"},
    "health": {
        "ok": True,
        "free_bytes": 10**10,
        "busy_percent": 2.0,
        "sensors": [{"name": "cpu_c", "unit": "°C", "value": 40.0, "error": None}],
        "power_flags": [],
    },
    "facts": {
        "ok": True,
        "conditions": {"kernel": "6"},
        "environment": {"digest": "e"},
        "runtimes": {"onnx": {"available": True, "version": "1", "golden_sha256": "5" * 64}},
    },
    "ps": {"ok": True, "fence": 0, "runs": []},
    "cancel": {"ok": True},
    "clean": {"ok": True},
}


class ScriptedDevice(Transport):
    """``answers`` maps a command to its reply (raw bytes go out as they are), ``files`` a path to its content."""

    def __init__(self, answers: dict[str, Answer] | None = None, clock: Callable[[], float] | None = None) -> None:
        self.answers = HEALTHY | (answers or {})
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, ...]] = []
        self.read: list[str] = []
        self.clock = clock
        self.full = False

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        words = list(argv)
        command = tuple(words[next(index for index, word in enumerate(words) if word.endswith(".pyz")) + 1 :])
        self.asked.append(command)
        answer = self.answers[command[0]]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            if command[0] == "hello" and self.clock is not None:
                answer = answer | {"utc_unix_secs": self.clock()}
            answer = json.dumps(answer).encode()
        return CommandResult(0, answer[:max_output_bytes], b"its last words")

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        self.put_bytes(source.read_bytes(), target)

    def put_bytes(self, data: bytes, target: str) -> None:
        if self.full:
            raise DeviceUnreachable("no room", "free some")
        self.files[target] = data

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        self.read.append(path)
        data = self.files.get(path)
        return None if data is None else data[offset : offset + max_bytes]

    def size_of(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files else None

    def close(self) -> None:
        """Nothing is held open."""
