"""The start gate of a job: its device is read now and then, by whichever worker is nudged, until it has the temperature asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from agent.errors import ConfigurationError, InfrastructureError
from orchestrator.dispatch.device_agent import DeviceAgent, ThermalReading
from orchestrator.domain.soak import StartGate
from orchestrator.domain.start_gate import GateView, kept_readings, view_gate
from orchestrator.domain.times import format_duration

log = structlog.get_logger(__name__)

#: A sensor that is there and does not answer may be asked again for so long.
_SILENT_SECS = 30.0


class StartGateNotReached(InfrastructureError):
    """The device did not come to the temperature from which the run was to begin. Waiting once more is for a person to decide."""

    code = "start_gate_not_reached"


class StartGateUnreadable(ConfigurationError):
    """The device has no such sensor, or it does not answer."""

    code = "start_gate_unreadable"


def look_at_gate(gate: StartGate, agent: DeviceAgent, seen: dict[str, Any] | None, now: float) -> tuple[dict[str, Any], GateView | None]:
    """Take one reading and judge; return the record that the next look continues, and the view (None while the sensor is silent).

    ``seen`` is the record of the look before, ``now`` Unix seconds. The record is plain JSON: channel, since when it is waited, readings,
    and in words what is waited for. Raises :class:`StartGateNotReached` when it was waited for too long, :class:`StartGateUnreadable`.
    """
    record: dict[str, Any] = dict(seen or {"since": now, "readings": []})
    reading = _control(gate, agent.thermals())
    record["channel"] = reading.name
    record["waited_secs"] = now - float(record["since"])
    if reading.value is None:
        silent_since = float(record.setdefault("silent_since", now))
        if now - silent_since > _SILENT_SECS:
            raise StartGateUnreadable(
                f"the sensor {reading.name} of the start gate does not answer: {reading.error or 'it has no value'}",
                "name another one with start_gate.sensor, or see to the sensor: edgematrix device check",
            )
        return {**record, "words": f"{reading.name} does not answer"}, None
    record.pop("silent_since", None)
    readings = kept_readings(gate, [*((float(at), float(value)) for at, value in record["readings"]), (now, reading.value)])
    view = view_gate(gate, readings)
    record |= {
        "readings": readings,
        "words": view.words(gate),
        "temperature_c": view.temperature_c,
        "slope_c_per_min": view.slope_c_per_min,
    }
    if not view.met and record["waited_secs"] > gate.max_wait_secs:
        raise StartGateNotReached(
            f"after {format_duration(record['waited_secs'])} {reading.name} shows {view.words(gate).split(' (')[0]}",
            "cool or warm the device, widen start_gate.tolerance_c, or raise start_gate.max_wait_secs",
        )
    return record, view


def gate_patience_secs(gate: StartGate | None, record: dict[str, Any] | None) -> float:
    """How long a link may be cut while a device is waited for: as long as it would be waited for anyway."""
    return 0.0 if gate is None or record is None else gate.max_wait_secs - float(record.get("waited_secs") or 0.0)


def _control(gate: StartGate, channels: Sequence[ThermalReading]) -> ThermalReading:
    temperatures = [item for item in channels if item.unit == "°C"]
    if gate.sensor is not None:
        named = next((item for item in temperatures if item.name == gate.sensor), None)
        if named is None:
            there = ", ".join(item.name for item in temperatures) or "none"
            raise StartGateUnreadable(
                f"the device has no temperature {gate.sensor!r} for the start gate", f"name one of these in start_gate.sensor: {there}"
            )
        return named
    zones = [item for item in temperatures if item.name.startswith("thermal.") and not item.name.startswith("thermal.battery")]
    if not zones:
        raise StartGateUnreadable(
            "the device shows no temperature, so no start gate can be kept", "leave start_gate out, or name a sensor of another kind"
        )
    read = [item for item in zones if item.value is not None]
    return max(read, key=lambda item: item.value or 0.0) if read else zones[0]
