"""A runtime is what really runs a model here; what it raises becomes our errors, with the reason."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, INT8, INT16, onnx_file, unary

from agent import runtimes
from agent.errors import (
    DigestMismatch,
    InvokeFailed,
    MissingRuntime,
    ModelRejected,
    ProviderUnavailable,
    RequestInvalid,
    ShapeMismatch,
    UnsupportedOperator,
)
from agent.protocol import Settings
from agent.runtimes import tflite as tflite_driver
from agent.runtimes.base import Runtime
from agent.runtimes.selftest import ONNX_MODEL, TFLITE_MODEL
from agent.runtimes.tflite_file import check_tflite_file

HERE = runtimes.available()
needs_onnx = pytest.mark.skipif(not HERE["onnx"].available, reason=str(HERE["onnx"].cause))
needs_tflite = pytest.mark.skipif(not HERE["tflite"].available, reason=str(HERE["tflite"].cause))


def _loaded(name: str, model: bytes, folder: Path, settings: Settings = Settings()) -> Runtime:  # noqa: B008 (frozen)
    path = folder / "model"
    path.write_bytes(model)
    runtime = runtimes.create(name, settings)
    runtime.check_file(path)
    runtime.load(path)
    return runtime


@pytest.mark.parametrize("name", list(runtimes.RUNTIMES))
def test_every_runtime_here_ran_its_tiny_model_or_says_why_not(name: str) -> None:
    found = HERE[name]
    assert found.available == (found.cause is None)
    assert not found.available or (found.package and found.version)


@pytest.mark.parametrize(("name", "model"), [("onnx", ONNX_MODEL), ("tflite", TFLITE_MODEL)])
def test_a_model_answers_and_describes_itself(name: str, model: bytes, tmp_path: Path) -> None:
    if not HERE[name].available:
        pytest.skip(str(HERE[name].cause))
    runtime = _loaded(name, model, tmp_path, Settings(num_threads=2))
    np.testing.assert_array_equal(runtime.invoke(np.array([[1, 2]], np.float32))[0], [[5.5, 10.5]])
    assert [(tensor.shape, tensor.dtype, tensor.scale) for tensor in runtime.inputs + runtime.outputs] == [([1, 2], "float32", None)] * 2
    facts = runtime.facts()
    assert (facts["name"], facts["version"]) == (name, HERE[name].version)
    assert "2" in (facts.get("num_threads"), facts.get("intra_op_num_threads"))


@pytest.mark.parametrize(("name", "model"), [("onnx", ONNX_MODEL), ("tflite", TFLITE_MODEL)])
def test_outputs_stay_the_callers_own_when_the_next_query_is_asked(name: str, model: bytes, tmp_path: Path) -> None:
    if not HERE[name].available:
        pytest.skip(str(HERE[name].cause))
    query = _loaded(name, model, tmp_path).bind(np.zeros((1, 2), np.float32))
    query.set_input(np.array([[1, 2]], np.float32))
    first = query.fetch(query.invoke())
    query.set_input(np.array([[0, 0]], np.float32))
    second = query.fetch(query.invoke())
    np.testing.assert_array_equal(first[0], [[5.5, 10.5]])
    np.testing.assert_array_equal(second[0], [[0.5, -0.5]])


@pytest.mark.parametrize(("name", "model"), [("onnx", ONNX_MODEL), ("tflite", TFLITE_MODEL)])
def test_a_truncated_model_is_rejected_and_crashes_nothing(name: str, model: bytes, tmp_path: Path) -> None:
    if not HERE[name].available:
        pytest.skip(str(HERE[name].cause))
    for length in (0, 3, 7, 20, len(model) // 2, len(model) - 20):
        with pytest.raises(ModelRejected):
            _loaded(name, model[:length], tmp_path)


def test_a_model_that_is_not_on_the_device_is_not_the_models_fault(tmp_path: Path) -> None:
    for name in runtimes.RUNTIMES:
        if HERE[name].available:
            with pytest.raises(DigestMismatch):
                runtimes.create(name, Settings()).check_file(tmp_path / "absent")


def test_an_unknown_runtime_is_named_with_those_there_are() -> None:
    with pytest.raises(RequestInvalid) as caught:
        runtimes.create("tensorrt", Settings())
    assert "onnx, tflite" in caught.value.remedy


def test_a_runtime_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "tflite_runtime.interpreter", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in runtimes.RUNTIMES:
        with pytest.raises(MissingRuntime) as caught:
            runtimes.create(name, Settings())
        assert "install" in caught.value.remedy
        assert not runtimes.available()[name].available


def test_an_interpreter_that_imports_and_runs_nothing_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tflite-runtime 2.14 does beside numpy 2."""

    def fail(**_: Any) -> None:
        raise SystemError("returned a result with an exception set")

    broken = SimpleNamespace(Interpreter=fail, __name__="tflite_runtime.interpreter")
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", broken)
    monkeypatch.setitem(sys.modules, "tflite_runtime", SimpleNamespace(__version__="2.14.0"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    found = runtimes.available()["tflite"]
    assert not found.available
    assert "SystemError: returned a result" in str(found.cause)


# --- onnx ----------------------------------------------------------------------------------------------------


@needs_onnx
def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="NoSuchOperator"):
        _loaded("onnx", unary("NoSuchOperator", [1, 2]), tmp_path)


@needs_onnx
def test_an_operator_without_a_kernel_for_its_type_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="Relu"):
        _loaded("onnx", unary("Relu", [1, 2], INT16, opset=14), tmp_path)


@needs_onnx
def test_symbolic_dimensions_are_dynamic(tmp_path: Path) -> None:
    runtime = _loaded("onnx", unary("Relu", [-1, 3]), tmp_path)
    assert runtime.inputs[0].shape == [-1, 3]
    np.testing.assert_array_equal(runtime.invoke(np.array([[-1, 0, 2]], np.float32))[0], [[0, 0, 2]])


@needs_onnx
def test_integer_inputs_have_their_type_and_no_scale(tmp_path: Path) -> None:
    runtime = _loaded("onnx", unary("Identity", [1, 3], INT8), tmp_path)
    assert (runtime.inputs[0].dtype, runtime.inputs[0].scale) == ("int8", None)


@needs_onnx
def test_a_model_of_two_inputs_is_refused(tmp_path: Path) -> None:
    value = [("x", FLOAT, [1, 2]), ("z", FLOAT, [1, 2])]
    with pytest.raises(ShapeMismatch, match="2 inputs"):
        _loaded("onnx", onnx_file([("Add", ["x", "z"], ["y"])], value, [("y", FLOAT, [1, 2])]), tmp_path)


@needs_onnx
def test_a_query_the_runtime_refuses_is_an_invoke_failure(tmp_path: Path) -> None:
    runtime = _loaded("onnx", unary("Relu", [1, 3]), tmp_path)
    with pytest.raises(InvokeFailed):
        runtime.invoke(np.zeros((1, 4), np.float32))


@needs_onnx
def test_a_provider_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        runtimes.create("onnx", Settings(provider="cuda"))
    assert "default, cpu" in caught.value.remedy


@needs_onnx
def test_graph_optimization_reaches_the_runtime(tmp_path: Path) -> None:
    nodes = [("Identity", ["x"], ["a"]), ("Identity", ["a"], ["b"]), ("Relu", ["b"], ["y"])]
    model = onnx_file(nodes, [("x", FLOAT, [1, 2])], [("y", FLOAT, [1, 2])])
    counts = {}
    for level in ("none", "basic", "all", None):
        runtime = _loaded("onnx", model, tmp_path, Settings(graph_optimization=level))
        counts[level] = runtime.placement(tmp_path / "model", np.zeros((1, 2), np.float32), tmp_path).node_counts["CPUExecutionProvider"]
        assert runtime.facts()["graph_optimization"] == (level or "all")
    assert counts["none"] == 3
    assert counts["basic"] == counts["all"] == counts[None] == 1
    with pytest.raises(RequestInvalid):
        runtimes.create("onnx", Settings(graph_optimization="extreme"))


@needs_onnx
def test_placement_leaves_no_file_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    runtime = _loaded("onnx", unary("Relu", [1, 2]), tmp_path)
    placement = runtime.placement(tmp_path / "model", np.zeros((1, 2), np.float32), scratch)
    assert (placement.used, placement.node_counts) == (["CPUExecutionProvider"], {"CPUExecutionProvider": 1})
    assert list(scratch.iterdir()) == []


@needs_onnx
def test_placement_that_cannot_be_found_out_is_a_cause_and_no_error(tmp_path: Path) -> None:
    runtime = _loaded("onnx", unary("Relu", [1, 2]), tmp_path)
    placement = runtime.placement(tmp_path / "absent", np.zeros((1, 2), np.float32), tmp_path)
    assert placement.node_counts == {}
    assert placement.cause


# --- tflite --------------------------------------------------------------------------------------------------


@needs_tflite
def test_the_delegate_asked_for_is_the_one_that_runs(tmp_path: Path) -> None:
    used = {}
    for provider in tflite_driver.PROVIDERS:
        runtime = _loaded("tflite", TFLITE_MODEL, tmp_path, Settings(provider=provider))
        placement = runtime.placement(tmp_path / "model", np.zeros((1, 2), np.float32), tmp_path)
        used[provider] = placement.node_counts
        assert placement.asked == provider
    assert used["builtin"] == {"builtin": 1}
    assert used["xnnpack"] == used["default"] == {"XNNPACK": 1}


@needs_tflite
def test_nodes_are_counted_by_who_runs_them(realdata: Path, tmp_path: Path) -> None:
    model = (realdata / "kws" / "models" / "kws_ref_model_float32.tflite").read_bytes()
    example = np.zeros((1, 49, 10, 1), np.float32)
    runtime = _loaded("tflite", model, tmp_path)
    counts = runtime.placement(tmp_path / "model", example, tmp_path).node_counts
    # 13 nodes; hybrid convolutions stay with the built-in kernels in tflite-runtime 2.14, newer XNNPACKs take them all
    assert sum(counts.values()) == 13
    assert counts == ({"XNNPACK": 8, "builtin": 5} if HERE["tflite"].package == "tflite-runtime" else {"XNNPACK": 13})


@needs_tflite
def test_an_unknown_delegate_and_a_setting_tflite_has_not_are_refused() -> None:
    with pytest.raises(ProviderUnavailable, match="nnapi"):
        runtimes.create("tflite", Settings(provider="nnapi"))
    with pytest.raises(RequestInvalid, match="graph optimization"):
        runtimes.create("tflite", Settings(graph_optimization="all"))


@needs_tflite
def test_quantized_tensors_carry_scale_and_zero_point(realdata: Path, tmp_path: Path) -> None:
    runtime = _loaded("tflite", (realdata / "kws" / "models" / "kws_ref_model.tflite").read_bytes(), tmp_path)
    (model_input,), (output,) = runtime.inputs, runtime.outputs
    assert (model_input.shape, model_input.dtype, model_input.zero_point) == ([-1, 49, 10, 1], "int8", 83)
    assert model_input.scale == pytest.approx(0.5847029)
    assert (output.scale, output.zero_point) == (1 / 256, -128)


@needs_tflite
def test_a_custom_operator_is_unsupported(realdata: Path, tmp_path: Path) -> None:
    for name in ("audio_preprocessor_int8.tflite", "audio_preprocessor_float.tflite"):
        with pytest.raises(UnsupportedOperator, match="SignalWindow"):
            _loaded("tflite", (realdata / "tflm" / "models" / name).read_bytes(), tmp_path)


@needs_tflite
def test_a_file_the_runtime_refuses_is_rejected_with_its_words(realdata: Path, tmp_path: Path) -> None:
    if HERE["tflite"].package != "tflite-runtime":
        pytest.skip("newer runtimes take this file")
    with pytest.raises(ModelRejected, match="quantized_dimension must be in range"):
        _loaded("tflite", (realdata / "tflm" / "models" / "person_detect.tflite").read_bytes(), tmp_path)


@needs_tflite
def test_a_query_of_the_wrong_type_is_an_invoke_failure(tmp_path: Path) -> None:
    with pytest.raises(InvokeFailed, match="FLOAT32"):
        _loaded("tflite", TFLITE_MODEL, tmp_path).invoke(np.zeros((1, 2), np.int8))


@needs_tflite
def test_a_real_model_cut_anywhere_is_rejected_before_it_can_crash_the_process(realdata: Path, tmp_path: Path) -> None:
    whole = (realdata / "kws" / "models" / "kws_ref_model.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    for length in range(0, len(whole) - 64, 997):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelRejected):
            check_tflite_file(path)
    path.write_bytes(whole)
    check_tflite_file(path)


def test_every_real_tflite_file_passes_the_check(realdata: Path) -> None:
    files = sorted(realdata.glob("**/*.tflite"))
    assert len(files) >= 8
    for path in files:
        check_tflite_file(path)


def test_random_damage_of_a_tflite_file_is_an_error_of_ours_or_none(tmp_path: Path) -> None:
    random_source = random.Random(7)
    path = tmp_path / "damaged.tflite"
    rejected = 0
    for _ in range(2_000):
        damaged = bytearray(TFLITE_MODEL)
        damaged[random_source.randrange(len(damaged))] = random_source.randrange(256)
        path.write_bytes(damaged)
        try:
            check_tflite_file(path)
        except ModelRejected:
            rejected += 1
    assert rejected > 500


def test_the_selftest_models_are_what_their_script_builds() -> None:
    script = Path(__file__).with_name("build_selftest_models.py")
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    pytest.importorskip("tflite")
    built = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    texts = "".join(built.split("\n")[1:]).split(f"TFLITE_MODEL {len(TFLITE_MODEL)}")
    assert base64.b64decode(texts[1]) == TFLITE_MODEL
    assert base64.b64decode(texts[0]) == ONNX_MODEL
