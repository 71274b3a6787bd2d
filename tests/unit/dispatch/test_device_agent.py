"""What a device says is sized and checked once, before anything believes it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from agent import errors, protocol
from orchestrator.dispatch.agent_package import AgentPackage
from orchestrator.dispatch.device_agent import DeviceAgent, end_leftovers
from tests.unit.dispatch.scripted_device import ScriptedDevice

ROOT = "/dev-root"
RUN = "job-1.1"
AGENT = "a" * 64


@pytest.fixture
def device() -> ScriptedDevice:
    return ScriptedDevice()


@pytest.fixture
def agent(device: ScriptedDevice, tmp_path: Path) -> DeviceAgent:
    package = tmp_path / f"{AGENT}.pyz"
    package.write_bytes(b"the agent")
    return DeviceAgent(device, ROOT, ["python3", "-X", "utf8"], AgentPackage(AGENT, package))


def outcome(**changes: Any) -> dict[str, Any]:
    values = {
        "protocol": protocol.PROTOCOL_VERSION,
        "job_id": "job-1",
        "attempt": 1,
        "fence": 7,
        "agent_version": "0",
        "agent_sha256": AGENT,
        "status": "completed",
        "started_utc": "2026-01-01T00:00:00Z",
        "ended_utc": "2026-01-01T00:00:01Z",
        "duration_secs": 1.0,
    }
    return values | changes


def tell(device: ScriptedDevice, data: bytes | dict[str, Any], name: str = "outcome.json") -> None:
    device.files[f"{ROOT}/jobs/{RUN}/{name}"] = data if isinstance(data, bytes) else json.dumps(data).encode()


# --- commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"", b"Segmentation fault", b"\xff\xfe{}", b"[" * 100_000, b'{"ok": true', b"[1]", b'"ok"'])
def test_an_answer_that_is_no_record_is_the_device_s_fault_and_says_what_it_wrote(
    device: ScriptedDevice, agent: DeviceAgent, answer: bytes
) -> None:
    device.answers["hello"] = answer
    with pytest.raises(errors.DeviceReplyInvalid, match="hello"):
        agent.hello()


def test_an_answer_longer_than_a_message_is_refused(device: ScriptedDevice, agent: DeviceAgent) -> None:
    device.answers["ps"] = json.dumps({"ok": True, "padding": "x" * protocol.MAX_MESSAGE_BYTES}).encode()
    with pytest.raises(errors.DeviceReplyInvalid, match="no JSON"):
        agent.runs()


def test_an_error_of_the_device_arrives_as_what_it_is(device: ScriptedDevice, agent: DeviceAgent) -> None:
    device.answers["cancel"] = {"ok": False, "error": errors.StaleFence("fence 1 is stale", "give it up").to_json()}
    with pytest.raises(errors.StaleFence, match="fence 1") as caught:
        agent.cancel(RUN, 1)
    assert caught.value.remedy == "give it up"


@pytest.mark.parametrize("error", [None, "no", {"class": "bug"}])
def test_a_refusal_without_a_reason_is_an_error_all_the_same(device: ScriptedDevice, agent: DeviceAgent, error: Any) -> None:
    device.answers["clean"] = {"ok": False, "error": error}
    with pytest.raises(errors.EdgematrixError):
        agent.clean(RUN, 1)


@pytest.mark.parametrize("status", [None, "running", {}, {"state": "asleep", "fence": 1}, {"state": "running", "fence": "1"}])
def test_a_state_that_the_protocol_does_not_have_is_refused(device: ScriptedDevice, agent: DeviceAgent, status: Any) -> None:
    device.answers["status"] = {"ok": True, "status": status}
    with pytest.raises(errors.DeviceReplyInvalid, match="status"):
        agent.status(RUN, 1)


@pytest.mark.parametrize("name", ["--root=/etc", "../../etc.1", "a b.1", "a\0b.1", "job.1; reboot", "x" * 65 + ".1", "", None])
def test_a_run_s_name_that_is_none_never_becomes_an_argument(device: ScriptedDevice, agent: DeviceAgent, name: Any) -> None:
    device.answers["ps"] = {"ok": True, "runs": [{"name": name, "status": {"state": "running"}}]}
    with pytest.raises(errors.DeviceReplyInvalid, match="no name"):
        end_leftovers(agent, 5)
    assert [command[0] for command in device.asked] == ["ps"]


def test_of_what_was_left_behind_the_living_are_told_to_stop_and_the_dead_removed(device: ScriptedDevice, agent: DeviceAgent) -> None:
    states = {"old.1": "running", "old.2": "ended", "old.3": "lost", "old.4": "pushed", RUN: "pushed"}
    device.answers["ps"] = {"ok": True, "runs": [{"name": name, "status": {"state": state}} for name, state in states.items()]}
    end_leftovers(agent, 5, keep=RUN)
    told = [command[:2] for command in device.asked[1:]]
    assert told == [("cancel", "old.1"), ("clean", "old.2"), ("clean", "old.3"), ("clean", "old.4")]
    assert all(command[-2:] == ("--fence", "5") for command in device.asked[1:])


@pytest.mark.parametrize(
    "facts",
    [
        {"conditions": [], "environment": {}, "runtimes": {}},
        {"conditions": {}, "environment": None, "runtimes": {}},
        {"conditions": {}, "environment": {}, "runtimes": {"onnx": "yes"}},
        {},
    ],
)
def test_facts_of_another_shape_are_refused(device: ScriptedDevice, agent: DeviceAgent, facts: dict[str, Any]) -> None:
    device.answers["facts"] = {"ok": True} | facts
    with pytest.raises(errors.DeviceReplyInvalid, match="facts"):
        agent.facts()


# --- pushing ---------------------------------------------------------------------------------------------------


def test_what_the_device_has_is_not_sent_again(device: ScriptedDevice, agent: DeviceAgent, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"12345")
    asked: list[int] = []

    def source() -> Path:
        asked.append(1)
        return tmp_path / "model"

    agent.push_agent()
    agent.push_content("c" * 64, 5, source)
    first = dict(device.files)
    agent.push_agent()
    agent.push_content("c" * 64, 5, source)
    assert device.files == first == {f"{ROOT}/agents/{AGENT}.pyz": b"the agent", f"{ROOT}/content/{'c' * 64}": b"12345"}
    assert len(asked) == 1
    device.files[f"{ROOT}/content/{'c' * 64}"] = b"cut"
    agent.push_content("c" * 64, 5, source)
    assert device.files == first


# --- reading ---------------------------------------------------------------------------------------------------


def test_an_outcome_is_read_and_none_is_none(device: ScriptedDevice, agent: DeviceAgent) -> None:
    assert agent.outcome(RUN) is None
    tell(device, outcome(fence=9))
    found = agent.outcome(RUN)
    assert found is not None
    assert (found.status, found.fence) == ("completed", 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": "job-2"},
        {"attempt": 2},
        {"status": "fine"},
        {"protocol": protocol.PROTOCOL_VERSION + 1},
        {"agent_sha256": "b" * 64},
        {"duration_secs": "long"},
        {"surprise": 1},
        {"fence": 2**63},
        {"runner": {"load_ns": 10**400}},
        {"conditions": {"deep": [[{"load": -(10**30)}]]}},
    ],
)
def test_an_outcome_that_is_not_this_run_s_or_this_version_s_is_refused(
    device: ScriptedDevice, agent: DeviceAgent, changes: dict[str, Any]
) -> None:
    tell(device, outcome(**changes))
    with pytest.raises(errors.DeviceReplyInvalid):
        agent.outcome(RUN)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_wherever_it_stands(device: ScriptedDevice, agent: DeviceAgent, number: str) -> None:
    text = json.dumps(outcome(conditions={"load": 0.125}))
    assert "0.125" in text
    tell(device, text.replace("0.125", number).encode())
    with pytest.raises(errors.DeviceReplyInvalid):
        agent.outcome(RUN)


@pytest.mark.parametrize("hostile", ["\x1b]0;owned\x07", "ok\rfailed", "a\bb", "\x7f", "\x9b31m"])
@pytest.mark.parametrize("escaped", [True, False])
def test_no_word_of_a_device_steers_a_terminal(device: ScriptedDevice, agent: DeviceAgent, hostile: str, escaped: bool) -> None:
    said = json.dumps({"ok": True, "machine": f"{hostile} °C\n"}, ensure_ascii=escaped)
    device.answers["hello"] = said.encode()
    machine = agent.hello()["machine"]
    assert machine.endswith(" °C\n")
    assert all(character.isprintable() for character in machine.rstrip("\n"))


def test_text_that_no_database_keeps_is_replaced_not_believed(device: ScriptedDevice, agent: DeviceAgent) -> None:
    tell(device, outcome(conditions={"kernel": "6\0 \ud800"}))
    found = agent.outcome(RUN)
    assert found is not None
    assert found.conditions["kernel"].encode()
    assert "\0" not in found.conditions["kernel"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"\0" * (protocol.PROGRESS.size - 1), None),
        (protocol.PROGRESS.pack(4, 10, 20, 1.5), ("steady", 10, 20, 1.5)),
        (protocol.PROGRESS.pack(4, 10, 0, -1.0), ("steady", 10, 0, None)),
        (protocol.PROGRESS.pack(2**32 - 1, 2**64 - 1, 2**64 - 1, float("nan")), ("starting", 2**53, 2**53, None)),
        (protocol.PROGRESS.pack(4, 1, 2, float("inf")), ("steady", 1, 2, None)),
    ],
)
def test_progress_is_shown_within_reason(
    device: ScriptedDevice, agent: DeviceAgent, data: bytes, expected: tuple[str, int, int, float | None] | None
) -> None:
    assert struct.calcsize("<IQQd") == protocol.PROGRESS.size
    tell(device, data, "progress")
    found = agent.progress(RUN)
    assert (None if found is None else (found.phase, found.done, found.total, found.seconds_left)) == expected


def test_a_stream_goes_on_where_the_link_broke_and_stops_at_its_size(device: ScriptedDevice, agent: DeviceAgent, tmp_path: Path) -> None:
    tell(device, bytes(range(100)), "queries.spool")
    target = tmp_path / "queries.spool"
    target.write_bytes(bytes(range(30)))
    assert agent.pull_stream(RUN, protocol.QUERIES, target, 90, part_bytes=7) == 90
    assert target.read_bytes() == bytes(range(90))
    assert set(device.read) == {f"{ROOT}/jobs/{RUN}/queries.spool"}
