"""Where a device slows down by its own account: the trip points of the zone that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Trip points at which a kernel slows a device down. An active one starts a fan, a critical one shuts the device down.
_SLOWING = ("passive", "hot")


def trip_point(conditions: Mapping[str, Any], channel: str | None) -> float | None:
    """Return the lowest passive trip point of a channel's zone, else the lowest hot one, °C; None where the conditions tell of none.

    Conditions come from the device, so anything else there is passed over.
    """
    zones = conditions.get("thermal_zones")
    if channel is None or not isinstance(zones, Mapping):
        return None
    wanted = _letters(channel.removeprefix("thermal.").removesuffix("_c"))
    for kind, zone in zones.items():
        trips = zone.get("trip_points") if isinstance(zone, Mapping) else None
        if _letters(str(kind)) != wanted or not isinstance(trips, list):
            continue
        for slowing in _SLOWING:
            found = [float(trip["temperature_c"]) for trip in trips if _is_trip(trip) and trip["type"] == slowing]
            if found:
                return min(found)
    return None


def _is_trip(trip: Any) -> bool:
    if not isinstance(trip, Mapping):
        return False
    celsius = trip.get("temperature_c")
    # Zero and below are how a kernel says that a trip point is not set.
    return isinstance(celsius, (int, float)) and not isinstance(celsius, bool) and celsius > 0


def _letters(text: str) -> str:
    """Channel names spell a zone's type in their own way."""
    return "".join(letter for letter in text.lower() if letter.isalnum())
