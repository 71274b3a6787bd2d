"""The contract: what one side writes the other reads, and anything else is refused by name."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import numpy as np
import pytest

from agent import protocol
from agent.errors import RequestInvalid
from agent.protocol import (
    ContentRef,
    InputsRef,
    LoadSettings,
    PlacedNode,
    Placement,
    RunnerReport,
    RunOutcome,
    RunRequest,
    RunStatus,
    SensorInfo,
    Settings,
    TensorInfo,
    from_json,
    to_json,
)

REQUEST = RunRequest(
    protocol=1,
    job_id="j-1",
    attempt=2,
    fence=3,
    scenario="latency",
    task="classification",
    scores="logits",
    model=ContentRef("a" * 64, 10),
    runtime="onnx",
    inputs=InputsRef(ContentRef("b" * 64, 20), 5, [2, 3], "float32"),
    steps=[{"kind": "normalize", "mean": [1, 2.5], "std": 3}],
    settings=Settings(2, "cpu", "all"),
    load=LoadSettings(),
    interpreter=["python3"],
    timeout_secs=60,
)
REPORT = RunnerReport(
    error={"class": "job", "code": "invoke_failed", "message": "no", "remedy": ""},
    inputs=[TensorInfo("x", [1, -1], "int8", 0.5, -3)],
    outputs=[TensorInfo("y", [1, 2], "float32")],
    placement=Placement("xnnpack", ["XNNPACK", "builtin"], {"XNNPACK": 3, "builtin": 1}, None, 1, [PlacedNode("y", "SOFTMAX", "builtin")]),
    flush_pauses_ns=[1, 2],
    numpy_threads={"cpus": 4},
)
OUTCOME = RunOutcome(
    protocol=1,
    job_id="j-1",
    attempt=2,
    fence=3,
    agent_version="1",
    agent_sha256="c" * 64,
    status="completed",
    started_utc="2026-11-21T00:00:00Z",
    ended_utc="2026-11-21T00:01:00Z",
    duration_secs=60.0,
    runner=REPORT,
    conditions={"cpu": {"flags": ["avx2"]}},
    sensors=[SensorInfo("cpu", "celsius", "/sys/x")],
    streams={"queries": ContentRef("d" * 64, 1)},
)


@pytest.mark.parametrize("message", [REQUEST, REPORT, OUTCOME, RunStatus("running", 3, streams={"queries": 5})])
def test_a_message_is_read_back_as_it_was_written(message: Any) -> None:
    assert from_json(type(message), to_json(message)) == message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fence": "3"}, "RunRequest.fence"),
        ({"fence": True}, "RunRequest.fence"),
        ({"fence": 3.0}, "RunRequest.fence"),
        ({"job_id": None}, "RunRequest.job_id"),
        ({"steps": {}}, "RunRequest.steps"),
        ({"steps": ["quantize"]}, r"RunRequest.steps\[0\]"),
        ({"model": "a"}, "RunRequest.model"),
        ({"model": {"sha256": "a"}}, "'size_bytes' is missing"),
        ({"inputs": {**json.loads(to_json(REQUEST))["inputs"], "sample_shape": [2, "3"]}}, r"sample_shape\[1\]"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"class_count": 1.5}, "RunRequest.class_count"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(change: dict[str, Any], named: str) -> None:
    text = json.dumps({**json.loads(to_json(REQUEST)), **change})
    with pytest.raises(RequestInvalid, match=named):
        from_json(RunRequest, text)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunRequest) if field.default is dataclasses.MISSING])
def test_a_missing_field_is_named(name: str) -> None:
    record = json.loads(to_json(REQUEST))
    del record[name]
    with pytest.raises(RequestInvalid, match=f"'{name}' is missing"):
        from_json(RunRequest, json.dumps(record))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "{", '"x"', "[" * 100_000, "{" * 100_000, "9" * 10_000, "\x00"])
def test_text_that_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        from_json(RunRequest, text)


def test_a_message_longer_than_allowed_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RequestInvalid, match="allowed"):
        from_json(RunRequest, " " * (protocol.MAX_MESSAGE_BYTES + 1))


def test_random_damage_never_raises_anything_else() -> None:
    source = random.Random(11)
    text = to_json(OUTCOME)
    for _ in range(3_000):
        damaged = list(text)
        for _ in range(source.randint(1, 3)):
            damaged[source.randrange(len(damaged))] = chr(source.choice([34, 44, 45, 48, 58, 91, 93, 123, 125, 110, 0x1F600]))
        try:
            from_json(RunOutcome, "".join(damaged))
        except RequestInvalid:
            continue


def test_not_a_number_is_never_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        to_json(dataclasses.replace(REQUEST, timeout_secs=float("nan")))


def test_every_column_of_every_stream_has_an_allowed_type() -> None:
    for columns in (protocol.QUERY_COLUMNS, protocol.sample_columns(5), protocol.TELEMETRY_COLUMNS, protocol.EVENT_COLUMNS):
        assert len({name for name, _ in columns}) == len(columns)
        assert all(np.dtype(dtype).itemsize <= 8 for _, dtype in columns)
    assert [name for name, _ in protocol.sample_columns(2)[4:]] == ["class_0", "class_1", "score_0", "score_1"]
