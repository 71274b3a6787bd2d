"""The records of other instruments that somebody laid beside an attempt."""

from __future__ import annotations

from sqlmodel import Session, col, select

from orchestrator.store.tables import ImportedTrace

#: The kind of a trace of an external power meter: ``time_ns`` on the device's CLOCK_MONOTONIC, ``power_mw``.
POWER = "power"


def latest_import(session: Session, job_id: str, attempt: int, kind: str) -> ImportedTrace | None:
    """Return the trace of a kind that was attached to an attempt last: that one counts."""
    return session.exec(
        select(ImportedTrace)
        .where(col(ImportedTrace.job_id) == job_id, col(ImportedTrace.attempt) == attempt, col(ImportedTrace.kind) == kind)
        .order_by(col(ImportedTrace.id).desc())
        .limit(1)
    ).first()
