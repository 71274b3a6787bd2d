"""Every format that was ever released can still be read. The files beside this one are never edited; see README.md."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import Engine, inspect

from orchestrator.domain.results import RESULT_FORMAT, ResultEnvelope
from orchestrator.store.database import migrate, open_database, read_session
from orchestrator.store.results import load_envelopes
from orchestrator.store.tables import Artifact, Bundle, Device, Environment, Experiment, Job, Lock, Reservation, StateChange

HERE = Path(__file__).parent


def released(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def load_sqlite(url: str, script: str) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.executescript(script)
    connection.close()


def load_postgresql(url: str, script: str) -> None:
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(script)  # type: ignore[call-overload]


def test_a_result_of_format_1_is_read() -> None:
    envelope = ResultEnvelope.model_validate(released("result_1.json"))
    assert envelope.format == 1
    metric = envelope.metric("invoke_ms.p50")
    assert metric is not None
    assert (metric.value, metric.low, metric.high) == (0.125, 0.124, 0.126)
    assert envelope.model_dump(mode="json") == released("result_1.json")


def test_a_result_of_format_1_follows_the_schema_published_for_it() -> None:
    validator = jsonschema.Draft202012Validator(released("result_1.schema.json"))
    validator.validate(released("result_1.json"))
    broken = released("result_1.json")
    broken["job"]["state"] = "flying"
    assert not validator.is_valid(broken)


def test_the_schema_of_a_format_does_not_change_unless_its_number_does() -> None:
    published = released(f"result_{RESULT_FORMAT}.schema.json")
    assert ResultEnvelope.model_json_schema() == published, (
        "ResultEnvelope changed: raise RESULT_FORMAT and add the fixtures of the new format. Before the first release, write "
        f"the schema anew into result_{RESULT_FORMAT}.schema.json and complete result_{RESULT_FORMAT}.json"
    )


@pytest.mark.parametrize("revision", ["0001", "0002"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_an_earlier_migration_migrates_to_head_with_all_it_holds(
    kind: str, revision: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
    load = load_sqlite if kind == "sqlite" else load_postgresql
    load(url, (HERE / f"database_{revision}.{kind}.sql").read_text(encoding="utf-8"))
    engine = open_database(url)
    try:
        migrate(engine)
        _check(engine)
        if revision >= "0002":
            _check_lab(engine)
    finally:
        engine.dispose()


def _check(engine: Engine) -> None:
    assert "job" in inspect(engine).get_table_names()
    with read_session(engine) as reading:
        assert [found.model_dump(mode="json") for found in load_envelopes(reading)] == [released("result_1.json")]
        assert reading.get_one(Experiment, "e1").submitted_by == "ada"
        assert reading.get_one(Job, "j1").fence == 7
        assert reading.get_one(Device, 1).labels == {"room": "a"}
        assert reading.get_one(Environment, 1).interpreter == ["python3"]
        assert reading.get_one(Artifact, "ab" * 32).kind == "trace"
        assert reading.get_one(StateChange, 1).new == "finished"
        assert reading.get_one(Lock, "scheduler").holder == "h"


def _check_lab(engine: Engine) -> None:
    with read_session(engine) as reading:
        device = reading.get_one(Device, 1)
        assert (device.health_set_by, device.health_until) == ("ada", 1_700_000_500.0)
        assert device.power_cycle == {"driver": "command", "argv": ["pdu", "7"]}
        assert device.surroundings is None
        assert reading.get_one(Experiment, "e1").max_devices == 2
        assert reading.get_one(Environment, 1).golden_digest == "9f"
        assert reading.get_one(Reservation, 1).holder == "ada"
        assert reading.get_one(Bundle, "cd" * 32).manifest == {"loader": "ld.so"}
