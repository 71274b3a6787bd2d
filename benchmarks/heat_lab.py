"""The lab that the evidence on heat is measured in: devices with a plant, each on a core of its own, and everything else on the first."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.homes import open_home
from benchmarks.plan import DIGITS, HEAVY_MODEL, REPOSITORY
from deploy.lab import Lab, load_definition
from deploy.lab.plant_lifecycle import PlantProcess
from orchestrator.service.context import Context
from orchestrator.worker.embedded import EmbeddedStack
from orchestrator.worker.settings import Settings

LIGHT, TWIN, HEAVY, FAN, FAULTY = "heat-light", "heat-twin", "heat-heavy", "heat-fan", "heat-faulty"
AMBIENT_C, OTHER_AMBIENT_C = 25.0, 31.0
FAULTY_ABOVE_C = 75.0
#: Of the heavy model's device: its invocation must span several.
QUOTA_PERIOD_MS = 10.0
#: Of the others, the kernel's own default. A small model that stands still every 10 ms loses its caches each time: between a fifth and a
#: third of its speed, and how much differs from one run to the next.
LONG_QUOTA_PERIOD_MS = 100.0
_TRIPS = [{"at_c": 88.0, "hysteresis_c": 8.0, "clock_ratio": 0.7}, {"at_c": 98.0, "hysteresis_c": 4.0, "clock_ratio": 0.5}]
_FAN = [
    {"at_c": 60.0, "hysteresis_c": 5.0, "board_c_per_watt": 6.0, "rpm": 2500},
    {"at_c": 70.0, "hysteresis_c": 5.0, "board_c_per_watt": 4.0, "rpm": 5000},
]
_UP_SECS = 1200.0
_LOCK = Path("/run/edgematrix-heat-evidence.lock")


@dataclass(frozen=True)
class Pace:
    """How long things take: in earnest, or ten times as fast. Seconds."""

    name: str
    die_tau_secs: float
    board_tau_secs: float
    duration_secs: float
    window_secs: float
    idle_secs: float
    cooldown_secs: float
    probe_secs: float
    telemetry_hz: float

    @property
    def run_limit_secs(self) -> float:
        return 3 * (self.duration_secs + self.idle_secs + self.cooldown_secs) + 300


EARNEST = Pace("the constants of a board", 2.0, 60.0, 300.0, 10.0, 10.0, 20.0, 10.0, 10.0)
QUICK = Pace("constants a tenth of a board's", 0.2, 6.0, 30.0, 2.0, 3.0, 8.0, 2.0, 20.0)


class HeatLab:
    """Use as a context manager. Commands run side by side in threads; :meth:`wait` keeps the stack of the home alive meanwhile."""

    def __init__(self, folder: Path, pace: Pace, agent_python: Path) -> None:
        self.pace = pace
        self.folder = folder
        self.home = folder / "home"
        self._agent_python = agent_python
        self._file = folder / "heat-evidence.yaml"
        cores = sorted(os.sched_getaffinity(0))
        self.own_core = cores[0]
        others = cores[1:] or cores
        # No two that share a core work at the same time.
        places = {LIGHT: 0, HEAVY: 1, FAULTY: 1, FAN: 2, TWIN: 2}
        self.cores = {name: others[number % len(others)] for name, number in places.items()}
        self._file.write_text(yaml.safe_dump(self._definition()), encoding="utf-8")
        self._lab = Lab(load_definition(self._file))
        self.side_by_side = 3 if len(others) >= 3 else 1
        self._pool = ThreadPoolExecutor(max_workers=self.side_by_side)
        self._running: set[subprocess.Popen[str]] = set()
        self._stack: EmbeddedStack | None = None
        self.context: Context = open_home(self.home)

    def __enter__(self) -> HeatLab:
        # Its devices have names and addresses of their own on this machine: a second run would take them from the first.
        self._lock = _LOCK.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise RuntimeError("another run of this evidence is at work on this machine: wait for its end") from error
        try:
            self.command("lab", "up", "--devices", self._file, limit_secs=_UP_SECS)
            os.sched_setaffinity(0, {self.own_core})
            for name in self.cores:
                chamber = f"{REPOSITORY / '.venv' / 'bin' / 'edgematrix'} lab plant {name} --rest --ambient {{celsius}}"
                self.command("device", "surroundings", name, "--chamber", chamber)
            self._stack = EmbeddedStack(Settings(home=self.home, database_url=None, artifacts_url=None, redis_url=None))
            self._stack.ensure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        if self._stack is not None:
            self._stack.stop()
        for process in tuple(self._running):
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        self.command("lab", "down", "--purge", "--devices", self._file)
        self.context.engine.dispose()
        self._lock.close()

    def plant(self, device: str) -> PlantProcess:
        return self._lab[device].plant

    def command(self, *words: str | Path, limit_secs: float = 120.0, codes: Sequence[int] = (0,)) -> str:
        """Run an edgematrix command and return what it printed. Raises RuntimeError when it ends with another code."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
        environment |= {"EDGEMATRIX_HOME": str(self.home), "EDGEMATRIX_AGENT_PYTHON": str(self._agent_python), "NO_COLOR": "1"}
        with subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *map(str, words)],
            cwd=self.folder, env=environment | {"PYTHONPATH": str(REPOSITORY)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            self._running.add(process)
            try:
                stdout, stderr = process.communicate(timeout=limit_secs)
            finally:
                self._running.discard(process)
                process.kill()
        if process.returncode not in codes:
            raise RuntimeError(f"edgematrix {' '.join(map(str, words))} ended with {process.returncode}: {stderr[-2000:]}{stdout[-3000:]}")
        return stdout

    def begin(self, work: Callable[[], Any]) -> Future[Any]:
        """Start something that waits for commands, beside everything else."""
        return self._pool.submit(work)

    def wait(self, begun: Sequence[Future[Any]]) -> list[Any]:
        """Return what each came to, in their order."""
        assert self._stack is not None
        while not all(item.done() for item in begun):
            self._stack.ensure()
            with _nothing_but(TimeoutError):
                next(item for item in begun if not item.done()).result(timeout=1.0)
        return [item.result() for item in begun]

    def soak(self, device: str, heavy: bool = False, repeats: int = 1) -> list[str]:
        """Run soaks on a device, one after the other, and return the ids of their jobs."""
        spec = self.folder / f"{device}-{'heavy' if heavy else 'light'}-{repeats}.yaml"
        spec.write_text(yaml.safe_dump(self._spec(device, heavy, repeats), sort_keys=False), encoding="utf-8")
        limit = self.pace.run_limit_secs * repeats
        table = json.loads(self.command("run", spec, "--json", "--no-report", limit_secs=limit))
        if table["counts"] != {"completed": repeats}:
            raise RuntimeError(f"soaks on {device}: {table['counts']}")
        return self.jobs_of(table["experiment_id"])

    def jobs_of(self, experiment_id: str) -> list[str]:
        from orchestrator.service.thermal_reproduction import soaks_of

        return list(soaks_of(self.context, experiment_id))

    def story(self, job_id: str) -> dict[str, Any]:
        """What the command tells of a soak."""
        found: dict[str, Any] = json.loads(self.command("thermal", "show", job_id, "--json"))
        return found

    # --- below -----------------------------------------------------------------------------------------------

    def _definition(self) -> dict[str, Any]:
        plant = {
            "ambient_c": AMBIENT_C,
            "die_tau_secs": self.pace.die_tau_secs,
            "board_tau_secs": self.pace.board_tau_secs,
            "trips": _TRIPS,
            "quota_period_ms": LONG_QUOTA_PERIOD_MS,
        }
        more: dict[str, dict[str, Any]] = {
            LIGHT: {"board": "raspberry-pi"},
            TWIN: {"board": "raspberry-pi"},
            HEAVY: {"board": "jetson", "quota_period_ms": QUOTA_PERIOD_MS},
            FAN: {"fan": _FAN},
            FAULTY: {"board": "raspberry-pi"},
        }
        devices = [
            {"name": name, "kind": "x86-native", "plant": plant | more[name] | {"core": core}}
            | ({"faulty_above_c": FAULTY_ABOVE_C} if name == FAULTY else {})
            for name, core in self.cores.items()
        ]
        return {"format": 1, "name": "heatev", "network": "10.218.44.0/24", "devices": devices}

    def _spec(self, device: str, heavy: bool, repeats: int) -> dict[str, Any]:
        pace = self.pace
        soak = {
            "repeats": repeats,
            "duration_secs": pace.duration_secs,
            "window_secs": pace.window_secs,
            "idle_secs": pace.idle_secs,
            "cooldown": {"secs": pace.cooldown_secs},
            "ambient": {"sensor": "ambient.ambient_c"},
            "surroundings": {"chamber_c": AMBIENT_C},
            "probe": {"samples": 2 if heavy else 16, "every_secs": pace.probe_secs, "cold_rounds": 5},
            "telemetry_hz": pace.telemetry_hz,
        }
        return {
            "format": 1,
            "name": f"heat-evidence-{device}",
            "models": [self._heavy_model() if heavy else _light_model()],
            "devices": [{"each": f"name == '{device}'"}],
            "environments": ["default"],
            "settings": {"num_threads": [1], "provider": ["default"], **({} if heavy else {"graph_optimization": ["all"]})},
            "scenarios": {"soak": soak},
            "limits": {"timeout_secs": 120, "max_attempts": 1},
        }

    def _heavy_model(self) -> dict[str, Any]:
        data = self.folder / "noise.npz"
        if not data.exists():
            rng = np.random.default_rng(1)
            np.savez(data, x=rng.random((4, 192, 192, 8), dtype=np.float32), y=np.arange(4))
        variant = {"name": "heavy", "file": str(HEAVY_MODEL), "runtime": "tflite", "precision": "w8a8", "steps": ["quantize"]}
        return _model("heavy", data, variant | {"quantization": "full integer, random weights"})


def _light_model() -> dict[str, Any]:
    variant = {"name": "light", "file": str(DIGITS / "onnx_u8s8_rr.onnx"), "runtime": "onnx", "precision": "w8a8"}
    return _model("light", DIGITS / "digits_test.npz", variant | {"quantization": "static QDQ U8S8 per-channel, reduced range"})


def _model(name: str, data: Path, variant: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "task": {"kind": "classification", "scores": "logits", "top_k": 3},
        "dataset": {"file": str(data), "inputs": "x", "labels": "y"},
        "reference": variant["name"],
        "variants": [variant],
    }


@contextmanager
def _nothing_but(kind: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
