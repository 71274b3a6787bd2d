"""Where the nodes of a model really ran: asked for and found, with every fall-back named, and never at the cost of the measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, onnx_file, unary

from agent import protocol, runtimes
from agent.protocol import MAX_FALLBACK_NODES, LoadSettings, PlacedNode, Placement, Settings
from agent.runner import EXIT_COMPLETED, main
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.selftest import TFLITE_MODEL

REPOSITORY = Path(__file__).resolve().parents[3]
HERE = runtimes.available()
needs_onnx = pytest.mark.skipif(not HERE["onnx"].available, reason=str(HERE["onnx"].cause))
needs_tflite = pytest.mark.skipif(not HERE["tflite"].available, reason=str(HERE["tflite"].cause))

DIGITS = REPOSITORY / "examples" / "digits"
EXAMPLE = np.zeros((1, 4), np.float32)
INPUTS = np.random.default_rng(3).normal(size=(20, 4)).astype(np.float32)


def _placement(name: str, model: Path, folder: Path, provider: str) -> Placement:
    runtime = runtimes.create(name, Settings(provider=provider))
    runtime.check_file(model)
    runtime.load(model)
    example = np.zeros([max(size, 1) for size in runtime.inputs[0].shape], runtime.inputs[0].dtype)
    return runtime.placement(model, example, folder)


def _other_provider() -> str:
    """A provider of this onnxruntime beside the CPU; that of Azure, for one, is in the common wheels and takes no ordinary node."""
    import onnxruntime

    others = [name for name in onnxruntime.get_available_providers() if name == "AzureExecutionProvider"]
    if not others:
        pytest.skip("this onnxruntime has the CPU provider alone")
    return others[0].replace("ExecutionProvider", "").lower()


# --- onnx ----------------------------------------------------------------------------------------------------


@needs_onnx
def test_a_provider_that_leaves_every_node_to_the_cpu_is_found_out(tmp_path: Path) -> None:
    provider = _other_provider()
    found = _placement("onnx", DIGITS / "onnx_u8s8.onnx", tmp_path, provider)
    assert (found.asked, found.used, found.cause) == (provider, ["CPUExecutionProvider"], None)
    assert found.fallback_count == found.node_counts["CPUExecutionProvider"] == len(found.fallback) >= 15
    assert {"QLinearConv", "QGemm"} <= {node.operator for node in found.fallback}
    assert all(node.name and not node.name.endswith("_kernel_time") for node in found.fallback)


@needs_onnx
def test_the_cpu_asked_for_by_name_has_no_fallback_and_the_default_can_have_none(tmp_path: Path) -> None:
    model = DIGITS / "onnx_fp32.onnx"
    assert _placement("onnx", model, tmp_path, "cpu").fallback_count == 0
    found = _placement("onnx", model, tmp_path, "default")
    assert (found.fallback_count, found.fallback) == (None, [])
    assert list(tmp_path.iterdir()) == []


class _Session:
    """Stands for a session on a GPU, which the computers of these tests have not: its profile is what ONNX Runtime writes."""

    def __init__(self, events: list[dict[str, Any]], path: Path) -> None:
        self._events, self._path = events, path

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [EXAMPLE]

    def end_profiling(self) -> str:
        self._path.write_text(json.dumps(self._events))
        return str(self._path)


def _event(name: str, index: int, operator: str, provider: str) -> dict[str, Any]:
    arguments = {"node_index": str(index), "op_name": operator, "provider": provider}
    return {"cat": "Node", "ph": "X", "dur": 5, "name": f"{name}_kernel_time", "args": arguments}


@needs_onnx
def test_what_a_gpu_leaves_to_the_cpu_is_counted_once_and_named_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [_event(f"resize_{index}" + "x" * 900, 100 + index, "Resize", "CPUExecutionProvider") for index in range(40)]
    taken = [_event(f"conv_{index}", index, "Conv", "CUDAExecutionProvider") for index in range(5)]
    fence = [{"cat": "Node", "name": "conv_0_fence_before", "args": {"op_name": "Conv"}}, {"cat": "Session", "name": "model_run"}]
    session = _Session([*fence, *taken, *left, *taken], tmp_path / "profile.json")  # a loop's body runs more than once
    path = tmp_path / "model"
    path.write_bytes(unary("Relu", [1, 4]))
    runtime = OnnxRuntime(Settings(provider="cpu"))
    runtime.load(path)
    runtime.settings, runtime._provider = Settings(provider="cuda"), "CUDAExecutionProvider"
    monkeypatch.setattr(runtime, "_session_of", lambda model, options: session)
    found = runtime.placement(path, EXAMPLE, tmp_path)
    assert found.node_counts == {"CPUExecutionProvider": 40, "CUDAExecutionProvider": 5}
    assert found.fallback_count == 40
    assert len(found.fallback) == MAX_FALLBACK_NODES
    assert found.fallback[0] == PlacedNode(("resize_0" + "x" * 900)[:120], "Resize", "CPUExecutionProvider")
    assert not (tmp_path / "profile.json").exists()


@needs_onnx
def test_a_profile_too_large_to_read_is_a_cause_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runtimes.onnx._MAX_PROFILE_BYTES", 1000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = _placement("onnx", DIGITS / "onnx_fp32.onnx", scratch, "cpu")
    assert (found.node_counts, found.fallback_count) == ({}, None)
    assert "at most 1000 are read" in str(found.cause)
    assert list(scratch.iterdir()) == []


@needs_onnx
def test_what_tensorrt_does_not_take_may_stay_on_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import onnxruntime

    asked: list[Sequence[str]] = []
    present = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: asked.append(providers))
    for provider in ("tensorrt", "cuda", "cpu"):
        runtime = OnnxRuntime(Settings(provider=provider))
        runtime._session_of(tmp_path, runtime._options())
    assert asked == [present, present[1:], present[2:]]


@needs_onnx
def test_the_measured_session_is_closed_before_another_is_opened(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Any]] = []
    alive: list[int] = []
    open_session = OnnxRuntime._session_of

    def watched(self: OnnxRuntime, model: Path, options: Any) -> Any:
        alive.append(sum(reference() is not None for reference in opened))
        session = open_session(self, model, options)
        opened.append(weakref.ref(session))
        return session

    monkeypatch.setattr(OnnxRuntime, "_session_of", watched)
    for scenario in ("latency", "accuracy"):
        folder = device.job(unary("Identity", [1, 4]), INPUTS, name=f"{scenario}.1", scenario=scenario, load=LoadSettings(0, 1, 0.01, 5, 1))
        assert main(folder, device.root) == EXIT_COMPLETED
        assert device.report(folder).placement.node_counts == {"CPUExecutionProvider": 1}
    assert alive == [0, 0, 0, 0]


# --- tflite --------------------------------------------------------------------------------------------------


@needs_tflite
def test_nodes_that_xnnpack_leaves_are_named_with_their_operator(tmp_path: Path) -> None:
    found = _placement("tflite", DIGITS / "tflite_w8a8.tflite", tmp_path, "xnnpack")
    assert sum(found.node_counts.values()) == 13
    # tflite-runtime 2.14 was built without XNNPACK's integer kernels; the newer package takes every node
    expected = 13 if HERE["tflite"].package == "tflite-runtime" else 0
    assert found.fallback_count == len(found.fallback) == expected
    if expected:
        assert {node.operator for node in found.fallback} >= {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
        assert {node.provider for node in found.fallback} == {"builtin"}
        assert all(node.name for node in found.fallback)


@needs_tflite
def test_built_in_kernels_asked_for_are_no_fallback(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(TFLITE_MODEL)
    assert _placement("tflite", model, tmp_path, "builtin").fallback_count == 0
    assert _placement("tflite", model, tmp_path, "xnnpack").fallback_count == 0
    assert _placement("tflite", model, tmp_path, "default").fallback_count is None


# --- what the look may not cost ------------------------------------------------------------------------------


@needs_onnx
@pytest.mark.parametrize(
    ("fault", "ended_by"), [("import os; os.abort()", signal.SIGABRT), ("import time; time.sleep(600)", signal.SIGALRM)]
)
def test_a_model_that_crashes_or_hangs_while_its_placement_is_looked_at_keeps_its_measurement(
    device: Any, fault: str, ended_by: signal.Signals
) -> None:
    folder = device.job(unary("Identity", [1, 4]), INPUTS)
    code = (
        "import sys\nfrom pathlib import Path\nfrom agent.runner import main\nfrom agent.runtimes.onnx import OnnxRuntime\n"
        f"def look(*_):\n    {fault}\n"
        "OnnxRuntime._placed_nodes = look\n"
        "sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), placement_secs=0.2))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, str(folder), str(device.root)]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert ended.returncode == -ended_by
    report = device.report(folder)
    assert report.error is None
    assert report.placement == Placement("default", [], cause=protocol.PLACEMENT_UNFINISHED)
    assert report.first_query_ns > 0
    assert (folder / f"{protocol.SAMPLES}.spool").exists()


@needs_onnx
def test_a_look_that_ends_in_time_leaves_no_alarm_behind(device: Any) -> None:
    model = onnx_file([("Identity", ["x"], ["y"])], [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 4])])
    handler = signal.getsignal(signal.SIGALRM)
    assert main(device.job(model, INPUTS), device.root) == EXIT_COMPLETED
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    assert signal.getsignal(signal.SIGALRM) == handler
