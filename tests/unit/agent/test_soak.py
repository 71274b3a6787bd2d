"""A soak on the device: its parts in order, probes beside the load, and an end that keeps everything."""

from __future__ import annotations

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
from onnx_files import unary

from agent import protocol, runtimes
from agent.protocol import PHASES, PROGRESS, CoLoad, LoadPattern, LoadSettings, ProbeSettings, RunnerStart, SoakSettings
from agent.runner import EXIT_COMPLETED, EXIT_ERROR, EXIT_STOPPED, main
from agent.spool import read_spool

pytestmark = pytest.mark.skipif(not runtimes.available()["onnx"].available, reason="onnxruntime is not here")

MODEL = unary("Softmax", [1, 4])
INPUTS = np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32)
LOAD = LoadSettings(0.0, 3, 0.0, 0, 60.0)


@pytest.fixture(autouse=True)
def keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _soak(device: Any, **changes: Any) -> tuple[Path, int]:
    fields: dict[str, Any] = {"duration_secs": 0.5, "idle_secs": 0.05, "probe": ProbeSettings(8, 0.1, 2)}
    fields.update(changes)
    folder = device.job(MODEL, INPUTS, scenario="soak", load=LOAD, soak=SoakSettings(**fields))
    return folder, main(folder, device.root)


def _columns(folder: Path, stream: str) -> dict[str, np.ndarray]:
    return read_spool(folder / f"{stream}.spool", stream).columns


def test_the_parts_of_a_soak_come_in_their_order_and_are_counted(device: Any) -> None:
    folder, code = _soak(device, precondition_secs=0.1)
    report = device.report(folder)
    assert (code, report.error) == (EXIT_COMPLETED, None)
    queries = _columns(folder, protocol.QUERIES)
    phases = queries["phase"].tolist()
    order = [PHASES[phase] for number, phase in enumerate(phases) if number == 0 or phases[number - 1] != phase]
    assert order[:5] == ["first_query", "probe", "precondition", "warmup", "steady"]
    assert set(order[5:]) == {"probe", "steady"}
    counts = {name: phases.count(PHASES.index(name)) for name in ("precondition", "warmup", "steady", "probe")}
    told = report.soak
    assert counts == {
        "precondition": told.precondition_count,
        "warmup": report.warmup_count,
        "steady": report.steady_count,
        "probe": told.probe_count,
    }
    assert told.queries_bytes == (folder / "queries.spool").stat().st_size
    assert (told.stopped, report.min_duration_met) == (None, True)
    ends = queries["start_ns"] + queries["pre_ns"] + queries["invoke_ns"] + queries["post_ns"]
    assert (queries["start_ns"][1:] >= ends[:-1]).all()
    idle_ns = queries["start_ns"][1 + 16] - ends[16]
    assert idle_ns >= 50_000_000


def test_probes_of_a_real_runtime_answer_alike_cold_and_loaded_and_tell_the_class(device: Any) -> None:
    folder, code = _soak(device)
    assert code == EXIT_COMPLETED
    probes = _columns(folder, protocol.PROBES)
    assert set(probes["cold"].tolist()) == {0, 1}
    assert probes["finite"].all()
    for sample in range(8):
        rows = probes["sample"] == sample
        assert len(set(probes["digest"][rows].tolist())) == 1
        assert set(probes["top_class"][rows].tolist()) == {int(INPUTS[sample].argmax())}
        assert 0.25 <= probes["top_score"][rows].min() <= 1
    assert len(set(probes["digest"].tolist())) == 8
    report = device.report(folder)
    assert 0 < report.soak.probe_ns < report.steady_ns
    queries = _columns(folder, protocol.QUERIES)
    np.testing.assert_array_equal(queries["start_ns"][queries["phase"] == PHASES.index("probe")], probes["start_ns"])


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_probes_give_the_digests_of_the_accuracy_run(device: Any, runtime: str) -> None:
    if not runtimes.available()[runtime].available:
        pytest.skip(f"{runtime} is not here")
    digits = Path(__file__).resolve().parents[3] / "examples" / "digits"
    model = (digits / f"{runtime}_fp32.{runtime}").read_bytes()
    with np.load(digits / "digits_test.npz") as data:
        inputs = data["x"][:60]
    soak = SoakSettings(0.3, idle_secs=0.0, probe=ProbeSettings(32, 0.05, 2))
    soaked = device.job(model, inputs, name="soak.1", runtime=runtime, scenario="soak", load=LOAD, soak=soak)
    scored = device.job(model, inputs, name="accuracy.1", runtime=runtime)
    assert [main(folder, device.root) for folder in (soaked, scored)] == [EXIT_COMPLETED, EXIT_COMPLETED]
    probes, samples = _columns(soaked, protocol.PROBES), _columns(scored, protocol.SAMPLES)
    assert len(set(samples["digest"].tolist())) == 60
    assert not probes["cold"].all()
    assert probes["digest"].tolist() == samples["digest"][probes["sample"]].tolist()
    assert probes["top_class"].tolist() == samples["class_0"][probes["sample"]].tolist()
    np.testing.assert_array_equal(probes["top_score"], samples["score_0"][probes["sample"]])


@pytest.mark.parametrize("changes", [{"task": "tensor"}, {"task": "anomaly"}])
def test_probes_of_a_task_without_classes_have_no_class(device: Any, changes: dict[str, Any]) -> None:
    soak = SoakSettings(0.1, idle_secs=0.0, probe=ProbeSettings(2, 0.05, 1))
    folder = device.job(MODEL, INPUTS, scenario="soak", load=LOAD, soak=soak, **changes)
    assert main(folder, device.root) == EXIT_COMPLETED
    probes = _columns(folder, protocol.PROBES)
    assert set(probes["top_class"].tolist()) == {-1}
    assert np.isnan(probes["top_score"]).all()


def test_more_probes_than_samples_ask_every_sample_once(device: Any) -> None:
    folder, code = _soak(device, probe=ProbeSettings(500, 0.2, 1), duration_secs=0.1)
    assert code == EXIT_COMPLETED
    assert _columns(folder, protocol.PROBES)["sample"].tolist() == list(range(40))


@pytest.mark.parametrize("scenario", ["accuracy", "latency", "soak"])
def test_what_places_the_queries_in_time_is_there_before_the_model_is_loaded(device: Any, scenario: str) -> None:
    soak = SoakSettings(0.1) if scenario == "soak" else None
    folder = device.job(MODEL[:-20], INPUTS, scenario=scenario, soak=soak)
    assert main(folder, device.root) == EXIT_ERROR  # the model is damaged
    start = protocol.from_json(RunnerStart, (folder / protocol.RUNNER_START_FILE).read_text())
    report = device.report(folder)
    assert report.error["code"] == "model_rejected"
    assert 0 < start.origin_monotonic_ns == report.origin_monotonic_ns
    assert start.runtime == report.runtime != {}


def test_a_fixed_rate_with_work_beside_it(device: Any) -> None:
    folder, code = _soak(device, pattern=LoadPattern("fixed_rate", rate_hz=50.0), co_load=CoLoad(1, 1), probe=None, duration_secs=0.4)
    report = device.report(folder)
    assert (code, report.error) == (EXIT_COMPLETED, None)
    assert len(report.soak.co_load_cpus) in (0, 2)
    assert report.soak.co_load_lost == 0
    assert not (folder / "probes.spool").exists()
    queries = _columns(folder, protocol.QUERIES)
    starts = queries["start_ns"][queries["phase"] == PHASES.index("steady")].astype(np.int64)
    arrivals = round((int(starts[-1]) - int(starts[0])) * 50 / 1e9 - 0.5) + 1
    assert len(starts) == report.steady_count
    assert report.steady_count + report.soak.dropped_count >= arrivals > 1


def test_a_soak_without_settings_and_settings_without_a_soak_are_refused(device: Any) -> None:
    for number, changes in enumerate(({"scenario": "soak"}, {"scenario": "latency", "soak": SoakSettings(1.0)})):
        folder = device.job(MODEL, INPUTS, name=f"{number}.1", **changes)
        assert main(folder, device.root) == EXIT_ERROR
        assert device.report(folder).error["code"] == "request_invalid"


@pytest.mark.parametrize("phase", ["idle", "steady"])
def test_a_soak_that_is_asked_to_end_leaves_its_report_and_every_query(device: Any, phase: str) -> None:
    soak = SoakSettings(600.0, idle_secs=600.0 if phase == "idle" else 0.0, probe=ProbeSettings(4, 0.2, 2), co_load=CoLoad(1, 0))
    folder = device.job(MODEL, INPUTS, scenario="soak", load=LOAD, soak=soak)
    code = "import sys, pathlib\nfrom agent.runner import main\nsys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen([sys.executable, "-c", code, str(folder), str(device.root)], env=environment) as runner:
        try:
            deadline = time.monotonic() + 60
            while _phase(folder) != phase and time.monotonic() < deadline:
                time.sleep(0.02)
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(60) == EXIT_STOPPED
        finally:
            runner.kill()
    report = device.report(folder)
    assert (report.error, report.placement, report.soak.stopped) == (None, None, None)
    assert not report.min_duration_met
    phases = _columns(folder, protocol.QUERIES)["phase"].tolist()
    assert phases.count(PHASES.index("steady")) == report.steady_count
    assert phases.count(PHASES.index("probe")) == report.soak.probe_count == len(_columns(folder, protocol.PROBES)["round"])
    assert (report.steady_count > 0) == (phase == "steady")


def _phase(folder: Path) -> str:
    try:
        return PHASES[PROGRESS.unpack((folder / "progress").read_bytes())[0]]
    except (OSError, struct.error):
        return "starting"
