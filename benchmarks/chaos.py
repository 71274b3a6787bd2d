"""``python -m benchmarks.chaos --faults N --seed S``: break everything that can break while a matrix runs, and look what is left.

The lab is real: PostgreSQL (SQLite where it cannot be started), Redis, two schedulers, two gateways with two workers each, OpenSSH servers
with the agent's real runs. Faults are drawn by the seed; when they are over, every job must have ended once, no board may ever have been
held twice by its own record, nothing may be left, and runs that survived must have been picked up. Writes a dated summary; exit code 1
when anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from sqlmodel import col, func, select

from agent.errors import EdgematrixError
from agent.protocol import JOBS_FOLDER
from benchmarks.chaos_evidence import Found, held_by, judge, read_custody
from benchmarks.chaos_faults import PATIENCE_SECS, Chaos, Fault, Struck, draw_faults
from benchmarks.chaos_lab import Lab
from benchmarks.chaos_summary import ChaosRun, write
from benchmarks.plan import AGENT_PYTHON, DIGITS, REPOSITORY
from orchestrator.domain.states import LEASED_STATES, DeviceHealth, JobState
from orchestrator.service import devices, submission
from orchestrator.service.context import open_context
from orchestrator.store.database import read_session
from orchestrator.store.tables import Device, Job

BOARDS = 4
MAX_ATTEMPTS = 3
#: Four runs at once would fill more than the CPUs that this may use.
_CPUS = 2
_LOOK_SECS = 0.1
_COUNT_SECS = 1.0
#: Without a job finished for so long the matrix is stuck; the longest that anything may take is a lost link and a check after it.
_STUCK_SECS = 300.0
_CLEAN_SECS = 120.0
_START_SECS = 180.0
_OPERATOR_SECS = 20.0

_VARIANTS = {
    "onnx-fp32": ("onnx_fp32.onnx", "onnx", "fp32"),
    "onnx-u8s8": ("onnx_u8s8.onnx", "onnx", "w8a8"),
    "tflite-fp32": ("tflite_fp32.tflite", "tflite", "fp32"),
}

Say = Callable[[str], None]


@dataclass
class _Watched:
    """What was seen from outside while the matrix ran."""

    problems: list[str]
    looks: int = 0


def main() -> int:
    """Run the chaos that was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mean-pause", type=float, default=3.0, help="seconds between faults, on average")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    parser.add_argument("--keep", action="store_true", help="keep the lab's folder with its logs")
    asked = parser.parse_args()
    # Told to stop, it takes its lab down, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    now = datetime.now(UTC)
    folder = Path(tempfile.mkdtemp(prefix="edgematrix-chaos-"))
    run = None
    try:
        run = run_chaos(folder, asked.faults, asked.seed, asked.mean_pause, lambda line: print(line, flush=True))
        page = write(run, asked.output, now)
        print(page.read_text())
    finally:
        if asked.keep or run is None or run.problems:
            print(f"the lab's folder with all logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return int(bool(run.problems))


def run_chaos(folder: Path, count: int, seed: int, mean_pause_secs: float, say: Say) -> ChaosRun:
    """Run a matrix in a lab below ``folder`` while ``count`` faults befall it; return what was found."""
    python = Path(os.environ.get("EDGEMATRIX_AGENT_PYTHON") or AGENT_PYTHON)
    began = time.monotonic()
    with _few_cpus(), Lab(folder, BOARDS, python) as lab:
        matrix = _Matrix(lab, folder)
        watched = _Watched([])
        with _operator(lab):
            struck = _befall(lab, matrix, watched, draw_faults(count, seed, mean_pause_secs), say)
            say(f"{len(struck)} faults are over; waiting for the matrix to end")
            _drain(lab, watched)
        left = _left_behind(lab)
        found = _judge(lab, struck)
        problems = [*watched.problems, *left, *found.problems]
        if not found.picked_up:
            problems.append("no run was picked up: the faults have proved nothing")
        return ChaosRun(seed, lab.database, len(lab.boards), struck, found, watched.looks, time.monotonic() - began, problems)


# --- the matrix ------------------------------------------------------------------------------------------------


class _Matrix:
    """Keeps jobs waiting: a part of the matrix at a time, each a spec as a user would submit it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self._parts = 0

    def keep_full(self) -> None:
        """Submit the next part when a board has nothing to look forward to: for all when all have not, else for whichever is free."""
        with read_session(self._lab.context.engine) as session:
            waiting = set(session.execute(select(Job.device_id).where(col(Job.state) == JobState.SUBMITTED).distinct()).scalars())
        if None not in waiting and len(waiting) < len(self._lab.boards):
            self._parts += 1
            submission.submit(self._lab.context, self._spec(self._parts, for_all=not waiting))

    def _spec(self, part: int, for_all: bool) -> Path:
        # Every fourth part is one long run for each of its boards: long enough to live on under the next lease.
        is_long = part % 4 == 3
        secs = 25.0 if is_long else 4.0
        model = {
            "name": "digits",
            "task": {"kind": "classification", "scores": "logits"},
            "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x", "labels": "y"},
            "reference": "onnx-fp32",
            "variants": [
                {"name": name, "file": str(DIGITS / file), "runtime": runtime, "precision": precision}
                for name, (file, runtime, precision) in list(_VARIANTS.items())[: 1 if is_long else None]
            ],
        }
        latency = {"warmup_min_secs": 0.0, "warmup_runs": 1, "min_duration_secs": secs, "min_query_count": 1, "max_duration_secs": 120.0}
        content = {
            "format": 1,
            "name": f"chaos-{part}",
            "models": [model],
            "devices": [{"each": "all"} if for_all else {"any": "all", "count": 2}],
            "scenarios": {"accuracy": {}, "latency": latency},
            "limits": {"timeout_secs": 300, "max_attempts": MAX_ATTEMPTS, "orphan_after_secs": 300},
        }
        path = self._folder / f"chaos-{part}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path


# --- faults and what goes on meanwhile ----------------------------------------------------------------------------


def _befall(lab: Lab, matrix: _Matrix, watched: _Watched, faults: list[Fault], say: Say) -> list[Struck]:
    chaos = Chaos(lab)
    struck: list[Struck] = []
    try:
        if not _until(lab, watched, lambda: bool(lab.living_runs()), matrix.keep_full, _START_SECS):
            raise RuntimeError(f"no run has begun within {_START_SECS:g} s; {lab.last_words()}")
        for fault in faults:
            _until(lab, watched, lambda: False, _both(chaos.undo_due, matrix.keep_full), fault.pause_secs)
            done: list[Struck] = []

            def try_it(fault: Fault = fault, done: list[Struck] = done) -> bool:
                hit = chaos.strike(fault)
                done += [hit] if hit else []
                return bool(done)

            _until(lab, watched, try_it, _both(chaos.undo_due, matrix.keep_full), PATIENCE_SECS)
            if not done:
                done.append(Struck(fault.number, fault.kind, datetime.now(UTC).isoformat(timespec="milliseconds"), "nothing", hit=False))
            struck += done
            say(_line(done[0]))
        # What lasts gets its time: a worker is thawed after its lease, not before.
        _until(lab, watched, lambda: not chaos.pending, _both(chaos.undo_due, matrix.keep_full), 120.0)
    finally:
        chaos.undo_all()
    return struck


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        first()
        second()

    return act


def _until(lab: Lab, watched: _Watched, look: Callable[[], bool], act: Callable[[], None], timeout_secs: float) -> bool:
    """Keep the lab going until ``look`` says so; ``act`` is done about once a second."""
    deadline, act_at = time.monotonic() + timeout_secs, 0.0
    while True:
        lab.ensure()
        _watch_runners(lab, watched)
        now = time.monotonic()
        if now >= act_at:
            act_at = now + _COUNT_SECS
            act()
            _watch_leases(lab, watched)
        if look():
            return True
        if now >= deadline:
            return False
        time.sleep(max(0.0, min(_LOOK_SECS, deadline - now)))


def _watch_runners(lab: Lab, watched: _Watched) -> None:
    """Two runs' runners on one board, as the process table has them: what neither the agent nor the database can hide."""
    runs: dict[str, set[str]] = {}
    for living in lab.living_runs():
        runs.setdefault(living.board, set()).add(living.run)
    watched.looks += 1
    watched.problems += [f"{board} ran {' and '.join(sorted(own))} at once" for board, own in runs.items() if len(own) > 1]


def _watch_leases(lab: Lab, watched: _Watched) -> None:
    with read_session(lab.context.engine) as session:
        doubled = session.execute(
            select(Job.device_id, func.count())
            .where(col(Job.state).in_(LEASED_STATES))
            .group_by(col(Job.device_id))
            .having(func.count() > 1)
        ).all()
    watched.problems += [f"device {device_id} was under {count} jobs at once in the database" for device_id, count in doubled]


@contextmanager
def _operator(lab: Lab) -> Iterator[None]:
    """A person who checks what a check found bad, once its link is back, rather than wait five minutes for the next one."""
    over = threading.Event()

    def look_after() -> None:
        context = open_context(lab.settings)
        try:
            while not over.wait(_OPERATOR_SECS):
                with suppress(EdgematrixError):
                    with read_session(context.engine) as session:
                        bad = session.exec(select(Device.name).where(col(Device.health) == DeviceHealth.BAD)).all()
                    for name in bad:
                        if not lab.board(name).link.is_cut:
                            devices.check_device(context, name)
        finally:
            context.engine.dispose()

    thread = threading.Thread(target=look_after, name="operator")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# --- the end ---------------------------------------------------------------------------------------------------


def _drain(lab: Lab, watched: _Watched) -> None:
    """Wait until every job has ended and every lease is released; one in which nothing ends any more is left as it is."""
    last, since = -1, time.monotonic()
    while True:
        with read_session(lab.context.engine) as session:
            open_jobs = session.execute(select(func.count()).select_from(Job).where(col(Job.state) != JobState.FINISHED)).scalar_one()
            leases = session.execute(select(func.count()).select_from(Device).where(col(Device.lease_job_id).is_not(None))).scalar_one()
        left = int(open_jobs) + int(leases)
        if left == 0:
            return
        if left != last:
            last, since = left, time.monotonic()
        elif time.monotonic() - since > _STUCK_SECS:
            watched.problems.append(f"nothing ended for {_STUCK_SECS:g} s: {open_jobs} jobs open, {leases} leases held")
            return
        _until(lab, watched, lambda: False, lambda: None, _COUNT_SECS)


def _left_behind(lab: Lab) -> list[str]:
    """Processes and run folders that are still on the boards when everything has ended."""
    left: list[str] = []
    deadline = time.monotonic() + _CLEAN_SECS
    while time.monotonic() < deadline:
        lab.ensure()
        left = [f"left running: {line}" for line in lab.agent_processes()]
        for board in lab.boards:
            left += [
                f"left on {board.name}: {path.name} ({', '.join(sorted(inner.name for inner in path.iterdir()))})"
                for path in (board.root / JOBS_FOLDER).glob("*")
            ]
        if not left:
            break
        time.sleep(_LOOK_SECS * 5)
    return left


def _judge(lab: Lab, struck: list[Struck]) -> Found:
    held, problems = {}, []
    for board in lab.boards:
        held[board.name], wrong = held_by(read_custody(board.root), board.name)
        problems += wrong
    cut_off: dict[str, int] = {}
    for item in struck:
        for run in item.runs:
            cut_off[run] = cut_off.get(run, 0) + 1
    killed = [item.killed for item in struck if item.killed]
    with read_session(lab.context.engine) as session:
        found = judge(session, held, cut_off, killed, MAX_ATTEMPTS)
    found.problems[:0] = problems
    return found


def _line(item: Struck) -> str:
    lasting = f" for {item.secs:g} s" if item.secs else ""
    met = f"; at work there: {', '.join(item.runs)}" if item.runs else ""
    return f"{item.at_utc[11:23]} {item.number:3d} {item.kind}: {item.target}{lasting}{met}"


@contextmanager
def _few_cpus() -> Iterator[None]:
    """Everything that is started meanwhile shares these: what holds must not need a large computer."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-_CPUS:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    sys.exit(main())
