"""The commands answer one JSON line, stay inside their root and obey the fence. Runs are started by the real zipapp."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import device as commands
from agent import launch, layout, locks, protocol
from agent.errors import DeviceBusy, InternalError, MachineUnsupported, MissingRuntime, RequestInvalid, StaleFence
from agent.protocol import ContentRef, InputsRef

SOURCES = Path(__file__).resolve().parents[3] / "agent"
DEADLINE_SECS = 60.0


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zipapp")
    shutil.copytree(SOURCES, folder / "source" / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    target = folder / "agent.pyz"
    (folder / "source" / "__main__.py").write_text("from agent.__main__ import main\n\nraise SystemExit(main())\n")
    zipapp.create_archive(folder / "source", target)
    return target


class Agent:
    """The zipapp at one device's root."""

    def __init__(self, archive: Path, root: Path) -> None:
        self.archive, self.root = archive, root

    def __call__(self, *arguments: str) -> dict[str, Any]:
        # A whole, unhelpful environment: no PATH, and a folder that is not the root.
        ended = subprocess.run(
            [sys.executable, str(self.archive), *arguments], env={}, cwd="/", capture_output=True, text=True, timeout=DEADLINE_SECS
        )
        lines = ended.stdout.splitlines()
        assert len(lines) == 1, ended.stderr
        reply: dict[str, Any] = json.loads(lines[0])
        assert ended.returncode == (0 if reply["ok"] else 1)
        return reply

    def on(self, command: str, name: str, fence: int) -> dict[str, Any]:
        return self(command, name, "--root", str(self.root), "--fence", str(fence))

    def end_of(self, name: str, fence: int = 1) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_SECS
        while time.monotonic() < deadline:
            status: dict[str, Any] = self.on("status", name, fence)["status"]
            if status["state"] != "running":
                return status
            time.sleep(0.05)
        raise AssertionError("still running")


@pytest.fixture
def agent(archive: Path, device: Any) -> Iterator[Agent]:
    made = Agent(archive, device.root)
    yield made
    for run in commands.ps(device.root)["runs"]:
        if run["supervisor_pid"]:
            os.kill(run["supervisor_pid"], signal.SIGKILL)


def kws_request(device: Any, realdata: Path, **changes: Any) -> Path:
    archive = np.load(realdata / "kws" / "kws01_eval1000.npz")
    steps = [{"kind": "dequantize", "scale": 0.5847029, "zero_point": 83}, {"kind": "quantize"}]
    fields = {"runtime": "tflite", "scores": "probabilities", "class_count": 12, "steps": steps, **changes}
    model = (realdata / "kws" / "models" / "kws_ref_model.tflite").read_bytes()
    folder: Path = device.job(model, archive["x"][:100], **fields)
    return folder


# --- who is there --------------------------------------------------------------------------------------------


def test_hello_tells_protocol_agent_machine_and_clocks_without_numpy(agent: Agent) -> None:
    reply = agent("hello")
    assert reply["protocol"] == protocol.PROTOCOL_VERSION
    assert reply["agent_sha256"] == layout.file_digest(agent.archive).sha256  # type: ignore[union-attr]
    assert abs(reply["utc_unix_secs"] - time.time()) < 60
    imported = subprocess.run([sys.executable, "-X", "importtime", str(agent.archive), "hello"], capture_output=True, text=True).stderr
    assert "json" in imported
    assert "numpy" not in imported


@pytest.mark.parametrize(
    ("machine", "bits"), [("armv7l", 32), ("armv6l", 32), ("i686", 32), ("aarch64", 32), ("x86_64", 32), ("riscv64", 64)]
)
def test_machines_that_are_not_supported_are_refused_by_name(machine: str, bits: int) -> None:
    with pytest.raises(MachineUnsupported, match=machine):
        commands.check_machine(machine, bits)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64"])
def test_64_bit_arm_and_x86_are_supported(machine: str) -> None:
    commands.check_machine(machine, 64)


def test_facts_prove_each_runtime_and_name_the_environment_by_its_digest(agent: Agent) -> None:
    reply = agent("facts")
    assert set(reply["runtimes"]) >= {"onnx", "tflite"}
    assert all(about["available"] or about["cause"] for about in reply["runtimes"].values())
    assert reply["conditions"]["environment_digest"] == reply["environment"]["digest"] == agent("facts")["environment"]["digest"]


def test_a_wrong_call_is_answered_as_a_record_with_the_usage(agent: Agent) -> None:
    for call in ((), ("dance",), ("start", "job.1"), ("status", "job.1", "--root", "/tmp/x", "--fence", "one")):
        error = agent(*call)["error"]
        assert error["code"] == "request_invalid"
        assert "usage" in error["remedy"]


def test_a_device_without_a_root_has_no_runs_and_gets_none_by_being_asked(tmp_path: Path) -> None:
    assert commands.ps(tmp_path / "no") == {"fence": 0, "runs": []}
    assert not (tmp_path / "no").exists()


# --- names and places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b.1", "job", "job.", "job.12345", ".1", "job.1\n", "jöb.1", "x" * 65 + ".1", ""])
def test_a_name_that_is_no_runs_name_reaches_nothing(device: Any, name: str) -> None:
    for command in (commands.status, commands.cancel, commands.clean):
        with pytest.raises(RequestInvalid):
            command(device.root, name, 1)


def test_links_in_the_place_of_runs_are_not_followed(device: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (device.root / "jobs").mkdir()
    (device.root / "jobs" / "job.1").symlink_to(outside)
    with pytest.raises(RequestInvalid, match="link"):
        commands.clean(device.root, "job.1", 1)
    assert commands.ps(device.root)["runs"] == []
    (device.root / "jobs" / "job.1").unlink()
    (device.root / "jobs").rmdir()
    (device.root / "jobs").symlink_to(outside)
    (outside / "job.1").mkdir()
    with pytest.raises(RequestInvalid, match="link"):
        commands.clean(device.root, "job.1", 1)
    assert (outside / "job.1").exists()
    assert (outside / "precious").exists()


def test_cleaning_removes_a_link_inside_a_run_and_not_what_it_points_to(device: Any, tmp_path: Path) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (tmp_path / "precious").write_text("kept")
    (folder / "outcome.json").symlink_to(tmp_path / "precious")
    assert commands.clean(device.root, "job.1", 1) == {"removed": True}
    assert (tmp_path / "precious").read_text() == "kept"


def test_the_file_systems_own_root_is_refused(agent: Agent) -> None:
    assert agent("ps", "--root", "/")["error"]["code"] == "request_invalid"


def test_a_root_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match="cannot be used") as caught:
        commands.status(tmp_path / "file" / "root", "job.1", 1)
    assert caught.value.code == "folder_unwritable"  # type: ignore[attr-defined]


# --- requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"protocol": 99}, "protocol 99"),
        ({"job_id": "other"}, "other.1"),
        ({"timeout_secs": 0.0}, "timeout_secs"),
        ({"orphan_after_secs": -1.0}, "orphan_after_secs"),
        ({"telemetry_hz": 1e6}, "telemetry_hz"),
        ({"model": ContentRef("../../secret", 1)}, "SHA-256"),
        ({"inputs": InputsRef(ContentRef("A" * 64, 1), 1, [1], "int8")}, "SHA-256"),
    ],
)
def test_a_request_that_cannot_be_run_is_refused_before_anything_starts(device: Any, changes: dict[str, Any], word: str) -> None:
    device.job(b"m", np.zeros((1, 1)), **{"name": "job.1", **changes})
    with pytest.raises(RequestInvalid, match=word):
        commands.start(device.root, "job.1", 1, _never)
    assert commands.status(device.root, "job.1", 1)["status"]["state"] == "pushed"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"protocol": 1}', b'{"timeout_secs": NaN}'])
def test_a_damaged_request_is_refused(device: Any, text: bytes) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / "request.json").write_bytes(text)
    with pytest.raises(RequestInvalid):
        commands.start(device.root, "job.1", 1, _never)


def test_a_run_without_a_request_is_absent_and_cannot_start(device: Any) -> None:
    assert commands.status(device.root, "job.1", 1)["status"]["state"] == "absent"
    with pytest.raises(RequestInvalid, match="has no request"):
        commands.start(device.root, "job.1", 1, _never)
    assert commands.clean(device.root, "job.1", 1) == {"removed": False}


def _never(folder: Path, request: protocol.RunRequest, lock: int) -> None:
    raise AssertionError("must not be started")


# --- runs by the real agent ----------------------------------------------------------------------------------


def test_a_real_model_runs_to_its_outcome_and_leaves_nothing_after_clean(agent: Agent, device: Any, realdata: Path) -> None:
    folder = kws_request(device, realdata)
    assert agent.on("start", "job.1", 1)["started"]
    status = agent.end_of("job.1")
    assert status["state"] == "ended", (folder / layout.SUPERVISOR_LOG_FILE).read_text()
    outcome = protocol.from_json(protocol.RunOutcome, (folder / "outcome.json").read_text())
    assert (outcome.status, outcome.error) == ("completed", None)
    assert outcome.agent_sha256 == layout.file_digest(agent.archive).sha256  # type: ignore[union-attr]
    assert {"samples", "queries", "events", "telemetry"} <= set(outcome.streams)
    assert status["streams"]["samples"] == outcome.streams["samples"].size_bytes
    assert not agent.on("start", "job.1", 1)["started"], "starting an ended run again is harmless"
    assert agent.on("clean", "job.1", 1)["removed"]
    assert commands.ps(device.root) == {"fence": 1, "runs": []}


def test_one_run_at_a_time_and_a_higher_fence_adopts_the_one_that_lives(agent: Agent, device: Any, realdata: Path) -> None:
    load = protocol.LoadSettings(0.0, 1, 600.0, 1, 600.0)
    folder = kws_request(device, realdata, scenario="latency", load=load, timeout_secs=600.0)
    kws_request(device, realdata, name="other.1", job_id="other")
    agent.on("start", "job.1", 1)
    again = agent.on("start", "job.1", 1)
    assert (again["started"], again["status"]["state"]) == (False, "running")
    busy = agent.on("start", "other.1", 2)["error"]
    assert busy["code"] == "device_busy"
    assert "job.1" in busy["message"]
    assert agent.on("status", "job.1", 1)["error"]["code"] == "stale_fence", "the device has seen 2 by now"
    assert agent.on("status", "job.1", 5)["status"]["fence"] == 5
    assert agent.on("clean", "job.1", 5)["error"]["code"] == "device_busy"
    assert agent.on("cancel", "job.1", 4)["error"]["code"] == "stale_fence"
    assert agent.on("cancel", "job.1", 5)["ok"]
    assert agent.end_of("job.1", 5)["state"] == "ended"
    outcome = protocol.from_json(protocol.RunOutcome, (folder / "outcome.json").read_text())
    assert (outcome.status, outcome.fence) == ("canceled", 5)
    assert agent.on("start", "other.1", 5)["started"], "the device is free again"
    assert agent.end_of("other.1", 5)["state"] == "ended"


def test_a_runner_that_outlived_its_supervisor_is_ended_before_the_next_start(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / layout.SUPERVISOR_LOCK_FILE).touch()
    lock = locks.take(folder / layout.RUNNER_LOCK_FILE)
    assert lock is not None
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(lock,), start_new_session=True)
    os.close(lock)
    from agent.runner_process import start_ticks

    (folder / layout.RUNNER_PID_FILE).write_text(json.dumps({"pid": sleeper.pid, "start_ticks": start_ticks(sleeper.pid)}))
    device.job(b"m", np.zeros((1, 1)), name="next.1", job_id="next")
    started = []
    assert commands.start(device.root, "next.1", 2, lambda folder, request, lock: started.append(request.job_id))["started"]
    assert sleeper.wait(DEADLINE_SECS) == -signal.SIGKILL
    assert started == ["next"]


def test_a_process_that_only_has_the_number_of_a_dead_runner_is_left_alone(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / layout.SUPERVISOR_LOCK_FILE).touch()
    (folder / layout.RUNNER_LOCK_FILE).touch()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        (folder / layout.RUNNER_PID_FILE).write_text(json.dumps({"pid": bystander.pid, "start_ticks": 1}))
        assert commands.clean(device.root, "job.1", 1) == {"removed": True}
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_while_a_supervisor_lives_nothing_else_starts_and_nothing_is_cleaned(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    device.job(b"m", np.zeros((1, 1)), name="next.1", job_id="next")
    lock = locks.take(folder / layout.SUPERVISOR_LOCK_FILE)
    assert lock is not None
    try:
        with pytest.raises(DeviceBusy):
            commands.start(device.root, "next.1", 1, _never)
        with pytest.raises(DeviceBusy):
            commands.clean(device.root, "job.1", 1)
    finally:
        os.close(lock)
    assert commands.status(device.root, "job.1", 1)["status"]["state"] == "lost"


def test_reading_the_status_under_a_stale_fence_keeps_no_run_alive(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / layout.SUPERVISOR_LOCK_FILE).touch()
    commands.status(device.root, "job.1", 3)
    mark = (folder / "read_mark").stat().st_mtime_ns
    with pytest.raises(StaleFence):
        commands.status(device.root, "job.1", 2)
    assert (folder / "read_mark").stat().st_mtime_ns == mark


def test_progress_is_told_and_damaged_progress_is_no_failure(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / "progress").write_bytes(protocol.PROGRESS.pack(4, 10, 40, 2.5))
    status = commands.status(device.root, "job.1", 1)["status"]
    assert (status["phase"], status["done"], status["total"], status["seconds_left"]) == ("steady", 10, 40, 2.5)
    for damage in (b"", b"\xff" * 28, b"\xff" * 99, protocol.PROGRESS.pack(4, 1, 1, float("nan"))):
        (folder / "progress").write_bytes(damage)
        assert commands.status(device.root, "job.1", 1)["status"]["seconds_left"] is None


# --- how the agent calls itself ------------------------------------------------------------------------------


def test_the_runner_gets_the_whole_interpreter_of_the_request() -> None:
    """An emulator in front of python is what makes its numbers; under it, the kernel's own files hide it."""
    argv = launch.runner_argv(Path("/r/a.pyz"), ["/bin/env", "-u", "X", "python3", "-s"], Path("/r"), "job.1")
    assert argv == ["/bin/env", "-u", "X", "python3", "-s", "/r/a.pyz", "runner", "job.1", "--root", "/r"]


def test_a_command_by_its_bare_name_is_found_before_the_run_detaches() -> None:
    assert launch.resolved_command(["sh", "-c"]).endswith("/sh")
    for missing in (["no-such-python"], []):
        with pytest.raises(MissingRuntime, match="no command"):
            launch.resolved_command(missing)


def test_runs_are_not_started_from_a_folder_of_sources() -> None:
    with pytest.raises(InternalError, match="zipapp"):
        launch.need_archive(None)
