"""Thirty faults of every kind befall a lab while a matrix runs; afterwards everything adds up. The long proof: ``benchmarks.chaos``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import run_chaos
from benchmarks.chaos_faults import KINDS
from benchmarks.loopback.sshd import sshd_program

SEED = 12


@pytest.fixture
def folder(agent_python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if sshd_program() is None:
        pytest.skip("there is no sshd: apt-get install openssh-server")
    monkeypatch.setenv("EDGEMATRIX_AGENT_PYTHON", str(agent_python))
    # Not under pytest's own folder: the path of a Unix socket may have 107 bytes at most.
    made = Path(tempfile.mkdtemp(prefix="edgematrix-chaos-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


# The faults take two minutes, the rest ends when it ends: a crowded machine is no finding.
@pytest.mark.timeout(1500)
def test_after_thirty_faults_each_job_has_ended_once_no_board_was_held_twice_and_surviving_runs_were_picked_up(folder: Path) -> None:
    said: list[str] = []
    run = run_chaos(folder, 30, SEED, 2.5, said.append)
    assert run.problems == [], "\n".join([*run.problems, *said])
    assert len(run.struck) == 30
    assert {item.kind for item in run.struck} == set(KINDS)
    assert run.found.picked_up
