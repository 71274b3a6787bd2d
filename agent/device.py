"""The agent's commands: each takes what it needs, changes what it says and returns one plain record.

None of them imports numpy, save ``facts``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import struct
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import agent
from agent import custody, fence, launch, layout, locks, protocol
from agent.conditions import boot_id
from agent.errors import DeviceBusy, EdgematrixError, MachineUnsupported, MissingRuntime, RequestInvalid, RunLost, storage_error
from agent.host import HostFiles

Reply = Dict[str, Any]

_MACHINES = ("x86_64", "amd64", "aarch64", "arm64")
#: How long a process that has written its last word, or was just killed, may take to be gone.
_GONE_SECS = 10.0
_MAX_HERTZ = 1000.0

# --- who is there --------------------------------------------------------------------------------------------


def hello(archive: Optional[Path]) -> Reply:
    """Say who answers: protocol, agent, interpreter, machine and both clocks.

    Raises :class:`MachineUnsupported` where the agent cannot work.
    """
    check_machine(platform.machine(), struct.calcsize("P") * 8)
    return {
        "protocol": protocol.PROTOCOL_VERSION,
        "agent_version": agent.__version__,
        "agent_sha256": archive_sha256(archive),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "utc_unix_secs": time.time(),
        "monotonic_ns": time.monotonic_ns(),
    }


def check_machine(machine: str, pointer_bits: int) -> None:
    """Raise :class:`MachineUnsupported` for anything but a 64-bit interpreter on 64-bit ARM or x86-64."""
    if machine.lower() not in _MACHINES:
        raise MachineUnsupported(
            f"this machine is {machine}; edgematrix measures on 64-bit ARM (aarch64) and x86-64",
            "install a 64-bit operating system, if the board has one",
        )
    if pointer_bits != 64:
        raise MachineUnsupported(f"this Python is a {pointer_bits}-bit program on {machine}", "use a 64-bit Python")


def facts(archive: Optional[Path]) -> Reply:
    """Return hello's answer, the conditions and the environment; every runtime proves itself by running a tiny model: this takes
    seconds.

    Raises :class:`MissingRuntime` where not even numpy can be imported.
    """
    try:
        import numpy  # noqa: F401 (every runtime needs it, and an interpreter without it has nothing else to offer)
    except Exception as error:  # one that is built for another Python raises more than ImportError
        raise MissingRuntime(
            f"no runtime works under this Python {platform.python_version()}: numpy: {error}",
            "install numpy and onnxruntime, tflite-runtime or ai-edge-litert in that environment",
        ) from error
    from agent import conditions
    from agent.environment import environment_facts
    from agent.runtimes import available

    greeting = hello(archive)
    environment = environment_facts()
    found = conditions.collect(HostFiles(), environment)
    found["start"] = conditions.volatile(HostFiles())
    runtimes = {name: dataclasses.asdict(about) for name, about in available().items()}
    return {
        **greeting,
        "conditions": found,
        "environment": environment,
        "runtimes": runtimes,
    }


def archive_sha256(archive: Optional[Path]) -> str:
    """Return the SHA-256 of the zipapp this runs from; empty when it runs from a folder of sources."""
    return hashlib.sha256(archive.read_bytes()).hexdigest() if archive is not None else ""


# --- runs ----------------------------------------------------------------------------------------------------


def start(root: Path, name: str, fence_number: int, launch: Callable[[Path, protocol.RunRequest, int], None]) -> Reply:
    """Start a pushed run; ``launch(folder, request, lock)`` detaches its supervisor, which inherits the descriptor of the lock it
    lives under.

    Starting a run again is harmless: it is running or ended already (a higher fence adopts it). Raises :class:`DeviceBusy` while
    another run of this device lives, :class:`RunLost` for a run whose supervisor is gone, :class:`RequestInvalid`,
    :class:`StaleFence`.
    """
    with fence.owned(root, fence_number), _storage_errors(root):
        folder = layout.run_folder(root, name)
        state = _state(folder)
        if state in ("running", "ended"):
            fence.adopt(folder, fence_number)
            return {"started": False, "status": dataclasses.asdict(_status(folder, fence_number))}
        if state == "lost":
            raise RunLost(f"{name} was started before and its supervisor is gone without an outcome", "clean it and start a new attempt")
        request = _request(folder, name)
        _refuse_while_busy(root, name)
        fence.adopt(folder, fence_number)
        layout.touch(folder / protocol.READ_MARK_FILE)
        custody.rotate(root)
        # Last: from here on the run counts as started.
        lock = locks.take(folder / layout.SUPERVISOR_LOCK_FILE)
        if lock is None:
            raise DeviceBusy(f"{name} is being started by somebody else", "ask for its status")
    try:
        # Outside the fence's lock, which a forked process would go on holding. This run's own lock is held by now.
        launch(folder, request, lock)
    finally:
        os.close(lock)
    return {"started": True, "status": dataclasses.asdict(_status(folder, fence_number))}


def status(root: Path, name: str, fence_number: int) -> Reply:
    """Return the run's RunStatus and note that somebody reads it.

    A fence higher than the run's *adopts* it: the device's fence and the run's owner become this one, and everybody below is
    refused from then on.
    """
    with fence.owned(root, fence_number), _storage_errors(root):
        folder = layout.run_folder(root, name)
        if _state(folder) in ("running", "ended", "lost"):
            fence.adopt(folder, fence_number)
            layout.touch(folder / protocol.READ_MARK_FILE)
        return {"status": dataclasses.asdict(_status(folder, fence_number))}


def cancel(root: Path, name: str, fence_number: int) -> Reply:
    """Ask a run to end; its supervisor sees it within a quarter of a second. What is left of a lost run is ended here."""
    with fence.owned(root, fence_number), _storage_errors(root):
        folder = layout.run_folder(root, name)
        state = _state(folder)
        if state == "running":
            fence.adopt(folder, fence_number)
        if state in ("pushed", "running"):
            layout.touch(folder / protocol.CANCEL_FILE)
        elif state == "lost":
            _end_lost(folder)
        return {"status": dataclasses.asdict(_status(folder, fence_number))}


def clean(root: Path, name: str, fence_number: int) -> Reply:
    """Remove a run's folder. Raises :class:`DeviceBusy` while its supervisor lives."""
    with fence.owned(root, fence_number), _storage_errors(root):
        folder = layout.run_folder(root, name)
        if not folder.exists():
            return {"removed": False}
        state = _state(folder)
        if state == "running" or not locks.wait_until_free(folder / layout.SUPERVISOR_LOCK_FILE, _GONE_SECS):
            raise DeviceBusy(f"{name} is running", "cancel it and wait for its end")
        if state == "lost":
            _end_lost(folder)
        _end_leftover_runner(folder)
        shutil.rmtree(folder)
        return {"removed": True}


def ps(root: Path) -> Reply:
    """List every run folder of this device with its state, and the device's fence. Reads only; nobody adopts anything."""
    runs: List[Reply] = []
    if not root.is_dir():
        return {"fence": 0, "runs": runs}
    with fence.locked(root), _storage_errors(root):
        for name in layout.run_names(root):
            folder = layout.run_folder(root, name)
            runs.append({"name": name, "supervisor_pid": _supervisor_pid(folder), "status": dataclasses.asdict(_status(folder, 0))})
        return {"fence": fence.read(root), "runs": runs}


# --- below ---------------------------------------------------------------------------------------------------


def _state(folder: Path) -> str:
    # In this order: a supervisor that is gone when first looked at has written its outcome by then, or never will.
    alive = locks.is_held(folder / layout.SUPERVISOR_LOCK_FILE)
    if (folder / protocol.OUTCOME_FILE).exists():
        return "ended"
    if alive:
        return "running"
    if (folder / layout.SUPERVISOR_LOCK_FILE).exists():
        return "lost"
    return "pushed" if (folder / protocol.REQUEST_FILE).exists() else "absent"


def _status(folder: Path, fence_number: int) -> protocol.RunStatus:
    state = _state(folder)
    phase, done, total, seconds_left = _progress(folder)
    sizes = {}
    for stream in protocol.STREAMS:
        with contextlib.suppress(FileNotFoundError):
            sizes[stream] = os.lstat(folder / f"{stream}.spool").st_size
    restarted = _restarted(folder) if state == "lost" else None
    return protocol.RunStatus(state, fence.owner(folder, fence_number), phase, done, total, seconds_left, sizes, restarted)


def _restarted(folder: Path) -> Optional[bool]:
    """Tell whether the device was restarted since the run began, None where the run or the device does not say which boot it is."""
    now = boot_id(HostFiles())
    try:
        start = protocol.from_json(protocol.RunStart, (layout.read_file(folder / protocol.START_FILE) or b"").decode("utf-8", "replace"))
    except EdgematrixError:
        return None
    return None if now is None or start.boot_id is None else now != start.boot_id


def _progress(folder: Path) -> Tuple[str, int, int, Optional[float]]:
    try:
        data = layout.read_file(folder / protocol.PROGRESS_FILE, protocol.PROGRESS.size) or b""
        phase, done, total, seconds_left = protocol.PROGRESS.unpack(data)
        return protocol.PHASES[phase], done, total, seconds_left if math.isfinite(seconds_left) and seconds_left >= 0 else None
    except (EdgematrixError, struct.error, IndexError):
        return protocol.PHASES[0], 0, 0, None


def _request(folder: Path, name: str) -> protocol.RunRequest:
    data = layout.read_file(folder / protocol.REQUEST_FILE)
    if data is None:
        raise RequestInvalid(f"{name} has no {protocol.REQUEST_FILE}", "push the request, then start")
    try:
        request = protocol.from_json(protocol.RunRequest, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestInvalid(f"{protocol.REQUEST_FILE} is not UTF-8: {error}") from error
    if request.protocol != protocol.PROTOCOL_VERSION:
        raise RequestInvalid(
            f"the request speaks protocol {request.protocol}, this agent {protocol.PROTOCOL_VERSION}",
            "push the agent that belongs to the orchestrator",
        )
    if f"{request.job_id}.{request.attempt}" != name:
        raise RequestInvalid(
            f"the request in {name} is for {request.job_id[:80]}.{request.attempt}", "push each request into its own run's folder"
        )
    for field, value, low, high in (
        ("timeout_secs", request.timeout_secs, 0.0, 1e9),
        ("orphan_after_secs", request.orphan_after_secs, 0.0, 1e9),
        ("telemetry_hz", request.telemetry_hz, 0.0, _MAX_HERTZ),
    ):
        if not low <= value <= high or (value == 0 and field != "telemetry_hz"):  # not-a-number compares false, too
            raise RequestInvalid(f"{field} is {value}", f"give a number above {low:g} and up to {high:g}")
    launch.resolved_command(request.interpreter)
    for content in (request.model, request.inputs.content):
        layout.content_path(folder.parent.parent, content.sha256)
    return request


def _refuse_while_busy(root: Path, name: str) -> None:
    for other in layout.run_names(root):
        if other == name:
            continue
        folder = layout.run_folder(root, other)
        state = _state(folder)
        # A supervisor whose outcome is there is on its way out.
        lock = folder / layout.SUPERVISOR_LOCK_FILE
        if state == "running" or (state == "ended" and not locks.wait_until_free(lock, _GONE_SECS)):
            raise DeviceBusy(
                f"{other} is still running on this device", f"wait for {other}, adopt it with `status`, or end it with `cancel`"
            )
        if state == "lost":
            _end_lost(folder)


def _end_lost(folder: Path) -> None:
    """Make sure that nothing of a run lives whose supervisor vanished (its lock is free), and note that in the device's own record."""
    _end_leftover_runner(folder)
    custody.note(folder.parent.parent, custody.FOUND_GONE, folder.name, fence.owner(folder, 0))


def _end_leftover_runner(folder: Path) -> None:
    """Kill a runner that outlived its supervisor (the kernel normally sees to it) and wait until it is gone."""
    from agent.runner_process import start_ticks

    lock = folder / layout.RUNNER_LOCK_FILE
    if not locks.is_held(lock):
        return
    with contextlib.suppress(EdgematrixError, ValueError, KeyError, TypeError, OSError):
        told = json.loads(layout.read_file(folder / layout.RUNNER_PID_FILE, 4096) or b"{}")
        pid = int(told["pid"])
        if pid > 1 and start_ticks(pid) == told["start_ticks"]:
            os.killpg(pid, signal.SIGKILL)
    if not locks.wait_until_free(lock, _GONE_SECS):
        raise DeviceBusy(f"the runner of {folder.name} does not end", "see the device: a driver may hang; restart it")


def _supervisor_pid(folder: Path) -> Optional[int]:
    lock = folder / layout.SUPERVISOR_LOCK_FILE
    if not locks.is_held(lock):
        return None
    try:
        return int(layout.read_file(lock, 64) or b"")
    except (EdgematrixError, ValueError):
        return None


@contextlib.contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, error.filename or root) from error
