"""Checks between the parts of a soak, and between a soak and the rest of its spec; of plain values, as in ``spec_checks``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.domain.mistakes import Mistake, Path, Source
from orchestrator.domain.soak import Cooldown, Probe, SoakScenario

#: The agent samples a soak within these bounds, in Hz.
_SLOWEST_HZ, _FASTEST_HZ = 1, 50
_SOAK: Path = ("scenarios", "soak")


def soak_checks(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    """Yield the mistakes of a soak that no single value of it shows."""
    scenarios = _mapping(spec.get("scenarios"))
    if "soak" not in scenarios:
        return
    soak = _mapping(scenarios["soak"])
    yield from _sampling(spec, soak, source)
    yield from _lengths(soak, source)
    yield from _temperatures(soak, source)
    if isinstance(soak.get("surroundings"), dict) and not any(value is not None for value in soak["surroundings"].values()):
        yield source.mistake((*_SOAK, "surroundings"), "nothing is to be set", "name `chamber_c` or `fan`, or leave surroundings out")


def _sampling(spec: dict[str, Any], soak: dict[str, Any], source: Source) -> Iterator[Mistake]:
    everywhere = _number(spec.get("telemetry_hz", 10.0))
    if soak.get("telemetry_hz") is None and everywhere is not None and not _SLOWEST_HZ <= everywhere <= _FASTEST_HZ:
        message = f"a soak is sampled {_SLOWEST_HZ} to {_FASTEST_HZ} times a second, and telemetry_hz is {everywhere:g}"
        yield source.mistake(("telemetry_hz",), message, "give the soak its own: scenarios: {soak: {telemetry_hz: 10}}")


def _lengths(soak: dict[str, Any], source: Source) -> Iterator[Mistake]:
    duration = _number(soak.get("duration_secs", SoakScenario().duration_secs))
    window = _number(soak.get("window_secs", SoakScenario().window_secs))
    if duration is None:
        return
    if window is not None and 2 * window > duration:
        message = f"a soak of {duration:g} s has no two windows of {window:g} s: burst and sustained rate would be the same"
        yield source.mistake((*_SOAK, "window_secs"), message, f"write window_secs: {duration / 10:g}, or soak longer")
    probe = soak.get("probe", {})
    every = _number(_mapping(probe).get("every_secs", Probe().every_secs))
    if probe is not None and every is not None and every >= duration:
        message = f"probes every {every:g} s are never answered in {duration:g} s of load"
        yield source.mistake((*_SOAK, "probe", "every_secs"), message, f"write every_secs: {duration / 10:g}, or `probe: null` for none")


def _temperatures(soak: dict[str, Any], source: Source) -> Iterator[Mistake]:
    """Nothing waits for a temperature that the safety stop never lets the device reach, or that it is beyond already."""
    stop = _number(_mapping(soak.get("stop")).get("above_c"))
    for path in (("precondition", "until_c"), ("pattern", "thermal_cycle", "high_c")):
        wanted = _number(_at(soak, path))
        if stop is not None and wanted is not None and wanted >= stop:
            message = f"{wanted:g} °C is never reached: the soak stops above {stop:g} °C"
            yield source.mistake((*_SOAK, *path), message, "lower it, or raise stop.above_c")
    gate = _number(_at(soak, ("start_gate", "temperature_c")))
    if gate is not None and stop is not None and gate >= stop:
        message = f"the run begins at {gate:g} °C and stops above {stop:g} °C: it would stop at once"
        yield source.mistake((*_SOAK, "start_gate", "temperature_c"), message, "lower it, or raise stop.above_c")
    until = _number(_at(soak, ("precondition", "until_c")))
    if gate is not None and until is not None and until <= gate:
        message = f"the run begins at {gate:g} °C, and preconditioning ends at {until:g} °C: it would do nothing"
        yield source.mistake((*_SOAK, "precondition", "until_c"), message, "raise it, or leave precondition out")
    cooldown = _mapping(soak.get("cooldown"))
    if cooldown.get("until_c") is not None and _number(cooldown.get("secs", Cooldown().secs)) == 0:
        message = "the device is watched for no time at all, so no temperature ends that"
        yield source.mistake((*_SOAK, "cooldown", "until_c"), message, "give cooldown.secs, the longest that it may take")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = _mapping(value).get(part)
    return value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
