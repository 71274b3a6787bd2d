"""A soak on the device: its parts in order, probes beside the load, and an end that keeps everything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import unary

from agent import protocol, runtimes
from agent.protocol import PHASES, LoadSettings, ProbeSettings, SoakSettings
from agent.runner import EXIT_COMPLETED, main
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
