"""Schedulers that look at the same device at the same moment, on both databases."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from agent.errors import EdgematrixError
from orchestrator.dispatch.leases import refence_expired, take_lease
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.store.database import open_database, read_session, session
from orchestrator.store.locks import hold_lock
from orchestrator.store.tables import Device, Experiment, Job

MANY = 6


@pytest.fixture
def jobs(database: Engine) -> list[str]:
    with session(database) as opened:
        opened.add(
            Device(
                name="pi",
                profile="p",
                gateway="g",
                transport="local",
                address={},
                root="/r",
                labels={},
                health=DeviceHealth.GOOD,
                facts={},
                added_at=0.0,
            )
        )
        opened.add(
            Experiment(
                id="e",
                name="e",
                spec_file="",
                spec_text="",
                spec_sha256="",
                plan={},
                submitted_at=0.0,
                submitted_by="me",
                edgematrix_version="0",
                agent_sha256="",
            )
        )
        opened.flush()
        names = [f"e-{number}" for number in range(MANY)]
        values = {"model": "m", "variant": "v", "environment": "d", "num_threads": 1, "provider": "p", "scenario": "accuracy", "repeat": 0}
        opened.add_all(
            Job(id=name, experiment_id="e", job_key=name, device_query="", state=JobState.SUBMITTED, submitted_at=0.0, **values)
            for name in names
        )
    return names


def at_once(database_url: str, work: list) -> list:  # type: ignore[type-arg]
    """Run each on a connection of its own, all from the same moment on."""
    gate, results = threading.Barrier(len(work)), [None] * len(work)

    def run(index: int) -> None:
        engine = open_database(database_url)
        try:
            gate.wait()
            results[index] = work[index](engine)
        except EdgematrixError as error:
            results[index] = error  # type: ignore[call-overload]
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_many_schedulers_one_gets_the_device_and_the_fence_grows_by_one(database: Engine, database_url: str, jobs: list[str]) -> None:
    def take(job_id: str):  # type: ignore[no-untyped-def]
        def work(engine: Engine) -> int | None:
            with session(engine) as opened:
                return take_lease(opened, 1, job_id, 100.0)

        return work

    results = at_once(database_url, [take(job_id) for job_id in jobs])
    assert sorted(results, key=str) == sorted([1] + [None] * (MANY - 1), key=str)
    with read_session(database) as opened:
        device = opened.exec(select(Device)).one()
        scheduled = [job for job in opened.exec(select(Job)).all() if job.state == JobState.SCHEDULED]
    assert [(job.id, job.fence) for job in scheduled] == [(device.lease_job_id, device.fence)]


def test_an_expired_lease_is_handed_over_once_however_many_look(database: Engine, database_url: str, jobs: list[str]) -> None:
    with session(database) as opened:
        assert take_lease(opened, 1, jobs[0], 100.0) == 1

    def refence(engine: Engine) -> list[tuple[str, int, str]]:
        with session(engine) as opened:
            return refence_expired(opened, 1000.0)

    results = at_once(database_url, [refence] * MANY)
    assert sorted(results, key=len) == [[]] * (MANY - 1) + [[(jobs[0], 2, "g")]]


def test_a_lock_has_one_holder_also_when_it_is_taken_for_the_first_time(database_url: str, jobs: list[str]) -> None:
    def hold(name: str):  # type: ignore[no-untyped-def]
        return lambda engine: hold_lock(engine, "scheduler", name, 100.0, 5.0)

    assert sorted(at_once(database_url, [hold(name) for name in jobs])) == [False] * (MANY - 1) + [True]
