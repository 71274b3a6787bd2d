"""A lab's file: what it may say, and what is told of one that says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import FolderUnwritable
from deploy.lab import load_definition
from deploy.lab.definition import DEFAULT_FILE, LabDefinition
from deploy.lab.kinds import KINDS
from orchestrator.domain.mistakes import SpecError

SMALL = "format: 1\ndevices:\n  - {name: a, kind: arm64}\n"


def load(folder: Path, text: str) -> LabDefinition:
    file = folder / "lab.yaml"
    file.write_text(text)
    return load_definition(file)


def test_without_a_file_there_are_the_five_devices_of_the_docs() -> None:
    found = load_definition()
    assert [(device.name, device.kind) for device in found.devices] == [
        ("lab-arm64-a", "arm64"),
        ("lab-arm64-b", "arm64"),
        ("lab-x86-avx2", "x86-avx2"),
        ("lab-x86-native", "x86-native"),
        ("lab-bare-arm64", "bare-arm64"),
    ]
    assert (found.name, str(found.network)) == ("lab", "10.213.0.0/24")


def test_every_kind_of_the_file_can_be_made_and_only_the_native_one_does_not_emulate_its_cpu(tmp_path: Path) -> None:
    kinds = list(KINDS)
    found = load(tmp_path, "format: 1\ndevices:\n" + "".join(f"  - {{name: d{index}, kind: {kind}}}\n" for index, kind in enumerate(kinds)))
    assert [device.kind for device in found.devices] == kinds
    assert {kind: about.emulated for kind, about in KINDS.items() if about.emulated != "cpu"} == {"x86-native": "environment"}


def test_a_lab_may_have_a_name_and_a_network_of_its_own(tmp_path: Path) -> None:
    found = load(tmp_path, f"{SMALL}name: second\nnetwork: 10.214.0.0/24\n")
    assert (found.name, str(found.network)) == ("second", "10.214.0.0/24")


def test_the_devices_with_a_plant_are_three_and_the_fan_is_what_tells_one_from_the_others() -> None:
    found = load_definition(DEFAULT_FILE.with_name("heat.yaml"))
    assert [(item.name, item.plant.board, bool(item.plant.fan)) for item in found.devices if item.plant is not None] == [
        ("lab-heat-pi", "raspberry-pi", False),
        ("lab-heat-jetson", "jetson", False),
        ("lab-heat-fan", "linux", True),
    ]
    assert found.network != load_definition().network


@pytest.mark.parametrize(
    ("kind", "plant", "told"),
    [
        ("arm64", "{}", "times mean nothing on arm64"),
        ("x86-native", "{trips: [{at_c: 80, clock_ratio: 0.05}]}", "quota_period_ms"),
        ("x86-native", "{trips: [{at_c: 80, clock_ratio: 0.7}, {at_c: 70, clock_ratio: 0.5}]}", "let both ascend"),
        ("x86-native", "{trips: [{at_c: 80, clock_ratio: 1.0}]}", "clock_ratio"),
        ("x86-native", "{board: abacus}", "board"),
        ("x86-native", "{colour: red}", "colour"),
    ],
)
def test_a_plant_that_cannot_be_made_is_told_at_its_line(tmp_path: Path, kind: str, plant: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        load(tmp_path, f"format: 1\ndevices:\n  - name: a\n    kind: {kind}\n    plant: {plant}\n")
    assert told in str(refused.value)


def test_a_runtime_can_only_fail_with_heat_where_there_is_heat(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="faulty_above_c needs a temperature"):
        load(tmp_path, "format: 1\ndevices:\n  - {name: a, kind: x86-native, faulty_above_c: 75}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("format: 2\ndevices: []\n", "format"),
        ("format: 1\n", "devices"),
        ("format: 1\ndevices: []\n", "devices"),
        ("format: 1\ndevices:\n  - {name: a, kind: riscv}\n", "kind"),
        ("format: 1\ndevices:\n  - {name: a/b, kind: arm64}\n", "name"),
        ("format: 1\ndevices:\n  - {name: -rf, kind: arm64}\n", "name"),
        (f"format: 1\ndevices:\n  - {{name: {'a' * 41}, kind: arm64}}\n", "name"),
        ("format: 1\ndevices:\n  - {name: a, kind: arm64}\n  - {name: a, kind: arm64}\n", "given twice"),
        ("format: 1\ndevices:\n" + "".join(f"  - {{name: d{index}, kind: arm64}}\n" for index in range(201)), "devices"),
        (f"{SMALL}color: red\n", "color"),
        (f"{SMALL}name: ../etc\n", "name"),
        (f"{SMALL}name: ninechars\n", "name"),
        (f"{SMALL}network: 8.8.8.0/24\n", "no private network"),
        (f"{SMALL}network: 127.0.0.0/24\n", "no private network"),
        (f"{SMALL}network: 10.0.0.0/8\n", "no private network"),
        (f"{SMALL}network: 10.0.0.0/30\n", "no private network"),
        (f"{SMALL}network: 10.214.0.1/24\n", "network"),
        (f"{SMALL}network: 3\n", "network"),
        ("- a\n", "lab.yaml"),
        ("format: [\n", "lab.yaml"),
    ],
)
def test_what_a_lab_cannot_be_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    assert told in f"{caught.value.message} {caught.value}"


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, "format: 1\ndevices:\n  - {name: a, kind: arm64}\n  - {name: b, kind: riscv}\n")
    assert "lab.yaml:4" in caught.value.message


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_names_one_that_can(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "lab.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FolderUnwritable) as caught:
        load_definition(file)
    assert "deploy/lab/lab.yaml" in caught.value.remedy
