"""A device is fit when it is reached, answers, has room, tells a right time and runs a tiny model; and it says why when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import select

from agent.errors import DeviceUnreachable
from orchestrator import transports
from orchestrator.dispatch.check_schedule import BAD_FIRST_SECS, BOOT_SECS
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health import HealthCheck, check_device, golden_digest
from orchestrator.dispatch.power_cycle import PowerCycleInvalid, cycle_command
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Device, Environment, StateChange
from orchestrator.transports.ssh_errors import HostKeyChanged, LoginRefused
from tests.unit.dispatch.scripted_device import HEALTHY, ScriptedDevice


class Bench:
    def __init__(self, gateway: Gateway, wire: ScriptedDevice) -> None:
        self.gateway, self.wire = gateway, wire
        self.now = 500.0

    def check(self) -> dict[str, HealthCheck]:
        return {finding.name: finding for finding in check_device(self.gateway, "pi")}

    @property
    def device(self) -> Device:
        with read_session(self.gateway.engine) as opened:
            return opened.exec(select(Device)).one()

    def update(self, **values: Any) -> None:
        with session(self.gateway.engine) as opened:
            opened.execute(update(Device).values(**values))


@pytest.fixture
def bench(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    import time

    wire = ScriptedDevice(clock=time.time)
    monkeypatch.setitem(transports.TRANSPORTS, "scripted", lambda address: wire)
    with session(database) as opened:
        device = Device(
            name="pi",
            profile="linux-arm64",
            gateway="g1",
            transport="scripted",
            address={},
            root="/r",
            labels={},
            health=DeviceHealth.UNKNOWN,
            facts={"machine": "aarch64"},
            added_at=0.0,
        )
        opened.add(device)
        opened.flush()
        assert device.id is not None
        opened.add(
            Environment(
                device_id=device.id,
                name="default",
                interpreter=["python3"],
                digest="e",
                facts={},
                checked_at=0.0,
                golden_digest=golden_digest({"onnx": {"available": True, "golden_sha256": "5" * 64}}),
            )
        )
    made = Bench(Gateway(database, ArtifactStore(str(tmp_path / "artifacts")), tmp_path / "gateway", lambda: made.now, "local"), wire)
    return made


def test_a_device_that_passes_is_good_and_what_was_found_is_kept(bench: Bench) -> None:
    assert {finding.status for finding in bench.check().values()} == {"ok"}
    device = bench.device
    assert (device.health, device.health_reason) == (DeviceHealth.GOOD, "")
    assert device.facts["machine"] == "aarch64"
    assert device.facts["conditions"] == {"kernel": "6"}
    assert abs(device.facts["clock_offset_secs"]) < 5
    with read_session(bench.gateway.engine) as opened:
        changes = [(change.old, change.new) for change in opened.exec(select(StateChange)).all()]
    assert changes == [("unknown", "good")]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"hello": DeviceUnreachable("no route", "plug it in")}, "no route (plug it in)"),
        ({"hello": b"Traceback"}, "its last words"),
        (
            {"facts": {"ok": True, "conditions": {}, "environment": {}, "runtimes": {"onnx": {"available": False, "cause": "no numpy"}}}},
            "no numpy",
        ),
        ({"facts": {"ok": True, "conditions": {}, "environment": {}, "runtimes": []}}, "not told"),
        ({"ps": b"{}"}, "left behind"),
    ],
)
def test_a_device_that_fails_one_check_is_bad_and_says_why(bench: Bench, answers: dict[str, Any], found: str) -> None:
    bench.wire.answers |= answers
    bench.check()
    assert bench.device.health == DeviceHealth.BAD
    assert found in bench.device.health_reason


@pytest.mark.parametrize(
    ("flags", "health", "status"),
    [
        (["throttled.firmware"], DeviceHealth.GOOD, "warning"),
        (["under_voltage.firmware", "throttled.firmware"], DeviceHealth.BAD, "failed"),
    ],
)
def test_a_hot_board_is_fit_and_a_starved_one_is_not(bench: Bench, flags: list[str], health: DeviceHealth, status: str) -> None:
    bench.wire.answers["health"] = {**HEALTHY["health"], "power_flags": flags}  # type: ignore[dict-item]
    finding = bench.check()["power supply"]
    assert (finding.status, bench.device.health) == (status, health)
    assert "throttled.firmware" in finding.found


def test_a_clock_that_is_wrong_makes_every_trace_wrong(bench: Bench) -> None:
    bench.wire.clock = lambda: 0.0
    assert bench.check()["clock"].status == "failed"
    assert "timedatectl" in bench.device.health_reason


def test_a_disk_that_takes_nothing_fails_before_any_job_finds_out(bench: Bench) -> None:
    bench.gateway.agent_for(bench.device, ["python3"]).push_agent()
    bench.wire.full = True
    assert bench.check()["disk"].status == "failed"
    assert bench.device.health == DeviceHealth.BAD


def test_a_device_without_an_environment_is_bad_with_the_command_that_adds_one(bench: Bench) -> None:
    with session(bench.gateway.engine) as opened:
        for environment in opened.exec(select(Environment)).all():
            opened.delete(environment)
    bench.check()
    assert "edgematrix env add" in bench.device.health_reason


def test_a_device_that_measures_is_left_alone(bench: Bench) -> None:
    bench.update(lease_job_id="job", health=DeviceHealth.GOOD)
    assert bench.check() == {}
    assert bench.wire.asked == []
    assert bench.device.health == DeviceHealth.GOOD


def test_a_check_that_a_job_overtook_says_nothing(bench: Bench) -> None:
    class Overtaking(dict[str, Any]):
        def __getitem__(self, command: str) -> Any:
            if command == "facts":
                bench.update(lease_job_id="job", fence=9, health=DeviceHealth.GOOD)
            return super().__getitem__(command)

    bench.wire.answers = Overtaking(bench.wire.answers | {"facts": b"garbage"})
    assert bench.check() == {}
    assert bench.device.health == DeviceHealth.GOOD


@pytest.mark.parametrize("health", [DeviceHealth.MAINTENANCE, DeviceHealth.RETIRED])
def test_what_a_person_decided_stays_whatever_a_check_finds(bench: Bench, health: DeviceHealth) -> None:
    bench.update(health=health, health_reason="fan replaced")
    bench.check()
    assert (bench.device.health, bench.device.health_reason) == (health, "fan replaced")


def test_runs_left_behind_are_ended_by_the_check(bench: Bench) -> None:
    runs = [{"name": "old.1", "status": {"state": "running"}}, {"name": "old.2", "status": {"state": "ended"}}]
    bench.wire.answers["ps"] = {"ok": True, "runs": runs}
    assert bench.check()["left behind"].status == "warning"
    assert {command[:2] for command in bench.wire.asked} >= {("cancel", "old.1"), ("clean", "old.2")}
    assert bench.device.health == DeviceHealth.GOOD


def test_a_device_that_another_database_gives_leases_of_is_bad_and_its_runs_are_left_alone(bench: Bench) -> None:
    bench.wire.answers["ps"] = {"ok": True, "runs": [{"name": "theirs.1", "status": {"state": "running"}}]}
    bench.wire.files["/r/fence.json"] = b'{"fence": 19}'
    assert bench.check()["exclusive"].status == "failed"
    assert "take-over pi" in bench.device.health_reason
    assert not {command[0] for command in bench.wire.asked} & {"cancel", "clean"}


@pytest.mark.parametrize("fence", [b"", b"[]", b"{}", b'{"fence": "1"}', b'{"fence": -1}', b'{"fence": 9223372036854775807}', b"[" * 4096])
def test_a_fence_file_that_is_none_makes_a_device_bad_and_nothing_else(bench: Bench, fence: bytes) -> None:
    bench.wire.files["/r/fence.json"] = fence
    assert bench.check()["exclusive"].status == "failed"
    assert bench.device.health == DeviceHealth.BAD


def test_an_unknown_device_is_no_crash(bench: Bench) -> None:
    assert check_device(bench.gateway, "nobody") == ()


# --- power ----------------------------------------------------------------------------------------------------


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    """A switch that notes each time it is used."""
    switch = tmp_path / "switch"
    switch.write_text(f"#!/bin/sh\necho cycled >> {tmp_path}/uses\n")
    switch.chmod(0o755)
    return switch


def uses(switch: Path) -> int:
    path = switch.parent / "uses"
    return len(path.read_text().splitlines()) if path.exists() else 0


def powered_by(*argv: str) -> dict[str, Any]:
    return {"driver": "command", "argv": list(argv)}


def test_a_board_that_does_not_answer_is_switched_off_and_on_once_and_given_time_to_boot(bench: Bench, switch: Path) -> None:
    bench.update(power_cycle=powered_by(str(switch)), health=DeviceHealth.GOOD)
    bench.wire.answers["hello"] = DeviceUnreachable("no route", "plug it in")
    bench.check()
    assert uses(switch) == 1
    device = bench.device
    assert (device.health, device.next_check_at) == (DeviceHealth.UNKNOWN, bench.now + BOOT_SECS)
    assert "given time to boot" in device.health_reason
    with read_session(bench.gateway.engine) as opened:
        assert ("power", "off and on", "system") in [(row.old, row.new, row.actor) for row in opened.exec(select(StateChange)).all()]

    bench.now += BOOT_SECS
    assert bench.check()["power cycle"].status == "failed"
    assert uses(switch) == 1
    device = bench.device
    assert (device.health, device.next_check_at) == (DeviceHealth.BAD, bench.now + BAD_FIRST_SECS)
    assert "it was switched off and on at 1970-01-01T00:08:20" in device.health_reason
    assert "no route" in device.health_reason


def test_a_board_that_came_back_may_be_switched_off_and_on_again_the_next_time(bench: Bench, switch: Path) -> None:
    bench.update(power_cycle=powered_by(str(switch)))
    hello = bench.wire.answers["hello"]
    for expected in (1, 2):
        bench.wire.answers["hello"] = DeviceUnreachable("no route")
        bench.check()
        assert uses(switch) == expected
        bench.wire.answers["hello"] = hello
        bench.check()
        assert bench.device.health == DeviceHealth.GOOD


@pytest.mark.parametrize("error", [LoginRefused("our key is refused", "ssh-copy-id"), HostKeyChanged("another machine", "trust it")])
def test_a_host_that_answers_and_refuses_us_keeps_its_power(bench: Bench, switch: Path, error: DeviceUnreachable) -> None:
    bench.update(power_cycle=powered_by(str(switch)))
    bench.wire.answers["hello"] = error
    bench.check()
    assert uses(switch) == 0
    assert bench.device.health == DeviceHealth.BAD


def test_a_board_that_is_reached_and_fails_otherwise_keeps_its_power(bench: Bench, switch: Path) -> None:
    bench.update(power_cycle=powered_by(str(switch)))
    bench.wire.answers |= {"hello": b"Traceback"}
    bench.check()
    assert uses(switch) == 0


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (powered_by("/nowhere/pdu"), "could not be tried"),
        (powered_by("sh", "-c", "echo no such outlet >&2; exit 4"), "sh ended with status 4: no such outlet"),
        ({"driver": "magic"}, "could not be tried"),
    ],
)
def test_a_switch_that_does_not_work_is_said_and_the_device_is_bad(bench: Bench, about: dict[str, Any], words: str) -> None:
    bench.update(power_cycle=about)
    bench.wire.answers["hello"] = DeviceUnreachable("no route")
    bench.check()
    assert bench.device.health == DeviceHealth.BAD
    assert words in bench.device.health_reason


def test_a_usb_hub_gets_its_port_as_words_of_its_own() -> None:
    words = cycle_command({"driver": "uhubctl", "hub": "1-1.4", "port": "2"})
    assert words == ["uhubctl", "-a", "cycle", "-l", "1-1.4", "-p", "2"]
    for hub, port in (("--help", "2"), ("1-1", "-f"), ("", "2"), ("1-1; reboot", "2")):
        with pytest.raises(PowerCycleInvalid):
            cycle_command({"driver": "uhubctl", "hub": hub, "port": port})


# --- without an environment, and names in remedies ------------------------------------------------------------


def test_a_device_without_an_environment_still_says_whether_it_is_there(bench: Bench) -> None:
    with session(bench.gateway.engine) as opened:
        for environment in opened.exec(select(Environment)).all():
            opened.delete(environment)
    assert bench.check()["reach"].status == "ok"


def test_a_remedy_names_the_device_it_is_about(bench: Bench) -> None:
    bench.wire.answers["hello"] = DeviceUnreachable("no room", "make room: edgematrix device clean NAME")
    bench.check()
    assert "edgematrix device clean pi" in bench.device.health_reason
