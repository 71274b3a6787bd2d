"""Runs under a real supervisor whose runner is a stand-in, for the tests of what a supervisor does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent import device as commands
from agent import layout, protocol
from agent.protocol import RunOutcome
from agent.spool import read_spool

HERE = Path(__file__).parent
DEADLINE_SECS = 60.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECS
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECS:g} s: {what}")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Runs:
    """Runs on one device whose runner is a stand-in."""

    def __init__(self, device: Any) -> None:
        self.device, self.root = device, device.root
        self.started: list[Path] = []
        #: Where the supervisor finds sysfs.
        self.sys = Path("/sys")

    def push(self, **changes: Any) -> Path:
        name = f"{changes.setdefault('job_id', 'job')}.{changes.setdefault('attempt', 1)}"
        folder: Path = self.device.job(b"a model", np.zeros((2, 3), np.float32), name=name, **changes)
        return folder

    def start(self, folder: Path, behaviour: str, fence: int = 1) -> dict[str, Any]:
        self.started.append(folder)
        runner = [sys.executable, str(HERE / "stand_in_runner.py"), behaviour]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
        command = [sys.executable, str(HERE / "start_with.py"), str(self.root), folder.name, str(fence), str(self.sys), *runner]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECS)
        assert ended.stdout, ended.stderr
        reply: dict[str, Any] = json.loads(ended.stdout)
        return reply

    def outcome(self, behaviour: str, **changes: Any) -> RunOutcome:
        folder = self.push(**changes)
        assert self.start(folder, behaviour)["ok"]
        return self.end(folder)

    def end(self, folder: Path) -> RunOutcome:
        path = folder / protocol.OUTCOME_FILE
        wait_for(path.exists, f"the outcome of {folder.name}; its log: {self.log(folder)}")
        return protocol.from_json(RunOutcome, path.read_text())

    def log(self, folder: Path) -> str:
        path = folder / layout.SUPERVISOR_LOG_FILE
        return path.read_text() if path.exists() else "(none)"

    def supervisor(self, folder: Path) -> int:
        return int(wait_for(lambda: (folder / layout.SUPERVISOR_LOCK_FILE).read_text(), "the supervisor's number"))

    def runner(self, folder: Path) -> int:
        path = folder / layout.RUNNER_PID_FILE
        wait_for(path.exists, f"the runner of {folder.name}; its log: {self.log(folder)}")
        return int(json.loads(path.read_text())["pid"])

    def hanging(self, **changes: Any) -> Path:
        folder = self.push(**changes)
        assert self.start(folder, "hangs")["ok"]
        wait_for((folder / "hanging").exists, f"the stand-in; log: {self.log(folder)}")
        return folder

    def end_all(self) -> None:
        for folder in self.started:
            for run in commands.ps(self.root)["runs"]:
                if run["name"] == folder.name and run["supervisor_pid"]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(run["supervisor_pid"], signal.SIGKILL)

    def status(self, folder: Path) -> protocol.RunStatus:
        return protocol.RunStatus(**commands.status(self.root, folder.name, 1)["status"])

    def state(self, folder: Path) -> str:
        return str({run["name"]: run for run in commands.ps(self.root)["runs"]}[folder.name]["status"]["state"])


def code(outcome: RunOutcome) -> Any:
    return outcome.error["code"] if outcome.error else None


def events(folder: Path) -> dict[str, float]:
    return dict(all_events(folder))


def all_events(folder: Path) -> list[tuple[str, float]]:
    columns = read_spool(folder / f"{protocol.EVENTS}.spool", protocol.EVENTS).columns
    return [(protocol.EVENT_CODES[number], float(value)) for number, value in zip(columns["code"], columns["value"])]  # noqa: B905 (Python 3.9 has no strict)
