"""Commands about a device on a host that is not its gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from orchestrator.dispatch.check_schedule import devices_to_check
from orchestrator.service import device_storage, devices
from orchestrator.service.context import Context, open_context
from orchestrator.service.elsewhere import DeviceElsewhere
from orchestrator.store.database import session
from orchestrator.store.tables import Device
from orchestrator.worker.settings import Settings


@pytest.fixture
def attic(tmp_path: Path) -> Iterator[Context]:
    """The gateway ``attic``, with its own computer as the device ``bench``, checked and good."""
    opened = open_context(Settings(home=tmp_path / "home", gateway="attic"))
    devices.add_local_device(opened, "bench")
    with session(opened.engine) as writing:
        device = writing.exec(select(Device)).one()
        device.health, device.next_check_at = "good", opened.clock() + 3600
        writing.add(device)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def cellar(attic: Context) -> Context:
    return replace(attic, settings=attic.settings.model_copy(update={"gateway": "cellar"}))


def test_a_check_asked_for_elsewhere_is_done_by_the_device_s_own_gateway_and_changes_no_health(attic: Context, cellar: Context) -> None:
    with session(attic.engine) as reading:
        assert devices_to_check(reading, attic.clock()) == []
    (told,) = devices.check_device(cellar, "bench")
    assert "attic" in told.found
    assert devices.get_device(cellar, "bench").health == "good"
    with session(attic.engine) as reading:
        assert devices_to_check(reading, attic.clock()) == [("attic", "bench")]


def test_another_gateway_s_computer_is_not_taken_for_this_one(cellar: Context) -> None:
    with pytest.raises(DeviceElsewhere, match="attic"):
        devices.add_environment(cellar, "default", ["python3"], device="bench")
    with pytest.raises(DeviceElsewhere, match="attic"):
        device_storage.clean_device(cellar, "bench", None, None)
    assert devices.list_environments(cellar) == []
