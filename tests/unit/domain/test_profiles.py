from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.dispatch.profiles import PROFILES_FOLDER, UnknownProfile, load_profile, load_profiles
from orchestrator.domain.mistakes import ProfileError
from orchestrator.domain.profiles import DeviceProfile, parse_profile, profile_json_schema
from orchestrator.domain.spec import RUNTIME_PROVIDERS

DOCS = (Path(__file__).parents[3] / "docs" / "devices.md").read_text()
SHIPPED = sorted(PROFILES_FOLDER.glob("*.yaml"))


BOARDS = {
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
    "jetson-nano",
    "jetson-xavier-nx",
    "jetson-orin-nano",
    "jetson-agx-orin",
}


def test_the_profiles_that_come_with_edgematrix_load_by_name() -> None:
    assert {profile.name for profile in load_profiles()} == BOARDS | {"linux-x86_64", "linux-arm64"}
    assert load_profile("linux-arm64").arch == "arm64"
    assert {load_profile(name).arch for name in BOARDS} == {"arm64"}
    assert {load_profile(name).transports for name in BOARDS} == {("ssh",)}


@pytest.mark.parametrize("profile", load_profiles(), ids=lambda profile: str(profile.name))
def test_no_profile_claims_more_than_was_tried(profile: DeviceProfile) -> None:
    assert not profile.tried_on_hardware
    assert "physical board" in profile.tried_note
    assert profile.sensors
    assert {"default", "cpu"} <= set(profile.runtimes["onnx"].providers)
    assert set(profile.runtimes["tflite"].providers) <= set(RUNTIME_PROVIDERS["tflite"])
    assert set(profile.runtimes["onnx"].providers) <= set(RUNTIME_PROVIDERS["onnx"])
    assert profile.health.min_free_disk_mb >= 500, "a bundle and a model must find room"


def test_boards_whose_python_is_too_old_run_from_the_bundle_on_the_cpu_and_say_why() -> None:
    """JetPack 4 and 5 bring Python 3.6 and 3.8; the agent needs 3.9."""
    for name in ("jetson-nano", "jetson-xavier-nx"):
        profile = load_profile(name)
        assert profile.interpreter == "bundle"
        assert profile.runtimes["onnx"].providers == ("default", "cpu")
        assert "too old" in profile.runtimes["onnx"].note
        assert "too old" in profile.tried_note
    for name in ("jetson-orin-nano", "jetson-agx-orin"):
        profile = load_profile(name)
        assert profile.interpreter == ("python3",)
        assert {"cuda", "tensorrt"} <= set(profile.runtimes["onnx"].providers)


def test_limits_are_stated_by_the_boards_maker_or_left_to_the_device() -> None:
    for profile in load_profiles():
        if profile.name.startswith("raspberry-pi"):
            assert profile.thermal is not None
            assert (profile.thermal.throttle_c, profile.thermal.critical_c) == (80, 85)
            assert "Raspberry Pi documentation" in str(profile.thermal.source)
            assert "32-bit" in profile.tried_note
        else:
            assert profile.thermal is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_agrees_with_the_published_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(profile_json_schema()).validate(yaml.safe_load(path.read_text()))


def test_the_published_schema_is_the_one_in_use() -> None:
    assert json.loads((PROFILES_FOLDER / "schema.json").read_text()) == profile_json_schema()


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownProfile, match="linux-arm64, linux-x86_64, raspberry-pi-4") as caught:
        load_profile("linux-x86")
    assert "linux-x86_64" in caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("arch: x86_64", "arch: armv7l", "not one of"),
        ("name: linux-x86_64", "name: other", "the file is called linux-x86_64.yaml"),
        ("thermal: null", "thermal: {throttle_c: 80}", "without a source"),
        ("max_background_load_percent: 25", "max_background_load_percent: 250", "less than or equal to 100"),
        ("tried_on_hardware: false", "tried_on_hardware: maybe", "expected true or false"),
        ("tried_on_hardware: false", "tried: false", "unknown key"),
        ("  tflite:", "  torch:", "not one of"),
        ("interpreter: [python3]", "interpreter: python3", "bundle"),
        ("interpreter: [python3]", "interpreter: []", "the list is empty"),
    ],
)
def test_a_mistake_in_a_profile_is_told_with_its_line(old: str, new: str, said: str) -> None:
    text = (PROFILES_FOLDER / "linux-x86_64.yaml").read_text()
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(ProfileError) as caught:
        parse_profile(text.replace(old, new), "somewhere/linux-x86_64.yaml")
    assert any(item.line == line and said in item.message for item in caught.value.mistakes), caught.value


def test_the_mistakes_of_all_profiles_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("format: 1\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError) as caught:
        load_profiles(tmp_path)
    assert {Path(item.file).name for item in caught.value.mistakes} == {"a.yaml", "b.yaml"}


def test_a_mistake_in_one_profile_does_not_take_the_others_away(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("format: 1\n")
    (tmp_path / "linux-x86_64.yaml").write_text((PROFILES_FOLDER / "linux-x86_64.yaml").read_text())
    assert load_profile("linux-x86_64", tmp_path).arch == "x86_64"
    with pytest.raises(ProfileError):
        load_profile("broken", tmp_path)


def test_the_page_on_devices_names_every_profile_with_its_environment_and_every_key() -> None:
    for profile in load_profiles():
        row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{profile.name}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert ("bundle" in cells[2]) == (profile.interpreter == "bundle")
        assert set(cells[3].split(", ")) | {"default"} == set(profile.runtimes["onnx"].providers)
        assert ("80 °C" in cells[5]) == (profile.thermal is not None)
    assert [name for name in DeviceProfile.model_fields if not re.search(rf"`{name}`|^{name}:", DOCS, re.MULTILINE)] == []


def test_the_profile_of_the_page_on_devices_is_one() -> None:
    example = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)[0]
    assert parse_profile(example, "device_profiles/my-board.yaml").thermal is not None
