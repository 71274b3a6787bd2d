"""A lock by name with an expiry, held by whoever renews it: which of several schedulers is the active one, which gateways are served."""

from __future__ import annotations

from sqlalchemy import Engine, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Lock


def hold_lock(engine: Engine, name: str, holder: str, now: float, term_secs: float) -> bool:
    """Take or renew the lock by compare-and-set; False while another holder's term runs."""
    with open_session(engine) as session:
        renewed = session.execute(
            update(Lock)
            .where(col(Lock.name) == name, (col(Lock.holder) == holder) | (col(Lock.expires_at) < now))
            .values(holder=holder, expires_at=now + term_secs)
            .returning(col(Lock.name))
        ).scalar_one_or_none()
        if renewed is not None:
            return True
        known = session.get(Lock, name) is not None
    if known:
        return False
    try:
        with open_session(engine) as session:
            session.add(Lock(name=name, holder=holder, expires_at=now + term_secs))
    except IntegrityError:
        return False
    return True


def give_lock(engine: Engine, name: str, holder: str) -> bool:
    """End the term at once, so that the next holder need not wait for it; False when the lock is another's already."""
    with open_session(engine) as session:
        given = session.execute(
            update(Lock).where(col(Lock.name) == name, col(Lock.holder) == holder).values(expires_at=0.0).returning(col(Lock.name))
        ).scalar_one_or_none()
    return given is not None
