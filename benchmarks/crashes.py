"""``python -m benchmarks.crashes``: kill edgematrix while it runs the demo, and count what is left.

Two proofs, with a seed. First, the worker's whole process group is killed with -9 at random moments of one run, which must finish by
itself. Then the command is killed; nothing but runs on the device may stay, and ``edgematrix resume`` must finish the experiment. After
both every job must have ended once, completed, with one result. Writes a dated summary; exit code 1 when anything is lost, doubled or left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import func
from sqlmodel import col, select

from benchmarks import summary
from benchmarks.homes import open_home
from benchmarks.plan import REPOSITORY
from orchestrator.store.database import read_session
from orchestrator.store.tables import Attempt, Job, MetricRow, Result

_COMMAND = (sys.executable, "-m", "orchestrator.cli")
_LIMIT_SECS = 600.0
_GONE_SECS = 15.0


@dataclass
class Proof:
    """What one proof found; ``problems`` is empty when it holds."""

    name: str
    kills: list[str] = field(default_factory=list)
    jobs: int = 0
    attempts: int = 0
    results: int = 0
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Run both proofs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spec", type=Path, default=REPOSITORY / "examples" / "digits.yaml")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="edgematrix-crashes-") as scratch:
        proofs = [
            kill_workers(Path(scratch) / "workers", asked.spec, asked.kills, rng),
            kill_command(Path(scratch) / "command", asked.spec, rng),
        ]
    path = _write(proofs, asked.seed, now, asked.output)
    print(path.read_text())
    return int(any(proof.problems for proof in proofs))


def kill_workers(home: Path, spec: Path, kills: int, rng: random.Random) -> Proof:
    """Kill the worker's process group at random moments of one run; the command restarts it, and the run must finish."""
    proof = Proof("worker's process group killed with -9")
    command = _start(home, "run", str(spec), "--no-report")
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(2.0, 10.0))
            worker = _wait_for_worker(home)
            if worker is None or command.poll() is not None:
                proof.problems.append("the run was over before all kills were done")
                break
            os.killpg(os.getpgid(worker.pid), signal.SIGKILL)
            proof.kills.append(f"{datetime.now(UTC):%H:%M:%S} worker {worker.pid}, {_finished(home)} jobs finished")
        code = command.wait(timeout=_LIMIT_SECS)
        if code != 0:
            proof.problems.append(f"the command ended with exit code {code}")
    finally:
        command.kill()
    return _count(home, proof)


def kill_command(home: Path, spec: Path, rng: random.Random) -> Proof:
    """Kill the command in the middle of a run, look at what stays, and resume."""
    proof = Proof("the command itself killed with -9, then resumed")
    command = _start(home, "run", str(spec), "--no-report")
    time.sleep(rng.uniform(8.0, 20.0))
    command.kill()
    command.wait()
    proof.kills.append(f"{datetime.now(UTC):%H:%M:%S} command {command.pid}, {_finished(home)} jobs finished")
    deadline = time.monotonic() + _GONE_SECS
    while (left := _left_behind(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    proof.problems += [f"left behind: {line}" for line in left]
    code = _start(home, "resume", "--no-report").wait(timeout=_LIMIT_SECS)
    if code != 0:
        proof.problems.append(f"resume ended with exit code {code}")
    return _count(home, proof)


def _start(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    variables = dict(os.environ, EDGEMATRIX_HOME=str(home))
    for name in ("EDGEMATRIX_REDIS_URL", "EDGEMATRIX_DATABASE_URL"):
        variables.pop(name, None)
    return subprocess.Popen([*_COMMAND, *arguments], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _processes(home: Path) -> list[psutil.Process]:
    """Every process that was started for this home: it stands in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("EDGEMATRIX_HOME") == str(home) or any(str(home) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _wait_for_worker(home: Path) -> psutil.Process | None:
    deadline = time.monotonic() + _GONE_SECS
    while time.monotonic() < deadline:
        for process in _processes(home):
            try:
                if process.cmdline()[1:4] == ["-m", "orchestrator.worker", "worker"]:
                    return process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        time.sleep(0.1)
    return None


def _left_behind(home: Path) -> list[str]:
    """What still runs for this home, other than the agent's runs on the device."""
    left = []
    for process in _processes(home):
        try:
            words = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if words and ".pyz" not in words:
            left.append(f"{process.pid} {words[:120]}")
    return left


def _finished(home: Path) -> int:
    context = open_home(home)
    try:
        with read_session(context.engine) as session:
            return int(session.execute(select(func.count()).select_from(Job).where(col(Job.state) == "finished")).scalar_one())
    finally:
        context.engine.dispose()


def _count(home: Path, proof: Proof) -> Proof:
    context = open_home(home)
    with read_session(context.engine) as session:
        jobs = session.exec(select(Job)).all()
        results = set(session.exec(select(Result.job_id)).all())
        measured = set(session.exec(select(MetricRow.job_id).distinct()).all())
        completed = session.execute(
            select(Attempt.job_id, func.count()).where(col(Attempt.status) == "completed").group_by(col(Attempt.job_id))
        ).all()
        proof.attempts = len(session.exec(select(Attempt.job_id)).all())
    context.engine.dispose()
    proof.jobs, proof.results = len(jobs), len(results)
    for job in jobs:
        if (job.state, job.outcome) != ("finished", "completed"):
            proof.problems.append(f"{job.id} ended as {job.state}, {job.outcome}")
        if job.id not in results or job.id not in measured:
            proof.problems.append(f"{job.id} has no result")
    proof.problems += [f"{job_id} was completed {count} times" for job_id, count in completed if count != 1]
    proof.problems += [f"left behind: {line}" for line in _left_behind(home)]
    if not jobs:
        proof.problems.append("nothing was submitted")
    return proof


def _write(proofs: list[Proof], seed: int, now: datetime, output: Path) -> Path:
    lines = [f"# Crashes, {now:%Y-%m-%d %H:%M} UTC", "", f"Seed {seed}, commit {summary.commit()}.", ""]
    for proof in proofs:
        verdict = "holds" if not proof.problems else "FAILS"
        lines += [f"## {proof.name}: {verdict}", ""]
        lines += [f"- {proof.jobs} jobs, {proof.attempts} attempts, {proof.results} results"]
        lines += [f"- killed {line}" for line in proof.kills]
        lines += [f"- problem: {problem}" for problem in proof.problems]
        lines.append("")
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{now:%Y%m%dT%H%M%SZ}-crashes.md"
    path.write_text("\n".join(lines))
    path.with_suffix(".json").write_text(json.dumps({"seed": seed, "proofs": [asdict(proof) for proof in proofs]}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
