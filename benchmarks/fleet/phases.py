"""The three phases of the fleet benchmark, each a dictionary of what was found."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sqlalchemy import func, text
from sqlmodel import col, select

from benchmarks.fleet.recording import record
from benchmarks.fleet.stack import Stack
from benchmarks.fleet.wire import NAME, SimulatedTransport
from benchmarks.plan import REPOSITORY
from orchestrator.domain.plan import Plan
from orchestrator.service.context import Context, open_context
from orchestrator.service.experiments import cancel
from orchestrator.service.submission import submit
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Attempt, Device, Environment, Experiment, Job, Result
from orchestrator.worker.settings import Settings

_RUNTIMES: dict[str, Any] = {"runtimes": {name: {"available": True, "version": "0"} for name in ("onnx", "tflite")}}
_VARIANTS = ("onnx-fp32", "onnx-u8s8", "onnx-u8u8", "onnx-s8s8")
_HOUR_SECS = 3600.0
_LIMIT_SECS = 3600.0
_POLL_SECS = 2.0


@dataclass
class Fleet:
    """The stack, its devices and the person who submits."""

    folder: Path
    device_count: int
    gateway_count: int
    worker_count: int
    seed: int

    def __post_init__(self) -> None:
        self._stack = Stack(self.folder, tuple(f"gateway-{number + 1}" for number in range(self.gateway_count)), self.worker_count)
        self._context: Context | None = None
        self._experiment = ""
        self._world: SimulatedTransport | None = None

    # --- set up -------------------------------------------------------------------------------------------------

    def start(self, run_secs: float, jobs: int) -> None:
        """Register the devices, submit the matrix, record a real run of each of its cells; then start the control plane."""
        self._stack.start_servers()
        variables = self._stack.variables
        context = self._context = open_context(
            Settings(
                home=Path(variables["EDGEMATRIX_HOME"]),
                database_url=variables["EDGEMATRIX_DATABASE_URL"],
                redis_url=variables["EDGEMATRIX_REDIS_URL"],
                artifacts_url=variables["EDGEMATRIX_ARTIFACTS_URL"],
            )
        )
        socket = self.folder / "world.sock"
        self._register(context, socket)
        began = time.monotonic()
        self._experiment = self._submit("matrix", run_secs, repeats=jobs // self.device_count // len(_VARIANTS) - 1)
        self._submit_secs = time.monotonic() - began
        python = REPOSITORY / ".venvs" / "agent" / "bin" / "python"
        with read_session(context.engine) as session:
            plan = Plan.model_validate(session.get_one(Experiment, self._experiment).plan)
        recordings = self.folder / "recordings.json"
        recordings.write_text(json.dumps(record(plan, context.artifacts, python, self.folder / "recording")))
        self._stack.start_world(recordings, self.seed)
        self._world = SimulatedTransport({"socket": str(socket), "device": ""})
        self._stack.start_control_plane()

    def stop(self) -> None:
        self._stack.stop()

    def _register(self, context: Context, socket: Path) -> None:
        with open_session(context.engine) as session:
            for number in range(self.device_count):
                name = f"sim-{number + 1:04d}"
                device = Device(
                    name=name,
                    profile="linux-x86_64",
                    gateway=self._stack.gateways[number % self.gateway_count],
                    transport=NAME,
                    address={"socket": str(socket), "device": name},
                    root="/sim",
                    labels={},
                    emulated="environment",
                    health="good",
                    facts={"machine": "x86_64"},
                    added_at=time.time(),
                    next_check_at=time.time() + 7 * 86400.0,
                )
                session.add(device)
                session.flush()
                assert device.id is not None
                session.add(
                    Environment(device_id=device.id, name="default", interpreter=["python3"], digest="0", facts=_RUNTIMES, checked_at=0.0)
                )

    def _submit(self, name: str, run_secs: float, repeats: int, variants: tuple[str, ...] = _VARIANTS, accuracy: bool = True) -> str:
        assert self._context is not None
        spec = yaml.safe_load((REPOSITORY / "examples" / "digits.yaml").read_text())
        (model,) = spec["models"]
        model["dataset"]["file"] = str(REPOSITORY / "examples" / model["dataset"]["file"])
        model["variants"] = [variant for variant in model["variants"] if variant["name"] in variants]
        for variant in model["variants"]:
            variant["file"] = str(REPOSITORY / "examples" / variant["file"])
        load = {"min_duration_secs": run_secs, "max_duration_secs": 2 * run_secs}
        spec["name"] = name
        spec["scenarios"] = {"latency": load | {"repeats": repeats}} | ({"accuracy": {"repeats": 1}} if accuracy else {})
        spec["limits"] = {"timeout_secs": 3 * _HOUR_SECS, "max_attempts": 3}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return submit(self._context, path).experiment_id

    # --- phases ---------------------------------------------------------------------------------------------------

    def matrix(self) -> dict[str, Any]:
        """Take the large matrix to its end."""
        before, began = self._load(), time.monotonic()
        busiest: dict[str, int] = {}
        finished_at: list[tuple[float, int]] = []
        while time.monotonic() - began < _LIMIT_SECS:
            done = self._finished(self._experiment)
            finished_at.append((time.monotonic() - began, done))
            busiest = {name: max(busiest.get(name, 0), size) for name, size in self._stack.resident_bytes().items()}
            if done == self._jobs(self._experiment) and self._held() == 0:
                break
            time.sleep(_POLL_SECS)
        took = time.monotonic() - began
        told = self._ask("report")
        found = self._census(self._experiment) | {"took_secs": took, "submit_secs": self._submit_secs}
        found |= {"jobs_per_sec": found["jobs"] / took, "jobs_per_day": round(86400 * found["jobs"] / took)}
        found |= {"steady_jobs_per_sec": _steady_rate(finished_at), "overlaps": told["overlaps"], "device_operations": told["operations"]}
        found["free_to_spoken_secs"] = _spread([gap[0] for gap in told["gaps"]])
        found["free_to_started_secs"] = _spread([gap[1] for gap in told["gaps"]])
        found["end_to_collected_secs"] = _spread(told["seen"]["end_to_collected"])
        return found | {"cost": _difference(before, self._load(), took), "peak_memory_bytes": busiest} | self._size(found["jobs"])

    def long_runs(self, steady_secs: float) -> dict[str, Any]:
        """Start an hour-long run on every device, watch what that costs, and cancel them all."""
        assert self._context is not None
        experiment = self._submit("long", _HOUR_SECS, 1, variants=("onnx-fp32",), accuracy=False)
        began = time.monotonic()
        self._until(lambda: self._running(experiment) == self.device_count)
        all_running_secs = time.monotonic() - began
        # The first looks come sooner; what is asked is the cost of runs in progress.
        time.sleep(40.0)
        before, began = self._load(), time.monotonic()
        time.sleep(steady_secs)
        took = time.monotonic() - began
        cost = _difference(before, self._load(), took)
        began = time.monotonic()
        cancel(self._context, experiment)
        self._until(lambda: self._held() == 0)
        found = self._census(experiment) | {"all_running_secs": all_running_secs, "watched_secs": took, "cost": cost}
        return found | {"all_canceled_secs": time.monotonic() - began, "overlaps": self._ask("report")["overlaps"]}

    def killed_gateway(self, run_secs: float) -> dict[str, Any]:
        """Kill a gateway's workers in the middle of a matrix, restart them as systemd would, and see when its jobs are driven again."""
        experiment = self._submit("killed", run_secs, 2, variants=("onnx-fp32",), accuracy=False)
        self._until(lambda: self._finished(experiment) > self.device_count // 2)
        gateway = self._stack.gateways[0]
        with read_session(self._engine) as session:
            held = set(session.exec(select(Device.name).where(col(Device.gateway) == gateway, col(Device.lease_job_id).is_not(None))).all())
        self._ask("mark")
        workers = self._stack.workers_of(gateway)
        for name in workers:
            self._stack.servers[name].kill()
        time.sleep(1.0)
        for name in workers:
            self._stack.restart(name)
        self._until(lambda: self._finished(experiment) == self._jobs(experiment) and self._held() == 0)
        first = self._ask("report")["first"]
        found = self._census(experiment) | {"overlaps": self._ask("report")["overlaps"], "held": len(held)}
        return found | {"driven_again_secs": _spread([first[name] for name in held if name in first]), "silent": len(held - set(first))}

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Any:
        assert self._context is not None
        return self._context.engine

    def _ask(self, operation: str) -> dict[str, Any]:
        assert self._world is not None
        return self._world.ask({"op": operation})[0]

    def _until(self, holds: Any) -> None:
        deadline = time.monotonic() + _LIMIT_SECS
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError("the fleet stands still; see the logs in its folder")
            time.sleep(0.5)

    def _count(self, *where: Any) -> int:
        with read_session(self._engine) as session:
            return int(session.execute(select(func.count()).select_from(Job).where(*where)).scalar_one())

    def _jobs(self, experiment: str) -> int:
        return self._count(col(Job.experiment_id) == experiment)

    def _finished(self, experiment: str) -> int:
        return self._count(col(Job.experiment_id) == experiment, col(Job.state) == "finished")

    def _running(self, experiment: str) -> int:
        return self._count(col(Job.experiment_id) == experiment, col(Job.state) == "running")

    def _held(self) -> int:
        with read_session(self._engine) as session:
            return int(session.execute(select(func.count()).select_from(Device).where(col(Device.lease_job_id).is_not(None))).scalar_one())

    def _census(self, experiment: str) -> dict[str, Any]:
        mine = col(Job.experiment_id) == experiment
        with read_session(self._engine) as session:
            outcomes = session.execute(select(Job.outcome, func.count()).where(mine).group_by(col(Job.outcome))).all()
            attempts = session.execute(select(func.count()).select_from(Attempt).join(Job).where(mine)).scalar_one()
            results = session.execute(select(func.count()).select_from(Result).join(Job).where(mine)).scalar_one()
        return {
            "jobs": self._jobs(experiment),
            "outcomes": {str(outcome): int(count) for outcome, count in outcomes},
            "attempts": int(attempts),
            "results": int(results),
        }

    def _size(self, jobs: int) -> dict[str, float]:
        """What a job leaves in the database, indexes and all."""
        with read_session(self._engine) as session:
            size = session.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
            rows = session.execute(text("SELECT sum(n_live_tup) FROM pg_stat_user_tables")).scalar_one()
        return {"database_bytes_per_job": float(size) / jobs, "rows_per_job": float(rows) / jobs}

    def _load(self) -> dict[str, Any]:
        """Running totals: CPU seconds of each process, what the database and Redis have done."""
        with read_session(self._engine) as session:
            row = session.execute(
                text(
                    "SELECT xact_commit, tup_fetched, tup_inserted + tup_updated + tup_deleted"
                    " FROM pg_stat_database WHERE datname = current_database()"
                )
            ).one()
        told = self._redis("info", "stats", "memory")
        return {
            "cpu_secs": self._stack.cpu_secs(),
            "transactions": int(row[0]),
            "rows_read": int(row[1]),
            "rows_written": int(row[2]),
            "redis_commands": int(told["total_commands_processed"]),
            "redis_peak_bytes": int(told["used_memory_peak"]),
        }

    def _redis(self, *words: str) -> dict[str, str]:
        socket = self._stack.variables["EDGEMATRIX_REDIS_URL"].removeprefix("redis+socket://")
        answer = subprocess.run(["redis-cli", "-s", socket, *words[:1]], capture_output=True, text=True, check=True).stdout
        return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)


def _difference(before: dict[str, Any], after: dict[str, Any], secs: float) -> dict[str, Any]:
    cores = {name: (after["cpu_secs"][name] - before["cpu_secs"].get(name, 0.0)) / secs for name in after["cpu_secs"]}
    rates = {
        f"{name}_per_sec": (after[name] - before[name]) / secs for name in ("transactions", "rows_read", "rows_written", "redis_commands")
    }
    return {"cores": cores, "cores_together": sum(cores.values()), "redis_peak_bytes": after["redis_peak_bytes"], **rates}


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    p50, p95, p99 = (float(value) for value in np.percentile(values, [50, 95, 99]))
    return {"count": len(values), "p50": p50, "p95": p95, "p99": p99, "max": float(max(values))}


def _steady_rate(finished_at: list[tuple[float, int]]) -> float:
    """Jobs per second between a tenth and nine tenths of all jobs: without the first and the last wave."""
    total = finished_at[-1][1]
    inner = [(at, count) for at, count in finished_at if 0.1 * total <= count <= 0.9 * total]
    return (inner[-1][1] - inner[0][1]) / (inner[-1][0] - inner[0][0]) if len(inner) > 1 else float("nan")
