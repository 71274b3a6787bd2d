"""The device's own record of who used it: whole lines in the order of what happened, kept small, and never in a run's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import custody, layout
from agent import device as commands
from agent.errors import RunLost

SOURCES = Path(__file__).resolve().parents[3]


def events(root: Path) -> list[tuple[str, str]]:
    return [(line["event"], line["run"]) for line in map(json.loads, (root / custody.LOG_FILE).read_text().splitlines())]


def test_a_line_says_what_happened_to_which_run_under_which_fence_by_whom_and_when(tmp_path: Path) -> None:
    before = time.monotonic_ns()
    custody.note(tmp_path, custody.TAKEN, "job.1", 7)
    (line,) = map(json.loads, (tmp_path / custody.LOG_FILE).read_text().splitlines())
    assert (line["event"], line["run"], line["fence"], line["pid"]) == ("taken", "job.1", 7, os.getpid())
    assert before <= line["monotonic_ns"] <= time.monotonic_ns()
    assert abs(line["utc_ms"] / 1000 - time.time()) < 60
    assert line["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_many_processes_write_whole_lines_beside_each_other(tmp_path: Path) -> None:
    write = (
        "import sys; from pathlib import Path; from agent import custody\n"
        "for number in range(200): custody.note(Path(sys.argv[1]), 'taken', sys.argv[2], number)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", write, str(tmp_path), f"job{number}.1"], cwd=SOURCES) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    lines = [json.loads(line) for line in (tmp_path / custody.LOG_FILE).read_text().splitlines()]
    for number in range(4):
        assert [line["fence"] for line in lines if line["run"] == f"job{number}.1"] == list(range(200))


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "no root"])
def test_a_record_that_cannot_be_written_is_in_nobodys_way(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind != "no root":
        root.mkdir()
    path = root / custody.LOG_FILE
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "precious")
    elif kind == "pipe":
        os.mkfifo(path)
    custody.note(root, custody.TAKEN, "job.1", 1)
    custody.rotate(root)
    assert not (tmp_path / "precious").exists()


def test_a_record_that_has_grown_large_is_put_aside_once(tmp_path: Path) -> None:
    path, old = tmp_path / custody.LOG_FILE, tmp_path / custody.OLD_LOG_FILE
    custody.note(tmp_path, custody.TAKEN, "job.1", 1)
    custody.rotate(tmp_path)
    assert not old.exists(), "a small one stays"
    path.write_bytes(b"{}\n" * 400_000)
    custody.rotate(tmp_path)
    custody.note(tmp_path, custody.TAKEN, "job.2", 2)
    assert old.stat().st_size == 1_200_000
    assert events(tmp_path) == [("taken", "job.2")]


@pytest.mark.parametrize("command", ["clean", "cancel", "start of the next"])
def test_whoever_finds_a_run_lost_writes_down_that_it_is_gone(device: Any, command: str) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / layout.SUPERVISOR_LOCK_FILE).touch()
    if command == "start of the next":
        device.job(b"m", np.zeros((1, 1)), name="next.1", job_id="next")
        commands.start(device.root, "next.1", 2, lambda folder, request, lock: None)
    else:
        getattr(commands, command)(device.root, "job.1", 2)
    assert events(device.root)[0] == (custody.FOUND_GONE, "job.1")


def test_asking_for_a_lost_run_or_starting_it_again_writes_no_end_of_it(device: Any) -> None:
    folder = device.job(b"m", np.zeros((1, 1)))
    (folder / layout.SUPERVISOR_LOCK_FILE).touch()
    commands.status(device.root, "job.1", 1)
    with pytest.raises(RunLost):
        commands.start(device.root, "job.1", 1, lambda folder, request, lock: None)
    assert not (device.root / custody.LOG_FILE).exists()
