"""Figure: submitting a matrix of 10,000 jobs, against writing the same rows with nothing around them."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from sqlmodel import Session, select

from benchmarks.homes import make_home, open_home
from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio
from benchmarks.plan import DIGITS, Figure, Plan, Row
from orchestrator.dispatch.expand import JOB_COLUMNS, expand
from orchestrator.dispatch.snapshot import snapshot
from orchestrator.domain.spec_text import parse_spec
from orchestrator.service.submission import submit
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment

BAR = Bar(2.5)
JOBS = 10_000


def measure(plan: Plan) -> Figure:
    """Submit to a fresh SQLite database each time; the baseline writes the very rows that a submission wrote.

    The baseline is the ``sqlite3`` module alone: the same file with the same tables and indexes, the same journal, no foreign keys to
    check, one transaction with one ``executemany``.
    """
    template = plan.scratch / "template"
    make_home(template)
    spec_file = _write_spec(plan.scratch)
    rows, statement = _rows_of_one_submission(template, plan.scratch / "first", spec_file)

    def bare() -> Measurement:
        home = _fresh(template, plan.scratch / "home")
        connection = sqlite3.connect(home / "edgematrix.sqlite", isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")
        elapsed = time.perf_counter() - started
        connection.close()
        return {"secs": elapsed}

    def whole() -> Measurement:
        context = open_home(_fresh(template, plan.scratch / "home"))
        started = time.perf_counter()
        submitted = submit(context, spec_file)
        elapsed = time.perf_counter() - started
        context.engine.dispose()
        assert submitted.job_count == JOBS, submitted
        return {"secs": elapsed}

    def transaction() -> Measurement:
        context = open_home(_fresh(template, plan.scratch / "home"))
        spec = parse_spec(spec_file.read_text(encoding="utf-8"), str(spec_file))
        planned, _ = snapshot(spec, spec_file.parent, context.artifacts)
        started = time.perf_counter()
        with open_session(context.engine) as session:
            expand(session, plan=planned, spec=spec, **_surroundings(session))
        elapsed = time.perf_counter() - started
        context.engine.dispose()
        return {"secs": elapsed}

    judged = []
    for what, candidate in (("the whole submission: spec, files, rows", whole), ("its transaction alone: expand and insert", transaction)):
        rounds = interleave(bare, candidate, plan.pairs, plan.seed)
        judged.append(
            Row(
                what=f"{JOBS} jobs, {what}, over one bare executemany",
                unit="ms",
                judgement=judge_ratio(rounds, "secs", BAR),
                baseline=median(item.baseline["secs"] for item in rounds) * 1e3,
                candidate=median(item.candidate["secs"] for item in rounds) * 1e3,
            )
        )
    return Figure(
        "submission", "Is a large matrix submitted at the speed of the database?", tuple(judged), {"sqlite": sqlite3.sqlite_version}
    )


def _surroundings(session: Session) -> dict[str, Any]:
    return {
        "devices": session.exec(select(Device)).all(),
        "environments": session.exec(select(Environment)).all(),
        "actor": "bench",
        "clock": time.time,
        "new_id": lambda: "bench",
        "agent_sha256": "0" * 64,
        "edgematrix_version": "0",
    }


def _fresh(template: Path, home: Path) -> Path:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)
    return home


def _write_spec(folder: Path) -> Path:
    """Write the demo's spec with its axes lengthened: 10 variants × 10 thread counts × (50 accuracy + 50 latency repeats)."""
    spec = yaml.safe_load((DIGITS.parent / "digits.yaml").read_text(encoding="utf-8"))
    shutil.copytree(DIGITS, folder / "digits")
    spec["settings"]["num_threads"] = list(range(1, 11))
    for scenario in spec["scenarios"].values():
        scenario["repeats"] = 50
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def _rows_of_one_submission(template: Path, home: Path, spec_file: Path) -> tuple[list[tuple[Any, ...]], str]:
    context = open_home(_fresh(template, home))
    submit(context, spec_file)
    context.engine.dispose()
    with sqlite3.connect(home / "edgematrix.sqlite") as connection:
        rows = connection.execute(f"SELECT {', '.join(JOB_COLUMNS)} FROM job ORDER BY id").fetchall()
    assert len(rows) == JOBS, len(rows)
    return rows, f"INSERT INTO job ({', '.join(JOB_COLUMNS)}) VALUES ({', '.join('?' * len(JOB_COLUMNS))})"
