"""What a plant is made of, as its configuration file says it: checked where it was written, read here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .physics import Bodies

#: What can go wrong on purpose, while the plant runs.
FAULTS = ("stuck-sensor", "vanished-zone", "under-voltage", "fan-stop")
FAN_MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class Trip:
    """From ``at_c`` on, and until ``hysteresis_c`` below it, the clock is at most ``clock_ratio`` of its maximum."""

    at_c: float
    hysteresis_c: float
    clock_ratio: float


@dataclass(frozen=True)
class FanStep:
    """From ``at_c`` on, and until ``hysteresis_c`` below it, the board gets rid of its heat through ``board_c_per_watt``."""

    at_c: float
    hysteresis_c: float
    board_c_per_watt: float
    rpm: int


@dataclass(frozen=True)
class Settings:
    """``group``, ``folder`` and ``journal``: the device's control group, where its files live, and the plant's own record."""

    device: str
    board: str
    ambient_c: float
    idle_watts: float
    core_watts: float
    die_tau_secs: float
    board_tau_secs: float
    die_c_per_watt: float
    board_c_per_watt: float
    trips: tuple[Trip, ...]
    fan: tuple[FanStep, ...]
    max_khz: int
    resolution_c: float
    quota_period_ms: float
    core: int
    group: str
    folder: str
    journal: str

    @property
    def bodies(self) -> Bodies:
        """The two bodies. Their own time constants are those of each alone; the whole has :meth:`Bodies.time_constants`."""
        return Bodies(self.die_tau_secs / self.die_c_per_watt, self.board_tau_secs / self.board_c_per_watt, self.die_c_per_watt)


def read_settings(path: Path) -> Settings:
    """Read the file that the lab wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    trips = tuple(Trip(**item) for item in found.pop("trips"))
    fan = tuple(FanStep(**item) for item in found.pop("fan"))
    return Settings(**found, trips=trips, fan=fan)


@dataclass(frozen=True)
class Control:
    """What somebody outside wants of the plant now. ``rest`` counts the orders to stand idle for so long that nothing changes any more."""

    number: int = 0
    ambient_c: float | None = None
    fan: str = "auto"
    faults: tuple[str, ...] = ()
    rest: int = 0


def read_control(path: Path) -> Control:
    """Read what the lab's command wrote; nothing was asked while there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return Control()
    return Control(**{**found, "faults": tuple(found["faults"])})
