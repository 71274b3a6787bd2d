"""A lab with its own servers: PostgreSQL, a shared Redis, and scheduler and worker as processes that nobody watches."""

from __future__ import annotations

import json
import signal

import sqlalchemy

from tests.integration.running import AGENT_PYTHON, DIGITS, Home, variant, write_spec


def test_a_lab_with_its_own_servers_runs_what_is_submitted_and_ends_in_order(home: Home, postgres_url: str, redis_url: str) -> None:
    servers = {"EDGEMATRIX_DATABASE_URL": postgres_url, "EDGEMATRIX_REDIS_URL": redis_url.replace("unix://", "redis+socket://")}
    spec = write_spec(
        home.specs, [variant("fp32", DIGITS / "onnx_fp32.onnx"), variant("w8a8", DIGITS / "onnx_u8s8.onnx", precision="w8a8")]
    )
    lab = {**servers, "EDGEMATRIX_GATEWAY": "bench-1"}
    assert home.run("device", "add", "this-computer", **lab).code == 0
    assert home.run("env", "add", "default", "--python", AGENT_PYTHON, **lab).code == 0
    assert home.run("device", "check", "this-computer", **lab).code == 0
    submitted = home.run("submit", spec, "--json", **lab)
    assert submitted.code == 0, submitted.stderr
    processes = [home.start("scheduler", **lab), home.start("scheduler", **lab), home.start("worker", "--gateway", "bench-1", **lab)]
    watched = home.run("watch", json.loads(submitted.stdout)["experiment_id"], **lab)
    assert watched.code == 0, watched.stdout + watched.stderr
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        outcomes = connection.execute(sqlalchemy.text("SELECT outcome, count(*) FROM job GROUP BY outcome")).all()
        results = connection.execute(sqlalchemy.text("SELECT count(*) FROM result")).scalar_one()
    engine.dispose()
    assert [tuple(row) for row in outcomes] == [("completed", 2)]
    assert results == 2
    for process in processes:
        home.send(process.pid, signal.SIGTERM)
    assert [process.end().code for process in processes] == [0, 0, 0]
    home.assert_nothing_runs()
