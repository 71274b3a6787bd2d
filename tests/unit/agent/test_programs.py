"""Programs are asked without ever holding up whoever asks, whatever they do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sensor_boards import Board

from agent import programs
from agent.programs import Polled, Programs


def polled(board: Board, name: str = "ask") -> Polled:
    path = board.programs.find(name)
    assert path is not None
    return Polled(board.programs, [path, "me"])


def answer_of(asked: Polled) -> str:
    end = time.monotonic() + 20
    while True:
        try:
            return asked.read()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_each_reading_takes_the_answer_to_the_one_before(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.answer("ask me", "one\n")
    asked = polled(board)
    assert asked.wait_first(10) == "one\n"
    assert asked.read() == "one\n", "the first answer counts as the first reading"
    board.answer("ask me", "two\n")
    while answer_of(asked) != "two\n":
        pass
    asked.close()


def test_a_program_that_fails_is_an_error_and_is_asked_again(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.answer("ask me", "half an answer", then="exit 3")
    asked = polled(board)
    with pytest.raises(OSError, match="exit status 3"):
        asked.wait_first(10)
    board.answer("ask me", "whole\n")
    assert answer_of(asked) == "whole\n"
    asked.close()


def test_a_program_that_hangs_is_ended_with_what_it_started_and_asked_anew(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.answer("ask me", "", then=f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    asked = polled(board)
    with pytest.raises(OSError, match="not asked yet"):
        asked.read()
    deadline = time.monotonic() + 20
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
        assert time.monotonic() < deadline
    child = int((tmp_path / "child").read_text())
    board.answer("ask me", "here again\n")
    assert answer_of(asked) == "here again\n"
    asked.close()
    while Path(f"/proc/{child}").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline


def test_a_program_that_prints_without_end_fills_no_pipe_and_little_memory(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.answer("ask me", "x" * 1_000_000 + "the end")
    asked = polled(board)
    text = asked.wait_first(20)
    assert text.endswith("the end")
    assert len(text) == programs.MAX_OUTPUT_BYTES
    asked.close()


def test_a_program_that_takes_too_long_for_a_single_answer_is_ended(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.answer("ask me", "", then="sleep 1000")
    path = board.programs.find("ask")
    assert path is not None
    with pytest.raises(OSError, match="did not end"):
        board.programs.run([path, "me"], 0.05)


def test_an_interpreter_without_memory_files_asks_programs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    board = Board(tmp_path)
    board.answer("ask me", "one\n")
    path = board.programs.find("ask")
    assert path is not None
    assert board.programs.run([path, "me"], 10) == "one\n"


def test_descriptors_are_given_back_also_when_a_program_cannot_be_started(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="nothing-here"):
        Programs().run([str(tmp_path / "nothing-here")], 1)
    assert Programs([str(tmp_path)]).find("nothing-here") is None
    assert len(os.listdir("/proc/self/fd")) == before
