"""Speaks the agent's protocol to one device, over any transport. What comes back is sized and checked here, once."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent import errors, protocol
from orchestrator.dispatch.agent_package import AgentPackage
from orchestrator.dispatch.push import PART_BYTES, PartedPush
from orchestrator.transports import CommandResult, Transport

_Message = TypeVar("_Message")

_COMMAND_TIMEOUT_SECS = 30.0
_SELF_TEST_TIMEOUT_SECS = 120.0
#: Reading and writing a large file once on a slow SD card.
_JOIN_TIMEOUT_SECS = 300.0
#: How much of a spool is in memory at once; each reading costs a few questions and answers.
PULL_BYTES = 16 * 1024 * 1024
#: ``<job_id>.<attempt>``. A device's names become arguments of commands.
_RUN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.[0-9]{1,4}")
#: Half of what a BIGINT holds: a device cannot bring its next leases to an end by naming a large one.
_FENCES_END = 2**62
#: In JSON: control characters other than line breaks and tabs, as escapes or themselves, and halves of surrogate pairs.
_UNSTORABLE = re.compile(r"\\u(00[01789][0-9a-fA-F]|[dD][89a-fA-F])|\\[bfr]|[\x7f-\x9f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class RunProgress:
    """What a run's progress file says; read without starting a process on the device, so that reading disturbs nothing."""

    phase: str
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class PruneReport:
    """What pruning a device removed (files and folders), and how many bytes of prunable things are left."""

    removed: int
    freed_bytes: int
    left_bytes: int


@dataclass(frozen=True)
class ThermalReading:
    """One channel of temperature, fan or battery, read once; ``value`` None with an error that may say why."""

    name: str
    unit: str
    value: float | None
    error: str | None


class DeviceAgent:
    """One device, one interpreter on it, one agent version."""

    def __init__(self, transport: Transport, root: str, interpreter: Sequence[str], package: AgentPackage) -> None:
        self.transport = transport
        self.root = root
        self._interpreter = tuple(interpreter)
        self._package = package

    # --- bringing things to the device ---------------------------------------------------------------------

    def push_agent(self) -> None:
        """Put the agent on the device unless this very agent is there."""
        target = self._path(protocol.AGENTS_FOLDER, f"{self._package.sha256}.pyz")
        if self.transport.size_of(target) != self._package.path.stat().st_size:
            self.transport.put(self._package.path, target)

    def push_content(
        self, sha256: str, size_bytes: int, source: Callable[[], Path], out_of_time: Callable[[], bool] = lambda: False
    ) -> bool:
        """Put a file on the device under its digest, once. False when ``out_of_time`` before all of it was there: call again to go on.

        The supervisor verifies the digest before each run and removes what is wrong. Large files go in parts and need :meth:`push_agent`
        first, since the agent joins them.
        """
        target = self._path(protocol.CONTENT_FOLDER, sha256)
        if self.transport.size_of(target) == size_bytes:
            return True
        if size_bytes <= PART_BYTES:
            self.transport.put(source(), target)
            return True
        push = PartedPush(self.transport, self._path(protocol.CONTENT_FOLDER), sha256, size_bytes)
        return push.send(source(), lambda parts: self._join(sha256, parts), out_of_time)

    def _join(self, sha256: str, parts: int) -> list[int]:
        reply = self._command("join", sha256, "--parts", str(parts), "--root", self.root, timeout_secs=_JOIN_TIMEOUT_SECS)
        missing = reply.get("missing")
        if reply.get("joined") is True:
            return []
        if not isinstance(missing, list) or not missing or not all(isinstance(index, int) and 0 <= index < parts for index in missing):
            raise errors.DeviceReplyInvalid("join: neither joined nor any part missing")
        return missing

    def unpack(self, sha256: str) -> None:
        """Make ``bundles/<sha256>`` of the content of that name; harmless when it is there."""
        self._command("unpack", sha256, "--root", self.root, timeout_secs=_JOIN_TIMEOUT_SECS)

    def prune(self, keep: Sequence[str], unused_secs: float | None, max_bytes: int | None) -> PruneReport:
        """Remove agents, content and bundles nobody used for ``unused_secs``, and the longest unused above ``max_bytes``.

        What is named in ``keep`` (digests) and this agent stay. Raises :class:`agent.errors.DeviceBusy` while a run lies on the device.
        """
        arguments = ["prune", "--root", self.root, "--keep", self._package.sha256, *keep]
        arguments += [] if unused_secs is None else ["--unused-secs", repr(float(unused_secs))]
        arguments += [] if max_bytes is None else ["--max-bytes", str(max_bytes)]
        reply = self._command(*arguments)
        told = [number for name in ("removed", "freed_bytes", "left_bytes") if isinstance(number := reply.get(name), int) and number >= 0]
        if len(told) != 3:
            raise errors.DeviceReplyInvalid("prune: does not tell what was removed")
        return PruneReport(*told)

    def push_request(self, run: str, request: protocol.RunRequest) -> None:
        self.transport.put_bytes(protocol.to_json(request).encode(), self._path(protocol.JOBS_FOLDER, run, protocol.REQUEST_FILE))

    # --- commands ------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Who answers there: protocol, agent digest, machine and clocks, with the clock's offset to ours."""
        return self._timed_command("hello")

    def facts(self) -> dict[str, Any]:
        """The device's conditions and its environment's facts, with a self-test of every runtime."""
        reply = self._command("facts", timeout_secs=_SELF_TEST_TIMEOUT_SECS)
        parts = [reply.get(name) for name in ("conditions", "environment", "runtimes")]
        if not all(isinstance(part, dict) for part in parts) or not all(isinstance(about, dict) for about in reply["runtimes"].values()):
            raise errors.DeviceReplyInvalid("facts: conditions, environment and runtimes are not told as the protocol has them")
        return reply

    def health(self) -> dict[str, Any]:
        """Free bytes, percent busy with other work, sensor channels and power flags, as ``agent.health`` tells them; checked."""
        reply = self._command("health", "--root", self.root)
        busy, sensors, flags = reply.get("busy_percent"), reply.get("sensors"), reply.get("power_flags")
        fine = isinstance(reply.get("free_bytes"), int) and (busy is None or isinstance(busy, int | float))
        if not fine or not isinstance(flags, list) or not isinstance(sensors, list) or not all(isinstance(item, dict) for item in sensors):
            raise errors.DeviceReplyInvalid("health: not told as the protocol has it")
        return reply

    def thermals(self) -> list[ThermalReading]:
        """One reading of every channel of temperature, fan and battery; quick, and needs no fence."""
        listed = self._command("thermals", "--root", self.root).get("channels")
        found = []
        for item in listed if isinstance(listed, list) else [None]:
            name, unit, value, error = (
                (item.get(key) for key in ("name", "unit", "value", "error")) if isinstance(item, dict) else [None] * 4
            )
            if not isinstance(name, str) or not isinstance(unit, str):
                raise errors.DeviceReplyInvalid("thermals: not told as the protocol has it")
            number = float(value) if isinstance(value, int | float) and math.isfinite(value) else None
            found.append(ThermalReading(name[:200], unit[:20], number, None if error is None else str(error)[:400]))
        return found

    def start(self, run: str, fence: int) -> dict[str, Any]:
        """Start a pushed run; starting it again is harmless. The reply tells the clock's offset, as hello's does."""
        return self._timed_command("start", run, "--root", self.root, "--fence", str(fence))

    def status(self, run: str, fence: int) -> protocol.RunStatus:
        """What is true of a run; a higher fence than the device has seen adopts the run."""
        reply = self._command("status", run, "--root", self.root, "--fence", str(fence))
        try:
            status = protocol.from_json(protocol.RunStatus, json.dumps(reply.get("status")))
        except errors.RequestInvalid as error:
            raise errors.DeviceReplyInvalid(f"status: {error.message}", "update the agent: the next run pushes it") from error
        if status.state not in protocol.RUN_STATES:
            raise errors.DeviceReplyInvalid(f"status: unknown state {status.state[:40]!r}")
        return status

    def cancel(self, run: str, fence: int) -> None:
        self._command("cancel", run, "--root", self.root, "--fence", str(fence))

    def clean(self, run: str, fence: int) -> None:
        self._command("clean", run, "--root", self.root, "--fence", str(fence))

    def runs(self) -> list[tuple[str, str]]:
        """Every run on the device with its state, whoever it belongs to."""
        listed = self._command("ps", "--root", self.root).get("runs")
        found = []
        for item in listed if isinstance(listed, list) else []:
            status = item.get("status") if isinstance(item, dict) else None
            if not isinstance(status, dict) or status.get("state") not in protocol.RUN_STATES:
                raise errors.DeviceReplyInvalid("ps: a run without a status")
            name = str(item.get("name"))
            if not _RUN_NAME.fullmatch(name):
                raise errors.DeviceReplyInvalid(f"ps: {name[:80]!r} is no name of a run")
            found.append((name, str(status["state"])))
        return found

    def seen_fence(self) -> int:
        """The highest fence the device has seen, 0 on a new one; read without starting a process there."""
        data = self.transport.read_from(self._path(protocol.FENCE_FILE), 0, 4096)
        if data is None:
            return 0
        try:
            fence = json.loads(data.decode("utf-8"), parse_int=_int64)["fence"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise errors.DeviceReplyInvalid(
                "the device's fence.json is damaged", f"make sure that no run lives there, then remove {self._path(protocol.FENCE_FILE)}"
            ) from error
        if not isinstance(fence, int) or not 0 <= fence < _FENCES_END:
            raise errors.DeviceReplyInvalid(f"the device has seen the fence {str(fence)[:40]}, which is none")
        return fence

    # --- reading a run without disturbing it -----------------------------------------------------------------

    def mark_read(self, run: str) -> None:
        """Tell the device that somebody still reads this run; see ``orphan_after_secs``."""
        self.transport.put_bytes(b"", self._path(protocol.JOBS_FOLDER, run, protocol.READ_MARK_FILE))

    def progress(self, run: str) -> RunProgress | None:
        data = self.transport.read_from(self._path(protocol.JOBS_FOLDER, run, protocol.PROGRESS_FILE), 0, protocol.PROGRESS.size)
        if data is None or len(data) < protocol.PROGRESS.size:
            return None
        phase, done, total, seconds_left = protocol.PROGRESS.unpack(data)
        name = protocol.PHASES[phase] if phase < len(protocol.PHASES) else "starting"
        # NaN and negatives both mean unknown; the comparison is false for NaN.
        return RunProgress(name, min(done, 2**53), min(total, 2**53), seconds_left if 0 <= seconds_left < 1e9 else None)

    def outcome(self, run: str) -> protocol.RunOutcome | None:
        """The outcome message, checked; None while there is none."""
        outcome = self._message(run, protocol.OUTCOME_FILE, protocol.RunOutcome)
        if outcome is None:
            return None
        if outcome.status not in protocol.OUTCOME_STATUSES or f"{outcome.job_id}.{outcome.attempt}" != run:
            raise errors.DeviceReplyInvalid(
                f"the outcome in {run} belongs to {outcome.job_id[:80]}.{outcome.attempt} ({outcome.status[:20]})"
            )
        if outcome.protocol != protocol.PROTOCOL_VERSION or outcome.agent_sha256 != self._package.sha256:
            raise errors.DeviceReplyInvalid(
                f"{run} was measured by another version of the agent ({outcome.agent_sha256[:12]})", "it is tried again with this one"
            )
        return outcome

    def beginning(self, run: str) -> tuple[protocol.RunStart | None, protocol.RunnerStart | None]:
        """What the supervisor and the runner of a run wrote when they began: all that a run leaves, beside its streams, that was lost."""
        start = self._message(run, protocol.START_FILE, protocol.RunStart)
        if start is not None and f"{start.job_id}.{start.attempt}" != run:
            raise errors.DeviceReplyInvalid(f"the beginning in {run} belongs to {start.job_id[:80]}.{start.attempt}")
        return start, self._message(run, protocol.RUNNER_START_FILE, protocol.RunnerStart)

    def _message(self, run: str, file: str, kind: type[_Message]) -> _Message | None:
        """A message in a run's folder, sized and checked; None when it is not there."""
        data = self.transport.read_from(self._path(protocol.JOBS_FOLDER, run, file), 0, protocol.MAX_MESSAGE_BYTES + 1)
        if data is None:
            return None
        try:
            text = _storable(data)
            json.loads(text, parse_int=_int64)
            message = protocol.from_json(kind, text)
            protocol.to_json(message)  # what cannot be written down again (not-a-number, nested without end) is refused here, once
        except (ValueError, RecursionError, errors.RequestInvalid) as error:
            raise errors.DeviceReplyInvalid(
                f"the {file} of {run} is none: {error}", "see the device's health: edgematrix device check"
            ) from error
        return message

    def pull_stream(
        self,
        run: str,
        stream: str,
        target: Path,
        size_limit: int,
        part_bytes: int = PULL_BYTES,
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> int:
        """Append what is new of a stream to ``target``; its size is the offset, so a broken link goes on where it stopped.

        Returns how much is there now: less than the device has when ``out_of_time`` after a part.
        """
        path = self._path(protocol.JOBS_FOLDER, run, f"{stream}.spool")
        with target.open("ab") as file:
            offset = file.tell()
            while offset < size_limit:
                part = self.transport.read_from(path, offset, min(part_bytes, size_limit - offset))
                if not part:
                    break
                file.write(part)
                offset += len(part)
                if out_of_time():
                    break
            return offset

    # --- below ---------------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return "/".join((self.root, *parts))

    def _timed_command(self, *arguments: str) -> dict[str, Any]:
        """Add to the reply how far the device's UTC is from ours, in seconds, and how uncertain that is: half the time it took."""
        before = time.time()
        reply = self._command(*arguments)
        after = time.time()
        told = reply.get("utc_unix_secs")
        if isinstance(told, int | float) and math.isfinite(told):
            reply["clock_offset_secs"] = float(told) - (before + after) / 2
            reply["clock_offset_uncertainty_secs"] = (after - before) / 2
        return reply

    def _command(self, *arguments: str, timeout_secs: float = _COMMAND_TIMEOUT_SECS) -> dict[str, Any]:
        agent_file = self._path(protocol.AGENTS_FOLDER, f"{self._package.sha256}.pyz")
        result = self.transport.run(
            (*self._interpreter, agent_file, *arguments), timeout_secs=timeout_secs, max_output_bytes=protocol.MAX_MESSAGE_BYTES
        )
        if result.exit_code in (126, 127) and not result.stdout:
            # What every shell says, and execvp does, of a command that is not there or cannot be run.
            told = result.stderr[-400:].decode("utf-8", "replace").strip()
            raise errors.MissingRuntime(
                f"the device cannot run {' '.join(self._interpreter)}: {told or 'no such command'}",
                "install it there, or name one that exists: edgematrix env add (a bundle needs nothing installed)",
            )
        try:
            reply = json.loads(_storable(result.stdout))
        except (ValueError, RecursionError) as error:
            raise errors.DeviceReplyInvalid(
                f"the agent's {arguments[0]} answered no JSON {_shown(result)}",
                f"run it by hand: {' '.join(self._interpreter)} {agent_file} {arguments[0]}",
            ) from error
        if not isinstance(reply, dict):
            raise errors.DeviceReplyInvalid(f"the agent's {arguments[0]} answered no object")
        if reply.get("ok") is not True:
            raise errors.from_json(
                reply["error"] if isinstance(reply.get("error"), dict) else {"class": "bug", "message": "no reason given"}
            )
        return reply


def _shown(result: CommandResult) -> str:
    """What a person needs of an answer that is none: how it ended and its last words, or the first of those it should not have said."""
    if len(result.stdout) >= protocol.MAX_MESSAGE_BYTES:
        ended = f"and was cut off after {len(result.stdout)} bytes"
    else:
        ended = f"(exit code {result.exit_code})"
    # ascii(): what a device sends may hold control sequences of a terminal.
    told = ascii(result.stderr[-400:].decode("utf-8", "replace").strip())[1:-1]
    said = ascii(result.stdout[:60].decode("utf-8", "replace"))
    return f"{ended}: {told or (f'it said {said}' if result.stdout else 'it said nothing')}"


def _int64(digits: str) -> int:
    """Every count, size and time of the protocol fits into 64 bits; what does not would fail later, in the arithmetic."""
    value = int(digits)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{digits[:40]} is more than 64 bits hold")
    return value


def _storable(data: bytes) -> str:
    """Decode JSON of a device. What no database keeps as text (NUL, halves of surrogate pairs) and what steers a terminal is replaced.

    Raises ValueError.
    """
    text = data.decode("utf-8")
    if not _UNSTORABLE.search(text):
        return text
    return json.dumps(_replaced(json.loads(text)), ensure_ascii=False)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub("\ufffd", value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, dict):
        return {_replaced(name): _replaced(item) for name, item in value.items()}
    return value


def end_leftovers(agent: DeviceAgent, fence: int, keep: str = "") -> bool:
    """End or remove every run on the device except ``keep``; for the one that holds the device's lease, or knows that nobody does.

    Whether there was any.
    """
    found = [(run, state) for run, state in agent.runs() if run != keep]
    for run, state in found:
        if state == "running":
            agent.cancel(run, fence)
        else:
            agent.clean(run, fence)
    return bool(found)
