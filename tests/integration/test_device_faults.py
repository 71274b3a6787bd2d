"""What lies on a device may be damaged, missing or hostile, and its disk full: nothing of it is believed, followed or lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import DIGITS, GOOD, Home, measured_for, stopped, write_spec

#: What a hostile device writes in place of a file; it must never be read.
SECRET = b"what stands here belongs to the orchestrator alone"


def test_content_that_rotted_on_the_device_is_found_replaced_and_measured(home: Home) -> None:
    spec = write_spec(home.specs, [GOOD])
    assert home.run_spec(spec).code == 0
    content = home.root / "content" / hashlib.sha256((DIGITS / "onnx_fp32.onnx").read_bytes()).hexdigest()
    data = bytearray(content.read_bytes())
    data[len(data) // 2] ^= 1
    content.write_bytes(data)
    ended = home.run_spec(spec)
    assert ended.code == 0, ended.stderr
    assert home.attempt_errors() == ["digest_mismatch"]
    assert [job.attempts for job in home.jobs()] == [1, 2]
    home.assert_all_completed()


def _edit_outcome(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    def tamper(folder: Path, outside: Path) -> None:
        outcome = json.loads((folder / "outcome.json").read_text())
        change(outcome)
        (folder / "outcome.json").write_text(json.dumps(outcome))

    return tamper


def _replace(name: str, data: bytes) -> Callable[[Path, Path], None]:
    return lambda folder, outside: (folder / name).write_bytes(data) and None


def _cut(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, outside: os.truncate(folder / name, (folder / name).stat().st_size - 7)


def _link(name: str) -> Callable[[Path, Path], None]:
    def tamper(folder: Path, outside: Path) -> None:
        (folder / name).rename(outside / name)
        (folder / name).symlink_to(outside / name)

    return tamper


def _folder_in_place(folder: Path, outside: Path) -> None:
    (folder / "outcome.json").unlink()
    (folder / "outcome.json").mkdir()


def _pipe_in_place(folder: Path, outside: Path) -> None:
    (folder / "outcome.json").unlink()
    os.mkfifo(folder / "outcome.json")


def _claim_foreign_columns(folder: Path, outside: Path) -> None:
    """A whole, honest spool in the wrong place, with a digest that fits."""
    data = (folder / "telemetry.spool").read_bytes()
    (folder / "queries.spool").write_bytes(data)
    reference = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    _edit_outcome(lambda outcome: outcome["streams"].update(queries=reference))(folder, outside)


TAMPERING: dict[str, Callable[[Path, Path], None]] = {
    "garbage": _replace("outcome.json", os.urandom(4096)),
    "no text": _replace("outcome.json", b'{"protocol": "\xff\xfe"}'),
    "nested without end": _replace("outcome.json", b"[" * 1_000_000),
    "larger than a message": _replace("outcome.json", b"{" + b" " * (5 * 1024 * 1024) + b"}"),
    "of another job": _edit_outcome(lambda outcome: outcome.update(job_id="somebody-else")),
    "an unknown field": _edit_outcome(lambda outcome: outcome.update(command="rm -rf /")),
    "no number": _edit_outcome(lambda outcome: outcome.update(duration_secs=float("nan"))),
    "a stream larger than can be": _edit_outcome(lambda outcome: outcome["streams"]["queries"].update(size_bytes=2**62)),
    "a stream of negative size": _edit_outcome(lambda outcome: outcome["streams"]["queries"].update(size_bytes=-1)),
    "no streams at all": _edit_outcome(lambda outcome: outcome.update(streams={})),
    "foreign columns": _claim_foreign_columns,
    "a torn spool": _cut("queries.spool"),
    "a linked outcome": _link("outcome.json"),
    "a linked spool": _link("queries.spool"),
    "a folder in place": _folder_in_place,
    "a pipe in place": _pipe_in_place,
}


def test_whatever_a_hostile_device_answers_is_refused_and_the_job_is_measured_again(home: Home) -> None:
    scenario = measured_for(0.3)["latency"] | {"repeats": len(TAMPERING)}
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios={"latency": scenario}))
    for number, tamper in enumerate(TAMPERING.values(), 1):
        folder = home.wait_for_measuring(1, number)
        with stopped(home.process("orchestrator.worker worker")):
            home.wait_for(lambda folder=folder: True if (folder / "outcome.json").exists() and not home.lives(folder) else None)  # type: ignore[misc]
            tamper(folder, home.specs)
    ended = command.end()
    assert ended.code == 0, ended.stderr
    assert {name: job.attempts for name, job in zip(TAMPERING, home.jobs(), strict=True)} == dict.fromkeys(TAMPERING, 2)
    refused = ("device_reply_invalid", "digest_mismatch", "spool_damaged", "run_lost")
    codes = dict(zip(TAMPERING, home.attempt_errors(), strict=True))
    assert {name: code for name, code in codes.items() if code not in refused} == {}
    home.assert_all_completed()
    home.assert_nothing_runs()


def test_text_that_no_database_keeps_ends_its_job_like_any_other(home: Home) -> None:
    def fail(outcome: dict[str, Any]) -> None:
        outcome.update(status="error", error={"class": "job", "code": "invoke_failed", "message": "nul \0 half \ud800", "remedy": "none"})

    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(0.5)))
    folder = home.wait_for_measuring()
    with stopped(home.process("orchestrator.worker worker")):
        home.wait_for(lambda: True if (folder / "outcome.json").exists() else None, "the outcome")
        _edit_outcome(fail)(folder, home.specs)
    assert command.end().code == 1
    (job,) = home.jobs()
    assert (job.outcome, (job.error or {})["code"]) == ("error", "invoke_failed")
    home.assert_each_job_ended_once()


def test_links_in_the_folder_of_a_run_lead_nobody_outside(home: Home) -> None:
    outside = home.specs / "outside"
    outside.write_bytes(SECRET)
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(2)))
    folder = home.wait_for_measuring()
    for name in ("progress", "read_mark", "cancel", "outcome.json"):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
        (folder / name).symlink_to(outside)
    command.end()
    assert outside.read_bytes() == SECRET
    assert SECRET.decode() not in json.dumps([job.error for job in home.jobs()])
    home.assert_each_job_ended_once()
    home.assert_nothing_runs()


# --- disks ------------------------------------------------------------------------------------------------------------


#: A little more than a device of this profile must have free.
_ROOMY = "640m"


@contextlib.contextmanager
def _disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own, as small as this; skips where we may not mount one."""
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(ballast: Path) -> None:
    """Take all room there is, to the last page, before what runs can end."""
    with ballast.open("wb", buffering=0) as file:
        found = os.fstatvfs(file.fileno())
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, (found.f_bavail - 64) * found.f_frsize))
        file.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass


def test_a_full_device_stops_the_experiment_with_the_reason_and_resume_finishes_it(home: Home) -> None:
    with _disk(home.root, _ROOMY):
        command = home.start_spec(write_spec(home.specs, [GOOD], scenarios={"accuracy": {}, **measured_for(5)}))
        home.wait_for_measuring()
        _fill(home.root / "ballast")
        ended = command.end()
        assert ended.code == 3, ended.stderr
        assert "0 MB are free" in " ".join(ended.stderr.split())
        assert "edgematrix resume" in ended.stderr
        assert home.health()[0] == "bad"
        home.assert_nothing_runs()
        assert "finished" not in {job.state for job in home.jobs() if job.scenario == "latency"}, "what waits is not used up on a full disk"
        (home.root / "ballast").unlink()
        resumed = home.run("resume", "--no-report")
        assert resumed.code == 0, resumed.stderr
        home.assert_all_completed()
        home.assert_nothing_runs()


def test_a_home_that_cannot_be_written_is_refused_with_the_variable_to_set(home: Home) -> None:
    home.path.write_text("a file stands where the home should be")
    ended = home.run_spec(write_spec(home.specs, [GOOD]))
    assert ended.code == 3
    assert "EDGEMATRIX_HOME" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_home_that_became_read_only_is_told_and_nothing_is_left_running(home: Home) -> None:
    with _disk(home.path, _ROOMY):
        spec = write_spec(home.specs, [GOOD])
        assert home.run_spec(spec).code == 0
        subprocess.run(["mount", "-o", "remount,ro", home.path], check=True)
        ended = home.run_spec(spec)
        assert ended.code == 3, ended.stderr
        assert "Traceback" not in ended.stderr
        home.assert_nothing_runs()
        subprocess.run(["mount", "-o", "remount,rw", home.path], check=True)
        assert home.run_spec(spec).code == 0
        home.assert_all_completed()


def test_a_home_whose_disk_is_full_loses_nothing_that_was_measured(home: Home) -> None:
    with _disk(home.path, _ROOMY):
        spec = write_spec(home.specs, [GOOD], scenarios={"accuracy": {}, **measured_for(1)})
        command = home.start_spec(spec)
        home.wait_for(lambda: True if home.query("SELECT 1 FROM result") else None, "a first result")
        (before,) = home.query("SELECT job_id, published_at FROM result")
        _fill(home.path / "ballast")
        ended = command.end()
        assert ended.code == 3, ended.stderr
        assert "no room" in ended.stderr
        home.assert_nothing_runs()
        (home.path / "ballast").unlink()
        assert home.run("resume", "--no-report").code == 0
        assert before in home.query("SELECT job_id, published_at FROM result")
        home.assert_each_job_ended_once()
        home.assert_nothing_runs()
