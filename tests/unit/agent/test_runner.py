"""One attempt on the device: what the runner leaves in its folder, when it goes well and when it does not."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, onnx_file, unary

from agent import protocol, runtimes
from agent.protocol import PHASES, PROGRESS, ContentRef, InputsRef, LoadSettings, Settings
from agent.runner import EXIT_COMPLETED, EXIT_ERROR, EXIT_STOPPED, main
from agent.spool import read_spool

pytestmark = pytest.mark.skipif(not runtimes.available()["onnx"].available, reason="onnxruntime is not here")

IDENTITY = unary("Identity", [1, 4])
INPUTS = np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _error(device: Any, folder: Path) -> dict[str, Any]:
    assert main(folder, device.root) == EXIT_ERROR
    error: dict[str, Any] = device.report(folder).error
    assert error["message"]
    return error


def test_an_accuracy_run_leaves_queries_samples_and_a_report(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS, class_count=4, top_k=2)
    assert main(folder, device.root) == EXIT_COMPLETED
    samples = read_spool(folder / "samples.spool", protocol.SAMPLES).columns
    order = np.argsort(-INPUTS, axis=1)
    np.testing.assert_array_equal(samples["class_0"], order[:, 0])
    np.testing.assert_array_equal(samples["class_1"], order[:, 1])
    assert samples["finite"].all()
    queries = read_spool(folder / "queries.spool", protocol.QUERIES).columns
    assert queries["phase"].tolist() == [PHASES.index("first_query")] + [PHASES.index("accuracy")] * 40
    report = device.report(folder)
    assert report.error is None
    assert report.runtime["name"] == "onnx"
    assert report.placement.node_counts == {"CPUExecutionProvider": 1}
    assert report.load_ns > 0
    assert report.first_query_ns == sum(int(queries[name][0]) for name in ("pre_ns", "invoke_ns", "post_ns"))
    assert report.peak_rss_bytes >= report.rss_before_load_bytes > 1_000_000
    assert not list(folder.glob("*.tmp"))
    assert not (folder / "outputs.spool").exists()


def test_the_same_run_twice_gives_the_same_digests(device: Any) -> None:
    digests = []
    for name in ("a.1", "b.1"):
        folder = device.job(IDENTITY, INPUTS, name=name)
        assert main(folder, device.root) == EXIT_COMPLETED
        digests.append(read_spool(folder / "samples.spool").columns["digest"].tolist())
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 40


def test_a_latency_run_keeps_every_query_and_counts_them_as_reported(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS, scenario="latency", load=LoadSettings(0.0, 3, 0.05, 20, 5.0))
    assert main(folder, device.root) == EXIT_COMPLETED
    report = device.report(folder)
    queries = read_spool(folder / "queries.spool", protocol.QUERIES).columns
    counts = {name: int((queries["phase"] == index).sum()) for index, name in enumerate(PHASES)}
    assert (counts["first_query"], counts["warmup"], counts["steady"]) == (1, report.warmup_count, report.steady_count)
    assert report.warmup_count >= 3
    assert report.steady_count >= 20
    assert report.steady_ns >= 50_000_000
    assert report.min_duration_met
    assert report.min_query_count_met
    ends = queries["start_ns"] + queries["pre_ns"] + queries["invoke_ns"] + queries["post_ns"]
    assert (queries["start_ns"][1:] >= ends[:-1]).all()
    assert not (folder / "samples.spool").exists()
    phase, _, _, _ = PROGRESS.unpack((folder / "progress").read_bytes())
    assert PHASES[phase] == "finishing"


@pytest.mark.parametrize("changes", [{"full_outputs": True}, {"task": "tensor"}])
def test_full_outputs_are_those_of_the_model(device: Any, changes: dict[str, Any]) -> None:
    folder = device.job(IDENTITY, INPUTS, **changes)
    assert main(folder, device.root) == EXIT_COMPLETED
    np.testing.assert_array_equal(read_spool(folder / "outputs.spool", protocol.OUTPUTS).columns["values"], INPUTS)


def test_an_anomaly_run_scores_reconstructions(device: Any) -> None:
    folder = device.job(unary("Neg", [1, 4]), INPUTS, task="anomaly")
    assert main(folder, device.root) == EXIT_COMPLETED
    expected = np.mean((2 * INPUTS) ** 2, axis=1)
    np.testing.assert_allclose(read_spool(folder / "samples.spool").columns["confidence"], expected, rtol=1e-6)


def test_nan_outputs_are_counted_and_do_not_end_the_run(device: Any) -> None:
    folder = device.job(unary("Log", [1, 4]), INPUTS)
    assert main(folder, device.root) == EXIT_COMPLETED
    samples = read_spool(folder / "samples.spool").columns
    np.testing.assert_array_equal(samples["finite"] == 1, (INPUTS > 0).all(axis=1))
    assert 0 < samples["finite"].sum() < 40


def test_a_model_without_two_classes_is_no_classifier(device: Any) -> None:
    model = onnx_file([("ReduceMax", ["x"], ["y"])], [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 1])])
    assert _error(device, device.job(model, INPUTS))["code"] == "shape_mismatch"


def test_labels_beyond_the_models_classes_are_refused(device: Any) -> None:
    assert _error(device, device.job(IDENTITY, INPUTS, class_count=5))["code"] == "labels_out_of_range"


def test_inputs_of_another_shape_or_type_name_the_remedy(device: Any) -> None:
    error = _error(device, device.job(IDENTITY, INPUTS.reshape(40, 2, 2), name="a.1"))
    assert (error["code"], "`reshape`" in error["remedy"]) == ("shape_mismatch", True)
    error = _error(device, device.job(IDENTITY, INPUTS.astype(np.float64), name="b.1"))
    assert (error["code"], "`cast`" in error["remedy"]) == ("dtype_mismatch", True)


def test_a_rejected_model_is_reported_with_the_runtime_that_rejected_it(device: Any) -> None:
    folder = device.job(IDENTITY[:-20], INPUTS)
    assert _error(device, folder)["code"] == "model_rejected"
    assert device.report(folder).runtime["package"] == "onnxruntime"


def test_content_that_is_absent_or_of_another_size_is_the_labs_fault(device: Any) -> None:
    for number, content in enumerate((ContentRef("0" * 64, 10), ContentRef(device.content(IDENTITY).sha256, 10))):
        error = _error(device, device.job(IDENTITY, INPUTS, name=f"{number}.1", model=content))
        assert (error["code"], error["class"]) == ("digest_mismatch", "infrastructure")


def test_a_path_in_place_of_a_digest_is_never_opened(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS, model=ContentRef("../../../../etc/passwd", 10))
    assert _error(device, folder)["code"] == "request_invalid"


def test_pickled_inputs_are_never_loaded(device: Any, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = tmp_path / "evil.npy"
    np.save(path, np.array([Evil()], dtype=object), allow_pickle=True)
    inputs = InputsRef(device.content(path.read_bytes()), 1, [], "object")
    assert _error(device, device.job(IDENTITY, INPUTS, inputs=inputs))["code"] == "request_invalid"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": 99},
        {"scenario": "soak"},
        {"task": "detection"},
        {"settings": Settings(num_threads=0)},
        {"load": LoadSettings(max_duration_secs=0.0)},
        {"steps": [{"kind": "rotate"}]},
        {"inputs": InputsRef(ContentRef("0" * 64, 10), 3, [-1], "nonsense")},
    ],
)
def test_a_request_that_makes_no_sense_is_a_configuration_or_lab_error_not_a_bug(device: Any, changes: dict[str, Any]) -> None:
    assert _error(device, device.job(IDENTITY, INPUTS, **changes))["class"] in ("configuration", "infrastructure")


def test_inputs_that_are_not_what_the_request_says_are_refused(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS)
    request = json.loads((folder / "request.json").read_text())
    for change in ({"sample_count": 41}, {"sample_shape": [2, 2]}, {"dtype": "int8"}, {"dtype": "nonsense"}):
        (folder / "request.json").write_text(json.dumps({**request, "inputs": {**request["inputs"], **change}}))
        assert _error(device, folder)["code"] == "request_invalid"


def test_a_missing_or_damaged_request_is_reported(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS)
    for text in ('{"protocol": 1}', "not json", None):
        (folder / "request.json").unlink()
        if text is not None:
            (folder / "request.json").write_text(text)
        assert _error(device, folder)["code"] == "request_invalid"
        (folder / "request.json").touch()


def test_a_full_disk_is_reported_in_the_room_kept_for_it(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = device.job(IDENTITY, INPUTS)
    real_write = os.write

    def write(descriptor: int, data: Any) -> int:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith(".spool"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    error = _error(device, folder)
    assert (error["code"], error["class"]) == ("disk_full", "infrastructure")
    assert str(folder) in error["message"]


def test_a_real_full_disk_is_reported(device: Any) -> None:
    """A file size limit of the process stands for the disk: the kernel refuses the write in the same way, in the middle of it."""
    folder = device.job(IDENTITY, INPUTS, scenario="latency", load=LoadSettings(0.0, 0, 60.0, 1, 60.0))
    code = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (90000,) * 2)"
    assert _in_a_process(folder, device.root, code).wait(timeout=60) == EXIT_ERROR
    assert device.report(folder).error["code"] == "disk_full"
    contents = read_spool(folder / "queries.spool")
    assert contents.torn_bytes > 0
    assert contents.columns["phase"][0] == PHASES.index("first_query")


def test_a_folder_that_cannot_be_written_ends_the_runner_with_words(device: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(device.root / "jobs" / "absent.1", device.root) == EXIT_ERROR
    assert capsys.readouterr().err.startswith("folder_unwritable: ")


def test_sigterm_ends_a_run_in_an_orderly_way_and_keeps_what_was_measured(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS, scenario="latency", load=LoadSettings(0.0, 0, 600.0, 1, 600.0))
    process = _in_a_process(folder, device.root)
    try:
        deadline = time.monotonic() + 60
        while _phase(folder) != "steady":
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == EXIT_STOPPED
    finally:
        process.kill()
        process.wait()
    report = device.report(folder)
    assert report.error is None
    assert report.min_duration_met is False
    steady = read_spool(folder / "queries.spool").columns["phase"] == PHASES.index("steady")
    assert steady.sum() == report.steady_count


def test_a_runner_killed_mid_run_leaves_a_readable_spool_and_no_report(device: Any) -> None:
    folder = device.job(IDENTITY, INPUTS, scenario="latency", load=LoadSettings(0.0, 0, 600.0, 1, 600.0))
    process = _in_a_process(folder, device.root)
    deadline = time.monotonic() + 60
    while not (folder / "queries.spool").exists() or (folder / "queries.spool").stat().st_size < 100_000:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert read_spool(folder / "queries.spool", protocol.QUERIES).block_count > 0
    assert device.report(folder) is None


def test_known_models_reproduce_their_accuracy(device: Any, realdata: Path) -> None:
    kws = realdata / "kws"
    with np.load(kws / "kws01_eval1000.npz") as data:
        inputs, labels = data["x"], data["y"]
    dequantize = {"kind": "dequantize", "scale": 0.5847029, "zero_point": 83}
    expected = {"kws_ref_fp32.onnx": 91.3}
    if runtimes.available()["tflite"].package == "tflite-runtime":
        expected.update({"kws_ref_model.tflite": 90.1, "kws_int8_from_savedmodel.tflite": 91.4})
    for number, (name, percent) in enumerate(expected.items()):
        steps = [dequantize] if name.endswith("onnx") else [dequantize, {"kind": "quantize"}]
        runtime = "onnx" if name.endswith("onnx") else "tflite"
        model = (kws / "models" / name).read_bytes()
        folder = device.job(model, inputs, name=f"{number}.1", runtime=runtime, steps=steps, scores="probabilities", class_count=12)
        assert main(folder, device.root) == EXIT_COMPLETED
        found = read_spool(folder / "samples.spool").columns["class_0"]
        assert abs(100 * (found == labels).mean() - percent) <= 0.2


def _in_a_process(folder: Path, root: Path, first: str = "pass") -> subprocess.Popen[bytes]:
    code = (
        f"{first}\nimport sys, pathlib\nfrom agent.runner import main\nsys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(root)], env=environment)


def _phase(folder: Path) -> str:
    try:
        return PHASES[PROGRESS.unpack((folder / "progress").read_bytes())[0]]
    except (OSError, struct.error):
        return "starting"
