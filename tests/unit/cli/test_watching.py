"""Following an experiment: what is shown, and what Ctrl-C does once and twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from agent.errors import InfrastructureError
from orchestrator.cli import watching
from orchestrator.cli.interrupts import Interrupts, StopNow
from orchestrator.cli.watching import describe, follow_with_stack
from orchestrator.service.views import DeviceProgress, ExperimentSummary, Progress, RunningJob
from tests.unit.service.lab import Lab


def progress(done: int, total: int = 3, *, blocked: str | None = None) -> Progress:
    summary = ExperimentSummary("exp1", "digits", "running", "", "tester", 0, {}, total, done)
    running = None if done == total else RunningJob("exp1-1", "cnn/w8a8 latency", "steady", 30, 120, 4.2)
    return Progress(summary, (DeviceProgress("bench", done, total, running, None),), done == total, blocked)


@dataclass
class RecordingStack:
    """Stands where the embedded stack stands and writes down what was asked of it."""

    asked: list[str] = field(default_factory=list)
    on_ensure: Callable[[int], None] = lambda count: None

    def ensure(self) -> None:
        self.asked.append("ensure")
        self.on_ensure(self.asked.count("ensure"))

    def stop(self) -> None:
        self.asked.append("stop")

    def stop_now(self) -> None:
        self.asked.append("stop_now")

    @property
    def endings(self) -> list[str]:
        return [word for word in self.asked if word != "ensure"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECS", 0.01)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, quick: None) -> Callable[[list[Progress]], list[str]]:
    """Let the experiment go through given progress, one entry per look, the last one for ever; canceling ends it."""

    def play(entries: list[Progress]) -> list[str]:
        canceled: list[str] = []
        steps: Iterator[Progress] = iter(entries)
        last = [entries[0]]

        def look(_context: object, _experiment: str) -> Progress:
            last[0] = next(steps, last[0])
            return progress(3) if canceled and len(canceled) > 1 else last[0]

        def cancel(_context: object, experiment: str) -> int:
            canceled.extend([experiment, "done"])
            return 2

        monkeypatch.setattr("orchestrator.service.experiments.progress", look)
        monkeypatch.setattr("orchestrator.service.experiments.cancel", cancel)
        return canceled

    return play


def test_the_stack_is_looked_after_until_the_end_and_then_stopped_in_order(lab: Lab, script: Callable[[list[Progress]], list[str]]) -> None:
    canceled = script([progress(0), progress(1), progress(3)])
    stack = RecordingStack()
    with Interrupts() as interrupts:
        assert follow_with_stack(lab.context, ["exp1"], stack, interrupts) is True
    assert stack.asked == ["ensure", "ensure", "ensure", "stop"]
    assert canceled == []


def test_the_first_interrupt_cancels_waits_for_the_devices_and_stops_in_order(
    lab: Lab, script: Callable[[list[Progress]], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    canceled = script([progress(0)])
    stack = RecordingStack(on_ensure=lambda count: os.kill(os.getpid(), signal.SIGINT) if count == 2 else None)
    with Interrupts() as interrupts:
        assert follow_with_stack(lab.context, ["exp1"], stack, interrupts) is False
    assert canceled[0] == "exp1"
    assert stack.endings == ["stop"]
    assert "waiting for the devices" in capfd.readouterr().err


def test_sigterm_is_a_first_interrupt(lab: Lab, script: Callable[[list[Progress]], list[str]]) -> None:
    canceled = script([progress(0)])
    stack = RecordingStack(on_ensure=lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == 1 else None)
    with Interrupts() as interrupts:
        follow_with_stack(lab.context, ["exp1"], stack, interrupts)
    assert canceled[0] == "exp1"


def test_the_second_interrupt_stops_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr("orchestrator.service.experiments.progress", lambda *_: progress(0))
    monkeypatch.setattr("orchestrator.service.experiments.cancel", lambda *_: 2)
    stack = RecordingStack(on_ensure=lambda count: os.kill(os.getpid(), signal.SIGINT) if count in (1, 4) else None)
    with pytest.raises(StopNow), Interrupts() as interrupts:
        follow_with_stack(lab.context, ["exp1"], stack, interrupts)
    assert stack.endings == ["stop_now"]


def test_an_error_while_watching_leaves_no_process_behind(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Progress:
        raise InfrastructureError("the database is gone")

    monkeypatch.setattr("orchestrator.service.experiments.progress", fail)
    stack = RecordingStack()
    with pytest.raises(InfrastructureError), Interrupts() as interrupts:
        follow_with_stack(lab.context, ["exp1"], stack, interrupts)
    assert stack.endings == ["stop_now"]


def test_what_no_device_can_go_on_with_ends_the_wait_and_says_how_to_resume(
    lab: Lab, script: Callable[[list[Progress]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BLOCKED_SECS", 0.05)
    script([progress(0), progress(0, blocked="bench is bad: no runtime")])
    with pytest.raises(watching.ExperimentBlocked, match="bench is bad") as caught, Interrupts() as interrupts:
        follow_with_stack(lab.context, ["exp1"], RecordingStack(), interrupts)
    assert "edgematrix resume exp1" in caught.value.remedy


def test_signals_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_terminal_progress_is_plain_lines(
    lab: Lab, script: Callable[[list[Progress]], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    script([progress(0), progress(0), progress(3)])
    with Interrupts() as interrupts:
        follow_with_stack(lab.context, ["exp1"], None, interrupts)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["bench: 0 of 3 jobs cnn/w8a8 latency: steady 25 %, 4 s left", "bench: 3 of 3 jobs"]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (DeviceProgress("bench", 1, 3, None, "bench is bad: no disk"), "waiting: bench is bad: no disk"),
        (DeviceProgress("bench", 3, 3, None, None), ""),
        (DeviceProgress("bench", 1, 3, RunningJob("j", "cnn/w8a8 accuracy", "loading", 0, 0, None), None), "cnn/w8a8 accuracy: loading"),
        (DeviceProgress("bench", 1, 3, RunningJob("j", "x", "steady", 500, 100, -1.0), None), "x: steady 100 %"),
    ],
)
def test_a_device_is_described_by_what_it_does_or_waits_for(device: DeviceProgress, words: str) -> None:
    assert describe(device) == words


def test_of_what_lasts_each_phase_is_told_once_and_then_now_and_then(
    lab: Lab, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    view = watching._LineView(lambda: now[0])

    def look(at: float, phase: str, words: str = "", left: float | None = None) -> None:
        now[0] = at
        running = RunningJob("j", "cnn/w8a8 soak", phase, 0, 0, left, lasting=True, words=words)
        view.show(Progress(progress(0).experiment, (DeviceProgress("bench", 0, 1, running, None),), False, None))

    look(0.0, "start gate", "waits for its start temperature: 52.1 °C")
    look(60.0, "start gate", "waits for its start temperature: 44.0 °C")
    look(121.0, "start gate", "waits for its start temperature: 41.0 °C")
    look(130.0, "idle", left=9.0)
    look(132.0, "steady", left=300.0)
    look(136.0, "steady", left=296.0)
    look(250.0, "steady", left=182.0)
    look(260.0, "steady", left=172.0)
    assert capfd.readouterr().err.splitlines() == [
        "bench: 0 of 1 jobs cnn/w8a8 soak waits for its start temperature: 52.1 °C",
        "bench: 0 of 1 jobs cnn/w8a8 soak waits for its start temperature: 41.0 °C",
        "bench: 0 of 1 jobs cnn/w8a8 soak: idle, 9 s left",
        "bench: 0 of 1 jobs cnn/w8a8 soak: steady, 296 s left",
        "bench: 0 of 1 jobs cnn/w8a8 soak: steady, 172 s left",
    ]
