"""Times as people give and read them: ``90m``, ``2h``, ``2026-11-22T08:00``, ``14:30``, in the time zone of whoever asks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from agent.errors import ConfigurationError

_UNIT_SECS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d{1,6}(?:\.\d{1,3})?[smhdw])+", re.ASCII)
_PART = re.compile(r"([\d.]+)([smhdw])", re.ASCII)
_CLOCK = re.compile(r"\d{1,2}:\d{2}", re.ASCII)
#: Longer than this is a slip of the finger, or a decision that has no end.
_MOST_SECS = 366 * 86400.0


class WrongTime(ConfigurationError):
    code = "wrong_time"


def parse_duration(text: str) -> float:
    """Seconds of ``90m``, ``2h``, ``1d`` or ``1h30m``; raises :class:`WrongTime` for anything else, nothing, or more than a year."""
    word = text.strip().lower()
    if not _DURATION.fullmatch(word):
        raise WrongTime(f"{text!r} is no length of time", "write it as 90m, 2h, 1d or 1h30m")
    secs = sum(float(count) * _UNIT_SECS[unit] for count, unit in _PART.findall(word))
    if not 0 < secs <= _MOST_SECS:
        raise WrongTime(f"{text!r} is not between a second and a year", "write it as 90m, 2h, 1d or 1h30m")
    return secs


def parse_moment(text: str, now: float, zone: tzinfo | None = None) -> float:
    """Unix seconds of a moment ahead: ``2h`` from now, the next ``14:30``, a day, or ``2026-11-22T08:00`` with or without an offset.

    Without an offset the time is that of ``zone``, by default this computer's. Raises :class:`WrongTime` for a moment that has passed.
    """
    word = text.strip()
    if _DURATION.fullmatch(word.lower()):
        return now + parse_duration(word)
    here = _at(now, zone)
    try:
        if _CLOCK.fullmatch(word):
            hour, minute = map(int, word.split(":"))
            wanted = _local(here.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None, fold=0), zone)
            if wanted.timestamp() <= now:
                wanted = _local(wanted.replace(tzinfo=None) + timedelta(days=1), zone)
        else:
            read = datetime.fromisoformat(word)
            wanted = read if read.tzinfo else _local(read, zone)
        at = wanted.timestamp()
    except (ValueError, OverflowError) as error:
        raise WrongTime(f"{text!r} is no time", "write it as 2h, 14:30 or 2026-11-22T08:00") from error
    if at <= now:
        raise WrongTime(f"{format_moment(at, now, zone)} has passed", "give a time ahead, such as 2h or 14:30")
    if at > now + _MOST_SECS:
        raise WrongTime(f"{format_moment(at, now, zone)} is more than a year ahead", "give a time within a year")
    return at


def format_moment(at: float, now: float, zone: tzinfo | None = None) -> str:
    """``14:30 CET`` on the day of ``now``, ``2026-11-22 08:00 CET`` on any other; the zone is always said."""
    moment = _at(at, zone)
    pattern = "%H:%M" if moment.date() == _at(now, zone).date() else "%Y-%m-%d %H:%M"
    return moment.strftime(f"{pattern} %Z")


def format_duration(secs: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min`` or ``2 d 4 h``: as exact as a person wants to know."""
    whole = max(0, round(secs))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def utc_text(at: float) -> str:
    """The form of times in JSON: ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _at(moment: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(moment, UTC).astimezone(zone)


def _local(naive: datetime, zone: tzinfo | None) -> datetime:
    """A wall-clock time in the zone; a naive time's own ``astimezone`` reads it as this computer's."""
    return naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
