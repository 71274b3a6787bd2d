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


class RunFailed(Exception):
    """The agent did not complete a benchmark run; the message holds its outcome."""


class AgentRuns:
    """Runs requests in one environment, each in a folder of its own that is removed afterwards."""

    def __init__(self, python: Path, root: Path) -> None:
        self._python = python
        self._root = root
        self._package = build_agent_package(root / protocol.AGENTS_FOLDER)
        self._count = 0
        (root / protocol.CONTENT_FOLDER).mkdir(parents=True, exist_ok=True)

    def push(self, path: Path, content: protocol.ContentRef) -> None:
        """Put a file on the device under its digest."""
        shutil.copyfile(path, self._root / protocol.CONTENT_FOLDER / content.sha256)

    def latency(self, request: protocol.RunRequest) -> tuple[Measurement, protocol.RunOutcome]:
        """Run to the end; return the steady invoke times (median, mean, in ns) and the outcome. Raises :class:`RunFailed`."""
        self._count += 1
        request = dataclasses.replace(request, job_id=f"bench{self._count}")
        name = f"{request.job_id}.{request.attempt}"
        folder = self._root / protocol.JOBS_FOLDER / name
        folder.mkdir(parents=True)
        (folder / protocol.REQUEST_FILE).write_text(protocol.to_json(request), encoding="utf-8")
        self._command("start", name, "--root", str(self._root), "--fence", "1")
        outcome = self._outcome(folder)
        columns = read_spool(folder / f"{protocol.QUERIES}.spool").columns
        invoke_ns = columns["invoke_ns"][columns["phase"] == protocol.PHASES.index("steady")]
        self._command("clean", name, "--root", str(self._root), "--fence", "1")
        return {"median": float(np.median(invoke_ns)), "mean": float(np.mean(invoke_ns))}, outcome

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

    def _command(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run([str(self._python), str(self._package.path), *arguments], capture_output=True, text=True, check=False)
        reply: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"ok": False, "error": done.stderr}
        if not reply.get("ok"):
            raise RunFailed(f"{arguments[0]}: {reply.get('error')}")
        return reply
