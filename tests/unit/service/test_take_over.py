"""A device that another database gave leases of can be taken over, by a person and never by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from agent.errors import DeviceBusy, DeviceReplyInvalid
from orchestrator.service import devices, ssh_devices
from orchestrator.service.context import Context, open_context
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Device, StateChange
from orchestrator.worker.settings import Settings


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    opened = open_context(Settings(home=tmp_path / "home"))
    devices.add_local_device(opened, "pi", root=str(tmp_path / "pi"))
    (tmp_path / "pi").mkdir()
    yield opened
    opened.engine.dispose()


def fence(context: Context) -> int:
    return devices.device_row(context, "pi").fence


def test_the_next_lease_is_above_every_one_the_device_has_seen_and_the_record_says_who_did_it(context: Context, tmp_path: Path) -> None:
    (tmp_path / "pi" / "fence.json").write_text('{"fence": 19}')
    assert ssh_devices.take_over(context, "pi", "the old server is gone").health == "unknown"
    assert fence(context) == 19
    with read_session(context.engine) as opened:
        change = opened.exec(select(StateChange).where(StateChange.new == "fence 19")).one()
    assert (change.old, change.actor, change.why) == ("fence 0", context.actor, "the old server is gone")


def test_a_device_that_has_seen_no_higher_lease_stays_as_it_is(context: Context) -> None:
    before = devices.get_device(context, "pi")
    assert ssh_devices.take_over(context, "pi") == before
    assert fence(context) == 0


def test_what_a_person_decided_of_its_health_stays(context: Context, tmp_path: Path) -> None:
    (tmp_path / "pi" / "fence.json").write_text('{"fence": 19}')
    with session(context.engine) as opened:
        opened.execute(update(Device).values(health="maintenance", health_set_by="ann"))
    assert ssh_devices.take_over(context, "pi").health == "maintenance"


def test_a_device_that_measures_for_us_is_not_taken_over(context: Context) -> None:
    with session(context.engine) as opened:
        opened.execute(update(Device).where(col(Device.name) == "pi").values(lease_job_id="job", fence=4))
    with pytest.raises(DeviceBusy, match="measures job"):
        ssh_devices.take_over(context, "pi")


def test_a_damaged_fence_file_is_told_and_not_guessed(context: Context, tmp_path: Path) -> None:
    (tmp_path / "pi" / "fence.json").write_text("{")
    with pytest.raises(DeviceReplyInvalid, match=r"fence\.json is damaged"):
        ssh_devices.take_over(context, "pi")
    assert fence(context) == 0
