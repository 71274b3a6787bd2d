"""Who uses a device: what the service answers about reservations, kicks and history."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.times import format_moment, utc_text
from orchestrator.store.tables import Reservation


@dataclass(frozen=True)
class ReservationView:
    """``text`` says it for people, in the time of this computer: "reserved by ada until 14:30 CET: bring-up of the new firmware"."""

    device: str
    holder: str
    why: str
    begins_utc: str
    ends_utc: str
    ended_utc: str | None
    ended_by: str | None
    ended_why: str
    text: str


@dataclass(frozen=True)
class ReservedView:
    """A new reservation; ``running_job`` is what ends normally first, ``kicked_job`` what was canceled for it."""

    reservation: ReservationView
    running_job: str | None
    kicked_job: str | None


@dataclass(frozen=True)
class KickView:
    """What a kick ended; a ``job`` that is not ``canceled`` was past canceling: its results are in, and it leaves by itself."""

    device: str
    reservation: ReservationView | None
    job: str | None
    canceled: bool


@dataclass(frozen=True)
class Use:
    """One use of a device: a job's attempt or a reservation (``kind``); ``secs`` up to now where it has no end yet."""

    kind: str
    person: str
    began_utc: str
    ended_utc: str | None
    secs: float
    experiment: str | None
    experiment_id: str | None
    job_id: str | None
    attempt: int | None
    how: str


@dataclass(frozen=True)
class DeviceChange:
    """What became of the device itself, by whom and why."""

    at_utc: str
    old: str
    new: str
    actor: str
    why: str


@dataclass(frozen=True)
class PersonUse:
    """One person's use of a device in total."""

    person: str
    job_attempts: int
    job_secs: float
    reservations: int
    reserved_secs: float


@dataclass(frozen=True)
class DeviceHistory:
    """``uses`` and ``changes`` newest first, as many as were asked for; ``totals`` over the whole time asked about."""

    device: str
    since_utc: str | None
    uses: tuple[Use, ...]
    changes: tuple[DeviceChange, ...]
    totals: tuple[PersonUse, ...]


def view_reservation(row: Reservation, device: str, now: float) -> ReservationView:
    """A reservation's row as it is told."""
    over = row.ended_at is not None or row.ends_at <= now
    ended_at = row.ended_at if row.ended_at is not None else row.ends_at if over else None
    text = f"{'was ' if over else ''}reserved by {row.holder} until {format_moment(row.ends_at if ended_at is None else ended_at, now)}"
    return ReservationView(
        device=device,
        holder=row.holder,
        why=row.why,
        begins_utc=utc_text(row.begins_at),
        ends_utc=utc_text(row.ends_at),
        ended_utc=None if ended_at is None else utc_text(ended_at),
        ended_by=row.ended_by,
        ended_why=row.ended_why,
        text=text + (f": {row.why}" if row.why else ""),
    )
