"""The figure on sampling reads as many channels as it says, and a pause of the whole machine does not decide it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from agent.host import HostFiles
from agent.sensors import SENSORS, SensorContext
from benchmarks import board_files
from benchmarks.agent_runs import windowed_mean

SECOND = 1_000_000_000


def test_the_board_of_the_figure_has_thirty_channels_that_all_answer(tmp_path: Path) -> None:
    board_files.write(tmp_path)
    infos = []
    for kind in SENSORS.values():
        sensor = kind(SensorContext(HostFiles(sys=tmp_path), os.getpid()))
        infos += sensor.probe()
        sensor.close()
    on_board = [info for info in infos if info.source.startswith(str(tmp_path))]
    assert len(on_board) == 30
    assert [info.name for info in on_board if info.error] == []


def test_a_slowdown_in_every_window_shows_and_one_in_a_single_window_does_not() -> None:
    start_ns = np.arange(0, 4 * SECOND, 1_000_000, dtype=np.int64)
    invoke_ns = np.full(start_ns.size, 100_000)
    once, often = invoke_ns.copy(), invoke_ns.copy()
    once[10:200] = 900_000
    often[::100] = 900_000
    assert windowed_mean(start_ns, invoke_ns) == 100_000
    assert windowed_mean(start_ns, once) == 100_000
    assert windowed_mean(start_ns, often) == pytest.approx(108_000)


def test_a_run_shorter_than_a_window_has_one_mean() -> None:
    assert windowed_mean(np.array([0, 10]), np.array([100, 300])) == 200
