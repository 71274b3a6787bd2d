"""The plant as a process: every 20 ms it looks how much the device has worked, warms it up, and slows it down when it is too hot."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from .board import Board, Readings
from .governor import Steps
from .groups import ControlGroup
from .journal import Journal
from .settings import Control, Settings, read_control, read_settings

STEP_SECS = 0.02
_JOURNAL_STEPS = 5
_STATE_STEPS = 10
CONTROL_FILE, STATE_FILE, SYS_FOLDER = "control.json", "state.json", "sys"


@dataclass(frozen=True)
class State:
    """What is true now, for people and programs outside. ``control`` is the number of the last order that was followed."""

    device: str
    control: int
    time_ns: int
    die_c: float
    board_c: float
    ambient_c: float
    watts: float
    cores: float
    level: int
    ratio: float
    fan: str
    rpm: int
    faults: tuple[str, ...]


class Group(Protocol):
    """What a plant needs of a control group."""

    def usage_ns(self) -> int: ...

    def limit(self, cores: float | None, period_us: int) -> None: ...


class Plant:
    """One device's heat. Begins at rest: idle for so long that nothing changes any more."""

    def __init__(self, settings: Settings, board: Board, group: Group, journal: Journal, now_ns: int) -> None:
        self.settings = settings
        self._board, self._group, self._journal = board, group, journal
        self._bodies = settings.bodies
        self._governor, self._fan = Steps(settings.trips), Steps(settings.fan)
        self._control = Control()
        self._time_ns, self._usage_ns = now_ns, group.usage_ns()
        self._watts, self._cores = settings.idle_watts, 0.0
        self._level: int | None = None
        self._steps = 0
        self.die_c = self.board_c = 0.0
        self._rest()

    @property
    def ambient_c(self) -> float:
        asked = self._control.ambient_c
        return self.settings.ambient_c if asked is None else asked

    @property
    def ratio(self) -> float:
        return self.settings.trips[self._governor.level - 1].clock_ratio if self._governor.level else 1.0

    @property
    def state(self) -> State:
        return State(
            device=self.settings.device,
            control=self._control.number,
            time_ns=self._time_ns,
            die_c=round(self.die_c, 3),
            board_c=round(self.board_c, 3),
            ambient_c=self.ambient_c,
            watts=round(self._watts, 3),
            cores=round(self._cores, 4),
            level=self._governor.level,
            ratio=self.ratio,
            fan=self._control.fan if self.settings.fan else "none",
            rpm=self._rpm,
            faults=self._control.faults,
        )

    def obey(self, control: Control) -> None:
        """Follow an order from outside."""
        rests = control.rest != self._control.rest
        self._control = control
        self._board.under_voltage("under-voltage" in control.faults)
        if rests:
            self._rest()

    def step(self, now_ns: int) -> None:
        """Bring everything to ``now_ns``, for the power that the device has really used since the step before."""
        usage_ns = self._group.usage_ns()
        elapsed_ns = max(1, now_ns - self._time_ns)
        self._cores = max(0, usage_ns - self._usage_ns) / elapsed_ns
        self._watts = self.settings.idle_watts + self.settings.core_watts * self._cores
        self.die_c, self.board_c = self._bodies.after(
            self.die_c, self.board_c, elapsed_ns / 1e9, self._watts, self.ambient_c, self._board_c_per_watt
        )
        self._time_ns, self._usage_ns = now_ns, usage_ns
        self._govern()
        changed = self._governor.level != self._level
        if changed:
            self._level = self._governor.level
            self._group.limit(self.ratio if self._level else None, round(self.settings.quota_period_ms * 1000))
        self._board.say(self._readings(), frozenset(self._control.faults))
        if changed or self._steps % _JOURNAL_STEPS == 0:
            self._note()
        self._steps += 1

    def close(self) -> None:
        """Close its files; they stay."""
        self._board.close()
        self._journal.close()

    def _govern(self) -> None:
        self._governor.follow(self.die_c)
        self._fan.follow(self.die_c)
        if self._control.fan != "auto":
            self._fan.level = len(self.settings.fan) if self._control.fan == "on" else 0

    @property
    def _blowing(self) -> int:
        """The level at which the fan really turns."""
        return 0 if "fan-stop" in self._control.faults else self._fan.level

    @property
    def _board_c_per_watt(self) -> float:
        return self.settings.fan[self._blowing - 1].board_c_per_watt if self._blowing else self.settings.board_c_per_watt

    @property
    def _rpm(self) -> int:
        return self.settings.fan[self._blowing - 1].rpm if self._blowing else 0

    def _rest(self) -> None:
        """Stand idle until nothing changes any more; the fan goes as far down as the heat then lets it."""
        self._fan.level = self._governor.level = 0
        for _ in range(len(self.settings.fan) + 1):
            self.die_c, self.board_c = self._bodies.steady(self.settings.idle_watts, self.ambient_c, self._board_c_per_watt)
            self._govern()

    def _readings(self) -> Readings:
        return Readings(self.die_c, self.ambient_c, self._watts, self._governor.level, self.ratio, self._fan.level, self._rpm)

    def _note(self) -> None:
        faults = "+".join(self._control.faults) or "none"
        self._journal.note(
            *(self._time_ns, self.die_c, self.board_c, self.ambient_c, self._watts, self._usage_ns, self._governor.level, self.ratio),
            *(self._rpm, faults),
        )


def main(config: str) -> None:
    """Run until SIGTERM; the device has all its time again afterwards."""
    settings = read_settings(Path(config))
    _make_way(settings.core)
    folder = Path(settings.folder)
    group = ControlGroup(settings.group)
    plant = Plant(settings, Board(folder / SYS_FOLDER, settings), group, Journal(Path(settings.journal)), time.monotonic_ns())
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        _run(plant, folder, lambda: not ended)
    finally:
        group.unlimit()
        plant.close()


def _make_way(core: int) -> None:
    """Leave the device's core to the device, where there is another."""
    others = os.sched_getaffinity(0) - {core}
    if others:
        os.sched_setaffinity(0, others)


def _run(plant: Plant, folder: Path, goes_on: Callable[[], bool]) -> None:
    seen, steps = 0, 0
    due = time.monotonic()
    while goes_on():
        written = _written_ns(folder / CONTROL_FILE)
        if written != seen:
            plant.obey(read_control(folder / CONTROL_FILE))
            seen = written
        plant.step(time.monotonic_ns())
        if steps % _STATE_STEPS == 0:
            _publish(plant.state, folder / STATE_FILE)
        steps += 1
        due = max(due + STEP_SECS, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _publish(state: State, path: Path) -> None:
    """Replace the file whole: its readers open it anew each time."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(asdict(state)), encoding="utf-8")
    os.replace(new, path)


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
