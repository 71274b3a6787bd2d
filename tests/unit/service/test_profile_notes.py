"""What the profiles of the devices asked for say against a spec, before anything runs."""

from __future__ import annotations

from typing import Any

from sqlmodel import select

from orchestrator.cli.device_words import tried_words
from orchestrator.domain.spec_text import parse_spec
from orchestrator.service import devices as device_service
from orchestrator.service.profile_notes import profile_notes
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device
from tests.unit.service.lab import Lab

SPEC = """\
format: 1
name: small
task: {kind: tensor}
dataset: {file: x.npz, inputs: x}
models:
  - name: m
    reference: o
    variants:
      - {name: o, file: o.onnx, runtime: onnx, precision: fp32}
      - {name: t, file: t.tflite, runtime: tflite, precision: w8a8}
scenarios: {accuracy: }
"""


def _device(profile: str, **changes: Any) -> Device:
    values: dict[str, Any] = {
        "gateway": "lab",
        "transport": "ssh",
        "address": {},
        "root": "/r",
        "labels": {},
        "facts": {},
        "health": "good",
    }
    return Device(name=f"{profile}-a", profile=profile, added_at=0.0, **{**values, **changes})


DEVICES = [_device("raspberry-pi-5"), _device("jetson-agx-orin"), _device("jetson-nano", health="retired")]


def notes(rest: str = "", devices: list[Device] = DEVICES) -> list[str]:
    return list(profile_notes(parse_spec(SPEC + rest, "spec.yaml"), devices))


def test_kinds_of_boards_that_were_never_tried_are_named_once() -> None:
    assert notes() == ["tried on hardware: no, for devices of jetson-agx-orin, raspberry-pi-5 (edgematrix profile show NAME)"]


def test_only_devices_that_the_spec_asks_for_count() -> None:
    assert notes("devices: [{any: \"profile == 'raspberry-pi-5'\"}]\n") == [
        "tried on hardware: no, for devices of raspberry-pi-5 (edgematrix profile show NAME)"
    ]
    assert notes(devices=[]) == []


def test_a_provider_that_a_kind_of_board_lacks_is_told_for_the_runtime_it_belongs_to() -> None:
    found = notes("settings: {provider: [default, cuda, xnnpack, npu]}\n")[1:]
    fate = "end as provider_unavailable unless the runtime there was built with it"
    assert found == [
        f"provider cuda: onnx jobs on raspberry-pi-5 {fate}",
        f"provider npu: onnx jobs on jetson-agx-orin, raspberry-pi-5 {fate}",
        f"provider npu: tflite jobs on jetson-agx-orin, raspberry-pi-5 {fate}",
    ]


def test_every_device_says_whether_its_kind_was_tried_also_when_its_profile_is_gone(lab: Lab) -> None:
    with open_session(lab.context.engine) as opened:
        (device,) = opened.exec(select(Device)).all()
        opened.add(_device("no-such-board", gateway="local"))
    found = {view.name: view for view in device_service.list_devices(lab.context)}
    assert tried_words(found[device.name]).startswith("no: run on an x86-64 virtual machine")
    assert tried_words(found["no-such-board-a"]).startswith("no: there is no device profile 'no-such-board'")
    assert device_service.get_device(lab.context, "no-such-board-a") == found["no-such-board-a"]
