"""Programs that a supervisor may meet as its runner: ``stand_in_runner.py BEHAVIOUR --supervisor PID``, started in the run's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent import protocol, runner_process
from agent.errors import ShapeMismatch


def report(**facts: object) -> None:
    Path(protocol.RUNNER_REPORT_FILE).write_text(protocol.to_json(protocol.RunnerReport(**facts)))  # type: ignore[arg-type]


def hang() -> None:
    Path("hanging").touch()
    while True:
        time.sleep(60)


def begin() -> None:
    Path(protocol.RUNNER_START_FILE).write_text(protocol.to_json(protocol.RunnerStart(1234, {"name": "stand-in"})))
    Path("affinity").write_text(repr(sorted(os.sched_getaffinity(0))))


def soak(ends_when_asked: bool) -> int:
    """Run until the file ``enough`` is there, or until it is asked to end, if it listens."""
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    begin()
    Path("soaking").touch()
    while not (ends_when_asked and asked):
        if Path("enough").exists():
            report(steady_count=7, soak=protocol.SoakReport())
            return 0
        time.sleep(0.01)
    report(steady_count=3, soak=protocol.SoakReport())
    return 4


def fill_the_disk() -> None:
    with open("filler", "wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while True:
                    file.write(b"\xff" * size)
            except OSError:
                continue


def main() -> int:
    behaviour = sys.argv[1]
    runner_process.prepare(int(sys.argv[sys.argv.index("--supervisor") + 1]))
    if behaviour == "completes":
        report(steady_count=7)
    elif behaviour == "refuses":
        report(error=ShapeMismatch("the model takes 10 values, the inputs have 9", "reshape").to_json())
        return 3
    elif behaviour.startswith("SIG"):
        report()  # a report that was written does not make a crash a success
        os.kill(os.getpid(), getattr(signal, behaviour))
        time.sleep(60)
    elif behaviour in ("dies_looking", "hangs_looking"):
        report(steady_count=7, placement=protocol.Placement("default", [], cause=protocol.PLACEMENT_UNFINISHED))
        if behaviour == "hangs_looking":
            hang()
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
    elif behaviour == "exits_7":
        sys.stderr.write("cannot initialise the accelerator\n")
        return 7
    elif behaviour == "raises":
        raise ValueError("a mistake of ours")
    elif behaviour == "damages_its_report":
        Path(protocol.RUNNER_REPORT_FILE).write_text("{")
    elif behaviour == "reports_nan":
        Path(protocol.RUNNER_REPORT_FILE).write_text('{"error": {"message": NaN}}')
        return 3
    elif behaviour == "is_noisy":
        sys.stderr.write("first words\n" + "x" * 5_000_000 + "\nlast words\n")
        report()
    elif behaviour == "leaves_a_child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path("child_pid").write_text(str(child.pid))
        report()
    elif behaviour == "hangs":
        hang()
    elif behaviour in ("soaks", "never_ends"):
        return soak(behaviour == "soaks")
    elif behaviour == "begins_and_is_killed":
        begin()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    elif behaviour == "fills_the_disk":
        fill_the_disk()
        sys.stderr.write("x" * 20_000)  # which the supervisor cannot keep any more
        sys.stderr.flush()
        hang()
    elif behaviour != "forgets_its_report":
        raise SystemExit(f"no such behaviour: {behaviour}")
    return 0


raise SystemExit(main())
