"""The whole system as a user has it: the command line as a process, a home folder of its own, and what lives in it.

Nothing here reaches into the program: tests start commands, read the database and the folders that they leave, and send signals.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = REPOSITORY / "examples" / "digits"
AGENT_PYTHON = Path(os.environ.get("EDGEMATRIX_AGENT_PYTHON") or Path(sys.prefix).parent / ".venvs" / "agent" / "bin" / "python")
DEVICE = "this-computer"
#: Every wait ends when what it waits for is there; this only says when to give up on a crowded machine.
DEADLINE_SECS = 120.0

Found = TypeVar("Found")


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class JobRow:
    """What SQL says of one job."""

    id: str
    variant: str
    scenario: str
    state: str
    outcome: str | None
    error: dict[str, Any] | None
    attempts: int
    results: int


class Command:
    """One ``edgematrix`` command that runs in a session of its own, as under a terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal sends SIGINT to the foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """``kill -9`` of the command alone."""
        self._process.kill()

    def end(self, deadline_secs: float = DEADLINE_SECS) -> Ended:
        stdout, stderr = self._process.communicate(timeout=deadline_secs)
        return Ended(self._process.returncode, stdout, stderr)


class Home:
    """A home folder and the specs beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "home"
        self.specs = folder
        self.commands: list[Command] = []

    @property
    def root(self) -> Path:
        """The folder of this computer as a device."""
        return self.path / "devices" / DEVICE

    def start(self, *arguments: str | Path, **variables: str) -> Command:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
        environment |= {"EDGEMATRIX_HOME": str(self.path), "EDGEMATRIX_AGENT_PYTHON": str(AGENT_PYTHON), "NO_COLOR": "1"} | variables
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.specs,
            env=environment | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
        command = Command(process)
        self.commands.append(command)
        return command

    def run(self, *arguments: str | Path, **variables: str) -> Ended:
        return self.start(*arguments, **variables).end()

    def run_spec(self, spec: Path, **variables: str) -> Ended:
        return self.run("run", spec, "--no-report", **variables)

    def start_spec(self, spec: Path, **variables: str) -> Command:
        return self.start("run", spec, "--no-report", **variables)

    # --- what is true ------------------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the database, as another process; nothing while there is none."""
        path = self.path / "edgematrix.sqlite"
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the command is still making them
                return []
            raise

    def jobs(self) -> list[JobRow]:
        rows = self.query(
            "SELECT id, variant, scenario, state, outcome, error, attempts, (SELECT count(*) FROM result WHERE job_id = job.id)"
            " FROM job ORDER BY id"
        )
        return [JobRow(*row[:5], json.loads(row[5]) if row[5] else None, *row[6:]) for row in rows]

    def job(self, variant: str, scenario: str = "accuracy") -> JobRow:
        (found,) = [job for job in self.jobs() if (job.variant, job.scenario) == (variant, scenario)]
        return found

    def attempt_errors(self) -> list[str]:
        """The codes of the errors of every attempt, in order."""
        rows = self.query("SELECT error FROM attempt WHERE error IS NOT NULL ORDER BY job_id, number")
        return [json.loads(row[0])["code"] for row in rows]

    def metric(self, job: JobRow, name: str) -> float | None:
        rows = self.query("SELECT value FROM metric WHERE job_id = ? AND name = ?", job.id, name)
        return rows[0][0] if rows else None

    def health(self) -> tuple[str, str]:
        ((health, why),) = self.query("SELECT health, health_reason FROM device WHERE name = ?", DEVICE)
        return str(health), str(why)

    def processes(self) -> dict[int, str]:
        """Every living process that works for this home: by its variables, or by the folder on its command line."""
        mark = str(self.path).encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    command, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                except OSError:  # gone meanwhile
                    continue
                if mark in command or mark in variables:
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def process(self, words: str) -> int:
        """The number of the one process whose command line holds ``words``, once there is one."""
        return self.wait_for(lambda: next((pid for pid, command in self.processes().items() if words in command), None))

    def family(self, pid: int) -> list[int]:
        """The children of a process."""
        children = []
        for number in self.processes():
            with suppress(OSError):
                if int(Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[1]) == pid:
                    children.append(number)
        return children

    def send(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)

    def run_folder(self) -> Path | None:
        """The folder of the run whose runner is at work, if there is one."""
        folders = [path.parent for path in self.root.glob("jobs/*/runner_pid.json") if not (path.parent / "outcome.json").exists()]
        return next(iter(sorted(folders)), None)

    def runner_pid(self, folder: Path) -> int:
        return int(json.loads((folder / "runner_pid.json").read_text())["pid"])

    def supervisor_pid(self, folder: Path) -> int:
        return int((folder / "supervisor.lock").read_text())

    def lives(self, folder: Path) -> bool:
        """Whether the supervisor of a run lives."""
        try:
            return self.supervisor_pid(folder) in self.processes()
        except (OSError, ValueError):
            return False

    # --- waiting -------------------------------------------------------------------------------------------------

    def wait_for(self, look: Callable[[], Found | None], why: str = "") -> Found:
        """Look until there is something; fail with the commands' state when it does not come."""
        end = time.monotonic() + DEADLINE_SECS
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(0.02)
        raise AssertionError(f"did not happen: {why or look}; jobs: {self.jobs()}; living: {self.processes()}")

    def wait_for_measuring(self, attempt: int = 1, number: int | None = None) -> Path:
        """Wait until an attempt (of the job with that number) is past its start and noted as running; return its folder."""
        ending = f".{attempt}" if number is None else f"-{number:06d}.{attempt}"

        def measuring() -> Path | None:
            if not any(command.running for command in self.commands):
                raise AssertionError(f"the command is over before there was a run: {self.commands[-1].end()}")
            folder = self.run_folder()
            running = self.query("SELECT 1 FROM job WHERE state = 'running'")
            if folder is not None and running and folder.name.endswith(ending) and (folder / "queries.spool").exists():
                return folder
            return None

        return self.wait_for(measuring, "a run at work")

    # --- what must hold after every fault --------------------------------------------------------------------------

    def assert_nothing_runs(self) -> None:
        """Nothing lives that works for this home. A device's run may still be in its last act, hence the wait."""
        self.wait_for(lambda: True if not self.processes() else None, "every process of the home gone")

    def assert_each_job_ended_once(self) -> None:
        """Every job is finished with an outcome; the completed ones alone have a result, and one; no attempt, no device is left open."""
        jobs = self.jobs()
        assert jobs
        for job in jobs:
            assert job.state == "finished", job
            assert job.outcome is not None, job
            assert job.results == (1 if job.outcome == "completed" else 0), job
        endings = self.query("SELECT subject_id, count(*) FROM state_change WHERE subject = 'job' AND new = 'finished' GROUP BY subject_id")
        assert [row for row in endings if row[1] != 1] == []
        assert self.query("SELECT job_id, number FROM attempt WHERE ended_at IS NULL") == []
        assert self.query("SELECT name FROM device WHERE lease_job_id IS NOT NULL") == []

    def assert_all_completed(self) -> None:
        self.assert_each_job_ended_once()
        assert {job.outcome for job in self.jobs()} == {"completed"}, self.jobs()

    def kill_leftovers(self) -> None:
        """After a failed test: end what it left, command by command and process by process."""
        for command in self.commands:
            if command.running:
                command.kill()
            command.end()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def variant(name: str, file: Path | str, runtime: str | None = None, **more: Any) -> dict[str, Any]:
    """One variant of a spec; its runtime by the file's name."""
    known = runtime or ("tflite" if str(file).endswith(".tflite") else "onnx")
    return {"name": name, "file": str(file), "runtime": known, "precision": "fp32"} | more


def write_spec(folder: Path, variants: Sequence[Mapping[str, Any]], name: str = "faults", **changes: Any) -> Path:
    """Write a spec over the digits: one accuracy run per variant unless ``scenarios`` says otherwise."""
    model = {
        "name": "digits",
        "task": {"kind": "classification", "scores": "logits"},
        "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x", "labels": "y"},
        "reference": variants[0]["name"],
        "variants": [dict(item) for item in variants],
    }
    model |= changes.pop("model", {})
    content = {
        "format": 1,
        "name": name,
        "models": [model],
        "scenarios": {"accuracy": {}},
        "limits": {"timeout_secs": 60, "max_attempts": 3},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path


def measured_for(seconds: float) -> dict[str, Any]:
    """The scenarios of one latency run that takes this long."""
    latency = {"warmup_min_secs": 0.0, "warmup_runs": 1, "min_duration_secs": seconds, "min_query_count": 1}
    return {"latency": latency | {"max_duration_secs": max(seconds, 60.0)}}


GOOD = variant("good", DIGITS / "onnx_fp32.onnx")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process still, as a machine under load does."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
