"""What the agent's tests share: real files where they are, a device's folder, and a clock that only moves when told to."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import protocol
from agent.protocol import ContentRef, InputsRef, LoadSettings, RunnerReport, RunRequest, Settings

sys.path.insert(0, str(Path(__file__).parent))  # what lies beside the tests that use it

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real models and inputs; tests that need it are skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip("the real data is not here")
    return folder


class FakeClock:
    """Monotonic nanoseconds that move by ``step_ns`` with every reading, and by :meth:`advance`."""

    def __init__(self, step_ns: int = 0) -> None:
        self.now_ns = 1_000_000
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def advance(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds


class DeviceFolder:
    """A device's root with jobs in it, laid out as the orchestrator and the supervisor do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / protocol.CONTENT_FOLDER).mkdir(parents=True)

    def content(self, data: bytes) -> ContentRef:
        sha256 = hashlib.sha256(data).hexdigest()
        (self.root / protocol.CONTENT_FOLDER / sha256).write_bytes(data)
        return ContentRef(sha256, len(data))

    def job(self, model: bytes, inputs: np.ndarray, /, *, name: str = "job.1", **changes: Any) -> Path:
        """Write a job's folder with a request for ``model`` over ``inputs``; ``changes`` are fields of RunRequest."""
        buffer = io.BytesIO()
        np.save(buffer, inputs)
        fields: dict[str, Any] = {
            "protocol": protocol.PROTOCOL_VERSION,
            "job_id": "job",
            "attempt": 1,
            "fence": 1,
            "scenario": "accuracy",
            "task": "classification",
            "scores": "logits",
            "model": self.content(model),
            "runtime": "onnx",
            "inputs": InputsRef(self.content(buffer.getvalue()), len(inputs), list(inputs.shape[1:]), inputs.dtype.name),
            "steps": [],
            "settings": Settings(),
            "load": LoadSettings(0.0, 3, 0.05, 20, 5.0),
            "interpreter": [sys.executable],
            "timeout_secs": 60.0,
        }
        fields.update(changes)
        folder = self.root / protocol.JOBS_FOLDER / name
        folder.mkdir(parents=True)
        (folder / protocol.REQUEST_FILE).write_text(protocol.to_json(RunRequest(**fields)))
        return folder

    def report(self, folder: Path) -> RunnerReport | None:
        path = folder / protocol.RUNNER_REPORT_FILE
        return protocol.from_json(RunnerReport, path.read_text()) if path.exists() else None


@pytest.fixture
def device(tmp_path: Path) -> DeviceFolder:
    return DeviceFolder(tmp_path / "root")


@pytest.fixture
def runs(device: DeviceFolder) -> Iterator[Any]:
    """Runs on the device whose runner is a stand-in; their supervisors end with the test."""
    from supervised import Runs

    made = Runs(device)
    yield made
    made.end_all()


@pytest.fixture
def clock_of() -> Callable[[int], FakeClock]:
    return FakeClock
