"""A lease is kept while its drive lasts, whatever befalls a single renewal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.dispatch import lease_keeper
from orchestrator.dispatch.lease_keeper import LeaseKeeper
from orchestrator.store.database import migrate, open_database

DEADLINE_SECS = 30.0


def test_a_renewal_that_fails_in_a_way_nobody_foresaw_ends_neither_this_nor_later_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[str] = []

    def renew(session: object, device_id: int, job_id: str, fence: int, now: float) -> bool:
        renewed.append(job_id)
        if len(renewed) == 1:
            raise RuntimeError("the driver says what it never said before")
        return True

    monkeypatch.setattr(lease_keeper, "renew_lease", renew)
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    keeper = LeaseKeeper(engine, time.time, every_secs=0.01)
    for job_id in ("first", "second"):
        seen = len(renewed)
        with keeper.keep(1, job_id, 1):
            end = time.monotonic() + DEADLINE_SECS
            while renewed[seen:].count(job_id) < 2:
                assert time.monotonic() < end, "its lease is not kept any more"
                time.sleep(0.005)
    engine.dispose()
