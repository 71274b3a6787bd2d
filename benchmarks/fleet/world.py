"""``python -m benchmarks.fleet.world SOCKET RECORDINGS SEED``: the simulated devices, in a process of their own whose cost is nobody's.

A device keeps what was pushed to it (names and sizes), answers the agent's commands after the time that starting Python takes on a small
board, and "runs" a job by letting time pass; then it has the outcome and the streams that a real run of the same cell left (see
``recording``). It also keeps time stamps: when it was free, and when it was next spoken to and started.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import protocol

#: A file operation is one round trip in a laboratory network; a command starts a Python on a small board.
WIRE_SECS = 0.002
COMMAND_SECS = 0.4
_STEADY = protocol.PHASES.index("steady")
HEADER = struct.Struct("<II")


@dataclass
class _Run:
    request: dict[str, Any]
    agent_sha256: str = ""
    began_at: float | None = None
    secs: float = 0.0
    canceled_at: float | None = None

    def ended(self, now: float) -> bool:
        return self.canceled_at is not None or (self.began_at is not None and now >= self.began_at + self.secs)


@dataclass
class _Device:
    name: str
    rng: random.Random
    sizes: dict[str, int] = field(default_factory=dict)
    runs: dict[str, _Run] = field(default_factory=dict)
    fence: int = 0
    free_since: float | None = None
    spoken_at: float | None = None


class World:
    """All devices; ``gaps`` holds, for each job that followed another on its device, the seconds from free to spoken to and to started."""

    def __init__(self, recordings: dict[str, Any], seed: int) -> None:
        self._recordings = recordings
        self._seed = seed
        self._devices: dict[str, _Device] = {}
        self.gaps: list[tuple[float, float]] = []
        self.seen: dict[str, list[float]] = {"end_to_collected": []}
        self.operations = 0
        self.overlaps = 0
        self.marked_at = 0.0
        self.first_contact: dict[str, float] = {}

    async def answer(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        """One request of a transport, one reply."""
        if header["op"] == "report":
            return {
                "gaps": self.gaps,
                "seen": self.seen,
                "operations": self.operations,
                "overlaps": self.overlaps,
                "first": self.first_contact,
            }, b""
        if header["op"] == "reset":
            self.gaps, self.seen, self.operations = [], {"end_to_collected": []}, 0
            for device in self._devices.values():
                device.free_since = device.spoken_at = None
            return {}, b""
        if header["op"] == "mark":
            self.marked_at, self.first_contact = time.time(), {}
            return {}, b""
        self.operations += 1
        self.first_contact.setdefault(header["device"], time.time() - self.marked_at)
        name = header["device"]
        if name not in self._devices:
            self._devices[name] = _Device(name, random.Random(f"{self._seed} {name}"))
        device = self._devices[name]
        if header["op"] == "run":
            await asyncio.sleep(COMMAND_SECS * device.rng.uniform(0.7, 1.5))
            return {"exit_code": 0}, json.dumps(self._command(device, header["argv"])).encode()
        await asyncio.sleep(WIRE_SECS)
        return self._file(device, header, payload)

    # --- files ------------------------------------------------------------------------------------------------

    def _file(self, device: _Device, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        path: str = header["path"]
        if header["op"] == "put":
            device.sizes[path] = header["size"]
            return {}, b""
        if header["op"] == "put_bytes":
            folder, name = path.split("/")[-2:]
            if name == protocol.REQUEST_FILE and folder not in device.runs:
                device.runs[folder] = _Run(json.loads(payload))
                self._spoken(device)
            return {}, b""
        if header["op"] == "size_of":
            self._spoken(device)
            return {"size": device.sizes.get(path)}, b""
        data = self._content(device, path)
        if data is None:
            return {"missing": True}, b""
        return {}, data[header["offset"] : header["offset"] + header["max_bytes"]]

    def _content(self, device: _Device, path: str) -> bytes | None:
        folder, name = path.split("/")[-2:]
        run = device.runs.get(folder)
        if run is None or run.began_at is None:
            return None
        now = time.time()
        if name == protocol.PROGRESS_FILE:
            left = max(0.0, run.began_at + run.secs - now)
            return protocol.PROGRESS.pack(_STEADY, int(100 * (now - run.began_at)), int(100 * run.secs), left)
        if not run.ended(now):
            return None
        recorded = self._recordings[recording_key(run.request)]
        if name == protocol.OUTCOME_FILE:
            return self._outcome(run, recorded)
        stream = recorded["streams"].get(name.removesuffix(".spool"))
        return None if stream is None else bytes(stream)

    def _outcome(self, run: _Run, recorded: dict[str, Any]) -> bytes:
        told = dict(recorded["outcome"], agent_sha256=run.agent_sha256)
        told |= {name: run.request[name] for name in ("job_id", "attempt", "fence")}
        if run.canceled_at is not None:
            told |= {"status": "canceled", "streams": {}}
        return json.dumps(told).encode()

    # --- commands -----------------------------------------------------------------------------------------------

    def _command(self, device: _Device, argv: list[str]) -> dict[str, Any]:
        words = [word for word in argv if not word.startswith("-")]
        at = next(index for index, word in enumerate(words) if word.endswith(".pyz"))
        command, name = words[at + 1], words[at + 2] if len(words) > at + 2 else ""
        now = time.time()
        run = device.runs.get(name)
        if command == "start" and run is not None:
            if run.began_at is None:
                self.overlaps += any(other.began_at and not other.ended(now) for other in device.runs.values())
                run.began_at = now
                run.agent_sha256 = words[at].rsplit("/", 1)[-1].removesuffix(".pyz")
                run.secs = run.request["load"]["min_duration_secs"] * device.rng.uniform(0.6, 1.4)
                if device.free_since is not None and device.spoken_at is not None:
                    self.gaps.append((device.spoken_at - device.free_since, now - device.free_since))
                device.free_since = None
            return {"ok": True, "utc_unix_secs": now}
        if command == "status":
            return {"ok": True, "status": {"state": self._state(run, now), "fence": device.fence}}
        if command == "cancel" and run is not None and not run.ended(now):
            run.canceled_at = now
        elif command == "clean" and run is not None:
            if run.began_at is not None and run.canceled_at is None:
                self.seen["end_to_collected"].append(now - run.began_at - run.secs)
            del device.runs[name]
            device.free_since, device.spoken_at = now, None
        elif command == "ps":
            return {"ok": True, "runs": [{"name": key, "status": {"state": self._state(it, now)}} for key, it in device.runs.items()]}
        elif command == "facts":
            runtimes = {name: {"available": True, "version": "0"} for name in ("onnx", "tflite")}
            return {"ok": True, "conditions": {}, "environment": {}, "runtimes": runtimes}
        elif command == "health":
            return {"ok": True, "free_bytes": 10**10, "busy_percent": 1.0, "sensors": [], "power_flags": []}
        return {"ok": True, "protocol": protocol.PROTOCOL_VERSION, "machine": "x86_64", "utc_unix_secs": now}

    @staticmethod
    def _state(run: _Run | None, now: float) -> str:
        if run is None:
            return "absent"
        return "pushed" if run.began_at is None else "ended" if run.ended(now) else "running"

    def _spoken(self, device: _Device) -> None:
        if device.free_since is not None and device.spoken_at is None:
            device.spoken_at = time.time()


def recording_key(request: dict[str, Any]) -> str:
    """What tells two recorded runs apart: the model file and the scenario."""
    return f"{request['model']['sha256']} {request['scenario']}"


async def _serve(socket: str, world: World) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head_bytes, payload_bytes = HEADER.unpack(await reader.readexactly(HEADER.size))
                header = json.loads(await reader.readexactly(head_bytes))
                reply, data = await world.answer(header, await reader.readexactly(payload_bytes))
                text = json.dumps(reply).encode()
                writer.write(HEADER.pack(len(text), len(data)) + text + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(talk, socket, backlog=1024)
    async with server:
        await server.serve_forever()


def main(argv: list[str]) -> None:
    """Serve until killed."""
    socket, recordings, seed = argv
    recorded = json.loads(Path(recordings).read_text())
    for entry in recorded.values():
        entry["streams"] = {name: bytes.fromhex(data) for name, data in entry["streams"].items()}
    asyncio.run(_serve(socket, World(recorded, int(seed))))


if __name__ == "__main__":
    main(sys.argv[1:])
