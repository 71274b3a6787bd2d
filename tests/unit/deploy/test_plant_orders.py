"""Finding the plant that an order is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.lab.plant_lifecycle import OrderRefused, plant_of, plants_in


def disk(folder: Path, lab: str, device: str) -> Path:
    place = folder / "labs" / lab / device
    place.mkdir(parents=True)
    (place / "plant.json").touch()
    return place


def test_a_plant_is_found_by_its_device_in_whatever_lab_it_is(tmp_path: Path) -> None:
    place = disk(tmp_path, "heat", "hot-1")
    disk(tmp_path, "other", "hot-2")
    found = plant_of("hot-1", tmp_path)
    assert (found.lab, found.device, found.folder) == ("heat", "hot-1", place)


def test_a_device_without_a_plant_and_one_of_two_labs_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(OrderRefused, match="no device hot-1 has a plant"):
        plant_of("hot-1", tmp_path)
    disk(tmp_path, "heat", "hot-1")
    disk(tmp_path, "other", "hot-1")
    with pytest.raises(OrderRefused, match="more than one lab: heat, other"):
        plant_of("hot-1", tmp_path)


def test_a_plant_of_an_earlier_definition_is_found_by_what_it_left(tmp_path: Path) -> None:
    place = disk(tmp_path, "heat", "gone")
    (place / "plant.pid").write_text("1 1")
    disk(tmp_path, "heat", "never-started")
    assert [plant.device for plant in plants_in(tmp_path / "labs" / "heat")] == ["gone"]
    assert plants_in(tmp_path / "labs" / "heat")[0].pid() is None
