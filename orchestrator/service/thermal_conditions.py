"""What may make another outcome of the same soak: read out of an attempt's conditions and telemetry, None where nothing tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agent import protocol
from orchestrator.domain.recipe import RecipeConditions
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory
from orchestrator.service.thermal import LoadedSoak

#: Temperatures differ when they lie further apart than this, °C.
_TEMPERATURES = {"ambient_c": 1.0, "start_c": 3.0}


def conditions_of(run: LoadedSoak, story: ThermalStory) -> RecipeConditions:
    """Return the conditions of an attempt; ambient and start temperature are those of its story."""
    found, runner, device = run.outcome.conditions, run.outcome.runner, run.envelope.device
    runtime = (runner.runtime if runner else None) or {}
    return RecipeConditions(
        device=device.name if device else "unknown",
        profile=device.profile if device else "unknown",
        emulated=device.emulated if device else Emulation.NONE,
        ambient_c=story.ambient_c,
        start_c=story.start_c,
        fan=_fan(run),
        power_mode=_words(found.get("power_mode")),
        governor=_governor(found),
        supply_under_voltage=_under_voltage(run),
        firmware=_words(found.get("firmware")),
        kernel=_words(_at(found, "kernel", "release")),
        runtime=" ".join(runtime[key] for key in ("name", "version") if runtime.get(key)) or None,
        environment_digest=_words(found.get("environment_digest")),
        agent_sha256=run.outcome.agent_sha256 or None,
    )


def differing(conditions: Mapping[str, RecipeConditions]) -> dict[str, dict[str, str]]:
    """Return the conditions that are known for several and not the same for all of them: field → label → value in words."""
    found: dict[str, dict[str, str]] = {}
    for name in RecipeConditions.model_fields:
        values = {label: value for label, item in conditions.items() if (value := _told(name, getattr(item, name))) is not None}
        apart = _spread_c([getattr(item, name) for item in conditions.values()]) if name in _TEMPERATURES else None
        if len(set(values.values())) > 1 and (apart is None or apart > _TEMPERATURES[name]):
            found[name] = values
    return found


def _spread_c(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else 0.0


def _told(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    return text[:12] if name in ("environment_digest", "agent_sha256") else text


def _fan(run: LoadedSoak) -> str | None:
    """What the fan did while the model ran; without a channel of one, what was set for the run."""
    turned = None
    for name, values in _channels(run):
        is_fan = name.startswith("fan.") or (name.startswith("cooling.") and "fan" in name)
        if is_fan and len(values):
            turned = bool(turned) or bool(np.max(values) > 0)
    if turned is not None:
        return "running" if turned else "standing still"
    return run.soak.surroundings.fan if run.soak.surroundings else None


def _under_voltage(run: LoadedSoak) -> bool | None:
    """Whether the supply was too weak at any time since the device booted, as far as its firmware tells."""
    flags = [values for name, values in _channels(run) if name.startswith(("under_voltage.", "sticky.under_voltage")) and len(values)]
    return any(bool(np.max(values) > 0) for values in flags) if flags else None


def _channels(run: LoadedSoak) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    telemetry = run.streams.get(protocol.TELEMETRY)
    if telemetry is None:
        return
    for index, sensor in enumerate(run.outcome.sensors):
        if sensor.name.startswith(("fan.", "cooling.", "under_voltage.", "sticky.")):
            yield sensor.name, telemetry["value"][telemetry["sensor"] == index]


def _governor(conditions: Mapping[str, Any]) -> str | None:
    policies = _at(conditions, "start", "frequency") or conditions.get("frequency")
    if not isinstance(policies, Mapping):
        return None
    found = {str(policy["governor"]) for policy in policies.values() if isinstance(policy, Mapping) and policy.get("governor")}
    return ", ".join(sorted(found)) or None


def _at(record: Mapping[str, Any], *keys: str) -> Any:
    found: Any = record
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _words(value: Any) -> str | None:
    """A fact as one short line, whatever the device sent for it."""
    if value is None or value in ("", {}, []):
        return None
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in sorted(value.items()) if item is not None)
    return " ".join(str(value).split())[:200] or None
