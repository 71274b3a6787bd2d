"""The start gate as its device tells it: which sensor decides, and what becomes of one that says nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from orchestrator.dispatch.device_agent import DeviceAgent, ThermalReading
from orchestrator.dispatch.gate import StartGateNotReached, StartGateUnreadable, gate_patience_secs, look_at_gate
from orchestrator.domain.soak import StartGate

GATE = StartGate(temperature_c=40.0, hold_secs=0.0, max_wait_secs=100.0)


def celsius(name: str, value: float | None, error: str | None = None) -> ThermalReading:
    return ThermalReading(name, "°C", value, error)


class Device:
    """Stands where the device's agent stands, and tells these temperatures."""

    def __init__(self, *channels: ThermalReading) -> None:
        self.channels = list(channels)

    def thermals(self) -> list[ThermalReading]:
        return self.channels


def look(device: Device, gate: StartGate = GATE, seen: dict[str, Any] | None = None, now: float = 0.0) -> dict[str, Any]:
    record, view = look_at_gate(gate, cast(DeviceAgent, device), seen, now)
    return record | {"met": view is not None and view.met}


def test_the_hottest_thermal_zone_decides_and_a_battery_is_none() -> None:
    device = Device(
        celsius("thermal.case_c", 30.0), celsius("thermal.soc_c", 41.0), celsius("thermal.battery_c", 90.0), celsius("ambient.x_c", 99.0)
    )
    assert look(device)["channel"] == "thermal.soc_c"
    assert look(device)["met"]


def test_a_sensor_that_is_named_decides_alone() -> None:
    device = Device(celsius("thermal.soc_c", 80.0), celsius("ambient.chamber_c", 40.0))
    found = look(device, GATE.model_copy(update={"sensor": "ambient.chamber_c"}))
    assert (found["channel"], found["met"]) == ("ambient.chamber_c", True)


@pytest.mark.parametrize(
    ("channels", "sensor", "what"),
    [
        ([], None, "shows no temperature"),
        ([celsius("thermal.battery_c", 30.0)], None, "shows no temperature"),
        ([ThermalReading("fan.cpu_rpm", "rpm", 900.0, None)], "fan.cpu_rpm", "no temperature 'fan.cpu_rpm'"),
        ([celsius("thermal.soc_c", 40.0)], "thermal.gpu_c", "no temperature 'thermal.gpu_c'"),
    ],
)
def test_a_gate_that_no_sensor_can_tell_of_is_refused_at_once(channels: list[ThermalReading], sensor: str | None, what: str) -> None:
    with pytest.raises(StartGateUnreadable, match=what):
        look(Device(*channels), GATE.model_copy(update={"sensor": sensor}))


def test_a_sensor_that_is_silent_for_a_moment_is_asked_again_and_then_given_up_with_its_own_words() -> None:
    silent, warm = Device(celsius("thermal.soc_c", None, "EINVAL")), Device(celsius("thermal.soc_c", 50.0))
    seen = look(silent, now=0.0)
    assert seen["words"] == "thermal.soc_c does not answer"
    seen = look(silent, seen=seen, now=25.0)
    seen = look(warm, seen=seen, now=28.0)
    seen = look(silent, seen=seen, now=40.0)
    seen = look(silent, seen=seen, now=69.0)
    with pytest.raises(StartGateUnreadable, match="EINVAL"):
        look(silent, seen=seen, now=71.0)


def test_a_zone_that_is_silent_does_not_hide_one_that_speaks() -> None:
    assert look(Device(celsius("thermal.gpu_c", None, "EINVAL"), celsius("thermal.soc_c", 40.0)))["met"]


def test_a_wait_in_vain_ends_with_the_last_temperature() -> None:
    warm = Device(celsius("thermal.soc_c", 55.5))
    seen = look(warm, now=0.0)
    with pytest.raises(StartGateNotReached, match=r"after 2 min thermal.soc_c shows 55.5 °C, steady; gate 40 ± 2 °C"):
        look(warm, seen=seen, now=101.0)


def test_a_gate_met_at_the_last_moment_is_met() -> None:
    seen = look(Device(celsius("thermal.soc_c", 55.5)), now=0.0)
    assert look(Device(celsius("thermal.soc_c", 41.0)), seen=seen, now=101.0)["met"]


def test_a_link_may_be_cut_for_as_long_as_the_device_would_be_waited_for() -> None:
    seen = look(Device(celsius("thermal.soc_c", 55.5)), now=0.0)
    seen = look(Device(celsius("thermal.soc_c", 55.5)), seen=seen, now=30.0)
    assert gate_patience_secs(GATE, seen) == 70.0
    assert gate_patience_secs(None, None) == 0.0
