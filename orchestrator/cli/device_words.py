"""How a device's state reads to a person: its health with who decided it, and who has reserved it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cli.output import plain
from orchestrator.domain.times import format_moment

if TYPE_CHECKING:
    from orchestrator.service.views import DeviceView


def health_words(view: DeviceView, now: float) -> str:
    """``maintenance by ada until 14:30 CET: new fan``, or just ``good``."""
    by = "" if view.health_set_by == "system" else f" by {view.health_set_by}"
    until = f" until {local_time(view.health_until_utc, now)}" if view.health_until_utc else ""
    return f"{view.health}{by}{until}" + (f": {view.health_reason}" if view.health_reason else "")


def use_words(view: DeviceView) -> str:
    """What holds the device: the job that runs, the reservation, both, or ``idle``."""
    parts = [view.running_job or "", view.reserved.text if view.reserved else ""]
    return "; ".join(part for part in parts if part) or "idle"


def tried_words(view: DeviceView) -> str:
    """``no: not yet run on a physical board``, of the kind of board the device is."""
    return ("yes" if view.tried_on_hardware else "no") + (f": {view.tried_note}" if view.tried_note else "")


def device_record(view: DeviceView, now: float) -> dict[str, Any]:
    """Everything of a device, with its health and its use in words."""
    in_words = {"health": health_words(view, now), "use": use_words(view), "tried_on_hardware": tried_words(view)}
    told_there = ("tried_note", "health_reason", "health_set_by", "health_until_utc", "reserved", "running_job", "facts")
    return {name: value for name, value in (plain(view) | in_words).items() if name not in told_there} | {"facts": plain(view.facts)}


def local_time(utc: str, now: float) -> str:
    """A time of a JSON record in this computer's time zone."""
    return format_moment(datetime.fromisoformat(utc).timestamp(), now)
