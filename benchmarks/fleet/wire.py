"""The transport to a simulated device, and ``python -m benchmarks.fleet.wire GATEWAY``: the product's own worker that knows it."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import DeviceUnreachable
from benchmarks.fleet.world import HEADER
from orchestrator.transports import TRANSPORTS, CommandResult, Transport
from orchestrator.worker.main import run_worker
from orchestrator.worker.settings import Settings

NAME = "simulated"
_TIMEOUT_SECS = 60.0


class SimulatedTransport(Transport):
    """One connection to the world, for one device; ``address`` holds the world's ``socket`` and the ``device``'s name."""

    def __init__(self, address: Mapping[str, Any]) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        reply, data = self.ask({"op": "run", "argv": list(argv)})
        return CommandResult(reply["exit_code"], data[:max_output_bytes], b"")

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        self.ask({"op": "put", "path": target, "size": source.stat().st_size})

    def put_bytes(self, data: bytes, target: str) -> None:
        self.ask({"op": "put_bytes", "path": target}, data)

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        reply, data = self.ask({"op": "read_from", "path": path, "offset": offset, "max_bytes": max_bytes})
        return None if reply.get("missing") else data

    def size_of(self, path: str) -> int | None:
        size: int | None = self.ask({"op": "size_of", "path": path})[0]["size"]
        return size

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def ask(self, header: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Send one request and return its reply."""
        text = json.dumps(header | {"device": self._address["device"]}).encode()
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX)
                    self._socket.settimeout(_TIMEOUT_SECS)
                    self._socket.connect(self._address["socket"])
                self._socket.sendall(HEADER.pack(len(text), len(payload)) + text + payload)
                head_bytes, data_bytes = HEADER.unpack(self._receive(HEADER.size))
                return json.loads(self._receive(head_bytes)), self._receive(data_bytes)
            except OSError as error:
                self._socket = None
                raise DeviceUnreachable(f"the simulated devices do not answer: {error}") from error

    def _receive(self, count: int) -> bytes:
        assert self._socket is not None
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise ConnectionError("closed")
            parts += part
        return bytes(parts)


def main(argv: list[str]) -> None:
    """Serve one gateway whose devices may be simulated ones."""
    TRANSPORTS[NAME] = SimulatedTransport
    run_worker(Settings(), argv[0])


if __name__ == "__main__":
    main(sys.argv[1:])
