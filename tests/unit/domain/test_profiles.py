from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.dispatch.profiles import PROFILES_FOLDER, UnknownProfile, load_profile, load_profiles
from orchestrator.domain.mistakes import ProfileError
from orchestrator.domain.profiles import parse_profile, profile_json_schema

SHIPPED = sorted(PROFILES_FOLDER.glob("*.yaml"))


def test_the_profiles_that_come_with_edgematrix_load_by_name() -> None:
    assert {profile.name for profile in load_profiles()} >= {"linux-x86_64", "linux-arm64"}
    assert load_profile("linux-arm64").arch == "arm64"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_agrees_with_the_published_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(profile_json_schema()).validate(yaml.safe_load(path.read_text()))


def test_the_published_schema_is_the_one_in_use() -> None:
    assert json.loads((PROFILES_FOLDER / "schema.json").read_text()) == profile_json_schema()


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownProfile, match="linux-arm64, linux-x86_64") as caught:
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
