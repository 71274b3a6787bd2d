"""Whole runs of the real agent on this computer: zipapp, supervisor and runner, as on any device."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent import protocol
from agent.spool import read_spool
from benchmarks.pairs import Measurement
from orchestrator.dispatch.agent_package import build_agent_package

#: Seldom enough not to disturb what runs.
_POLL_SECS = 0.2
_DEADLINE_SECS = 300.0
_WINDOW_NS = 500_000_000


class RunFailed(Exception):
    """The agent did not complete a benchmark run; the message holds its outcome."""


class AgentRuns:
    """Runs requests in one environment, each in a folder of its own that is removed afterwards. ``sys`` stands for the board's sysfs."""

    def __init__(self, python: Path, root: Path, sys: Path | None = None) -> None:
        self._python = python
        self._sys = sys
        self._root = root
        self._package = build_agent_package(root / protocol.AGENTS_FOLDER)
        self._count = 0
        (root / protocol.CONTENT_FOLDER).mkdir(parents=True, exist_ok=True)

    def push(self, path: Path, content: protocol.ContentRef) -> None:
        """Put a file on the device under its digest."""
        shutil.copyfile(path, self._root / protocol.CONTENT_FOLDER / content.sha256)

    def latency(self, request: protocol.RunRequest) -> tuple[Measurement, protocol.RunOutcome]:
        """Run to the end; return the steady invoke times (median, mean, median of the windows' means, in ns) and the outcome.

        Raises :class:`RunFailed`.
        """
        self._count += 1
        request = dataclasses.replace(request, job_id=f"bench{self._count}")
        name = f"{request.job_id}.{request.attempt}"
        folder = self._root / protocol.JOBS_FOLDER / name
        folder.mkdir(parents=True)
        (folder / protocol.REQUEST_FILE).write_text(protocol.to_json(request), encoding="utf-8")
        if self._sys is None:
            self._agent("start", name, "--root", str(self._root), "--fence", "1")
        else:
            program = str(Path(__file__).with_name("board_start.py"))
            self._command([program, str(self._package.path), str(self._root), name, str(self._sys)])
        outcome = self._outcome(folder)
        columns = read_spool(folder / f"{protocol.QUERIES}.spool").columns
        steady = columns["phase"] == protocol.PHASES.index("steady")
        invoke_ns = columns["invoke_ns"][steady]
        windowed = windowed_mean(columns["start_ns"][steady], invoke_ns)
        self._agent("clean", name, "--root", str(self._root), "--fence", "1")
        return {"median": float(np.median(invoke_ns)), "mean": float(np.mean(invoke_ns)), "windowed mean": windowed}, outcome

    def _outcome(self, folder: Path) -> protocol.RunOutcome:
        deadline = time.monotonic() + _DEADLINE_SECS
        path = folder / protocol.OUTCOME_FILE
        while not path.exists():
            if time.monotonic() > deadline:
                raise RunFailed(f"{folder.name} has no outcome after {_DEADLINE_SECS:g} s")
            time.sleep(_POLL_SECS)
        outcome = protocol.from_json(protocol.RunOutcome, path.read_text(encoding="utf-8"))
        if outcome.status != "completed":
            raise RunFailed(f"{folder.name} ended as {outcome.status}: {outcome.error}")
        return outcome

    def _agent(self, *arguments: str) -> None:
        self._command([str(self._package.path), *arguments])

    def _command(self, arguments: list[str]) -> None:
        done = subprocess.run([str(self._python), *arguments], capture_output=True, text=True, check=False)
        reply: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"ok": False, "error": done.stderr}
        if not reply.get("ok"):
            raise RunFailed(f"{' '.join(arguments)}: {reply.get('error')}")


def windowed_mean(start_ns: np.ndarray, invoke_ns: np.ndarray) -> float:
    """Return the median over windows of half a second of the mean invoke time in each, in ns; the last, partial window is left out.

    A window holds several rounds of sampling, so what those do to a query is in every mean; what the rest of the machine does now and then
    is in a few windows alone.
    """
    window = (start_ns - start_ns[0]) // _WINDOW_NS
    means = [invoke_ns[window == number].mean() for number in range(int(window[-1]))]
    return float(np.median(means if means else [invoke_ns.mean()]))
