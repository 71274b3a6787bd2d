"""Bad models, data and specs: each ends its own job with the class, the code and the remedy a user needs, and nothing else suffers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import bad_models
from tests.integration.running import DIGITS, GOOD, REPOSITORY, Ended, Home, variant, write_spec

TFLM = REPOSITORY.parent / "shared" / "realdata" / "tflm" / "models"

#: What each file must end as: error class and code.
ENDINGS = {
    "random": (bad_models.random_bytes, "job", "model_rejected"),
    "zeros": (bad_models.zero_bytes, "job", "model_rejected"),
    "half-onnx": (bad_models.half_an_onnx, "job", "model_rejected"),
    "half-tflite": (bad_models.half_a_tflite, "job", "model_rejected"),
    "nested": (bad_models.nested_too_deep, "job", "model_rejected"),
    "wild-offset": (bad_models.wild_offset, "job", "runtime_crashed"),
    "huge": (bad_models.huge_tensor, "job", "invoke_failed"),
    "unknown-operator": (bad_models.unknown_operator, "job", "unsupported_operator"),
    "other-shape": (bad_models.other_shape, "configuration", "shape_mismatch"),
    "other-dtype": (bad_models.other_dtype, "configuration", "dtype_mismatch"),
    "five-classes": (bad_models.five_classes, "configuration", "labels_out_of_range"),
}


@pytest.fixture(scope="module")
def bad_run(shared_home: Home) -> Ended:
    """One run over a good model and everything that is wrong in a way of its own."""
    made = [variant(name, make(shared_home.specs)) for name, (make, _, _) in ENDINGS.items()]
    nan = variant("nan", bad_models.not_a_number_for_half(shared_home.specs))
    last = variant("good-at-last", DIGITS / "tflite_fp32.tflite")
    return shared_home.run_spec(write_spec(shared_home.specs, [GOOD, *made, nan, last]))


@pytest.mark.parametrize("name", ENDINGS)
def test_a_bad_model_ends_its_job_with_what_is_wrong_and_what_to_do(bad_run: Ended, shared_home: Home, name: str) -> None:
    _, error_class, code = ENDINGS[name]
    job = shared_home.job(name)
    assert job.error is not None, bad_run.stderr
    assert (job.outcome, job.error["class"], job.error["code"]) == ("error", error_class, code), job.error
    assert job.error["message"]
    assert job.error["remedy"]
    assert job.attempts == 1, "only what the lab did wrong is tried again"


def test_bad_models_spoil_no_other_job_and_no_device(bad_run: Ended, shared_home: Home) -> None:
    assert [shared_home.job(name).outcome for name in ("good", "good-at-last")] == ["completed", "completed"]
    assert shared_home.health()[0] == "good"
    shared_home.assert_each_job_ended_once()
    shared_home.assert_nothing_runs()


def test_a_run_with_unmeasured_jobs_says_so_in_its_exit_code_and_table(bad_run: Ended) -> None:
    assert bad_run.code == 1
    assert "SIGSEGV" in bad_run.stdout


def test_a_crash_is_told_with_the_name_of_its_signal(bad_run: Ended, shared_home: Home) -> None:
    error = shared_home.job("wild-offset").error
    assert error is not None
    assert "SIGSEGV" in error["message"]


def test_samples_that_give_no_number_count_as_wrong_and_are_counted(bad_run: Ended, shared_home: Home) -> None:
    job = shared_home.job("nan")
    assert job.outcome == "completed", job.error
    images = np.load(DIGITS / "digits_test.npz")["x"]
    expected = int((images.mean(axis=(1, 2, 3), dtype=np.float64) < 0.3).sum())
    assert 0 < expected < len(images)
    assert shared_home.metric(job, "non_finite_count") == expected
    top1 = shared_home.metric(job, "accuracy.top1")
    assert top1 is not None
    assert top1 <= 1 - expected / len(images)


def test_what_was_found_on_the_device_is_kept_also_of_an_attempt_that_failed(bad_run: Ended, shared_home: Home) -> None:
    ((message,),) = shared_home.query("SELECT outcome_message FROM attempt WHERE job_id = ?", shared_home.job("wild-offset").id)
    assert json.loads(message)["conditions"]["kernel"]


def test_a_model_that_never_ends_is_stopped_at_its_time_limit(home: Home) -> None:
    spec = write_spec(home.specs, [variant("endless", bad_models.endless(home.specs))], limits={"timeout_secs": 3, "max_attempts": 3})
    ended = home.run_spec(spec)
    job = home.job("endless")
    assert (ended.code, job.outcome, job.attempts) == (1, "timeout", 1), ended.stderr
    assert job.error is not None
    assert job.error["code"] == "run_timeout"
    assert "timeout_secs" in job.error["remedy"]
    home.assert_each_job_ended_once()
    home.assert_nothing_runs()


@pytest.mark.skipif(not TFLM.exists(), reason="the models of TensorFlow Lite Micro are not here")
def test_published_models_that_this_runtime_refuses_are_told_apart(home: Home) -> None:
    variants = [variant("person", TFLM / "person_detect.tflite"), variant("audio", TFLM / "audio_preprocessor_int8.tflite")]
    ended = home.run_spec(write_spec(home.specs, variants))
    errors = {job.variant: (job.error or {}).get("code") for job in home.jobs()}
    assert errors == {"person": "model_rejected", "audio": "unsupported_operator"}, ended.stderr
    home.assert_each_job_ended_once()


# --- what is refused before anything runs ------------------------------------------------------------------------


def _refused(home: Home, spec: Path, **variables: str) -> Ended:
    ended = home.run_spec(spec, **variables)
    assert home.jobs() == []
    assert "Traceback" not in ended.stderr
    home.assert_nothing_runs()
    return ended


def _line_of(spec: Path, text: str) -> int:
    return next(number for number, line in enumerate(spec.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("changes", "text", "said"),
    [
        ({"file": "gone.onnx"}, "gone.onnx", "there is no file gone.onnx"),
        ({"sha256": "0" * 64}, "sha256", "has the SHA-256"),
        ({"file": "empty.onnx"}, "empty.onnx", "is empty"),
        ({"file": "."}, "file: .", "is not a file"),
    ],
    ids=["missing file", "digest mismatch", "empty file", "a folder"],
)
def test_a_wrong_file_is_refused_with_the_line_of_the_spec(home: Home, changes: dict[str, Any], text: str, said: str) -> None:
    (home.specs / "empty.onnx").touch()
    spec = write_spec(home.specs, [{**GOOD, **changes}])
    ended = _refused(home, spec)
    assert ended.code == 2
    assert f"{spec.name}:{_line_of(spec, text)}: " in ended.stderr
    assert said in ended.stderr


def test_labels_beyond_the_class_names_are_refused(home: Home) -> None:
    np.savez(home.specs / "data.npz", x=np.zeros((4, 8, 8, 1), np.float32), y=np.array([0, 1, 2, 7]))
    dataset = {"file": "data.npz", "inputs": "x", "labels": "y", "class_names": ["a", "b", "c"]}
    ended = _refused(home, write_spec(home.specs, [GOOD], model={"dataset": dataset}))
    assert ended.code == 2
    assert "class_names" in ended.stderr


def test_a_query_that_no_device_matches_is_refused_with_the_devices_there_are(home: Home) -> None:
    ended = _refused(home, write_spec(home.specs, [GOOD], devices=[{"each": "name == 'nowhere'"}]))
    assert ended.code == 2
    assert "this-computer" in ended.stderr


def test_an_environment_without_any_runtime_is_refused_with_each_cause(home: Home) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home.specs / "bare"], check=True)
    ended = _refused(home, write_spec(home.specs, [GOOD]), EDGEMATRIX_AGENT_PYTHON=str(home.specs / "bare" / "bin" / "python"))
    assert ended.code == 2
    assert "no runtime works" in ended.stderr
    assert "install" in ended.stderr


def test_jobs_of_an_environment_that_the_device_lacks_are_skipped_and_say_how_to_add_it(home: Home) -> None:
    ended = home.run_spec(write_spec(home.specs, [GOOD], environments=["default", "other"]))
    outcomes = sorted((job.outcome or "", (job.error or {}).get("code")) for job in home.jobs())
    assert outcomes == [("completed", None), ("skipped", "missing_environment")], ended.stderr
    assert "env add other" in json.dumps([job.error for job in home.jobs()])
    home.assert_each_job_ended_once()
