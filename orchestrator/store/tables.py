"""The tables. SQL is the truth; every message is only a nudge. Times are Unix seconds, UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class Experiment(SQLModel, table=True):
    """One submitted matrix. ``plan`` is the resolved request with every file as an artifact: editing the spec later changes nothing."""

    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    spec_file: str
    spec_text: str = Field(sa_column=Column(Text, nullable=False))
    spec_sha256: str
    plan: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    priority: int = 0
    max_devices: int | None = None
    submitted_at: float = Field(index=True)
    submitted_by: str
    finished_at: float | None = None
    cancel_requested_by: str | None = None
    edgematrix_version: str
    agent_sha256: str


class Job(SQLModel, table=True):
    """One cell of the matrix for one device. ``device_id`` is None until the scheduler has chosen one for an ``any`` demand."""

    __table_args__ = (
        UniqueConstraint("experiment_id", "job_key"),
        Index("ix_job_waiting", "state", "experiment_id"),
        Index("ix_job_due", "next_drive_at"),
        # The first waiting job of a device and an experiment, for many devices at once.
        Index("ix_job_device", "device_id", "state", "experiment_id", "id"),
    )

    id: str = Field(primary_key=True)
    experiment_id: str = Field(foreign_key="experiment.id")
    job_key: str
    model: str
    variant: str
    environment: str
    num_threads: int
    provider: str
    graph_optimization: str | None = None
    scenario: str
    repeat: int
    device_query: str
    device_id: int | None = Field(default=None, foreign_key="device.id")
    state: str
    outcome: str | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    attempts: int = 0
    fence: int | None = None
    next_drive_at: float | None = None
    progress: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    waiting_for: str | None = None
    submitted_at: float
    finished_at: float | None = None


class Attempt(SQLModel, table=True):
    """One execution of a job, under one lease (which may be renewed under a higher fence when a gateway died).

    ``traces`` names what was measured by an attempt that has no result: it was cut short, and holds what it has.
    """

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    number: int = Field(primary_key=True)
    device_id: int = Field(foreign_key="device.id", index=True)
    fence: int
    started_at: float
    ended_at: float | None = None
    status: str | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    outcome_message: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    conditions_key: str | None = None
    clock_offset_secs: float | None = None
    clock_offset_uncertainty_secs: float | None = None
    traces: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class Result(SQLModel, table=True):
    """The one result of a completed job; the primary key makes a second one impossible."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    attempt: int
    analysis_version: int
    validity: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    traces: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    published_at: float


class MetricRow(SQLModel, table=True):
    """One number of one job."""

    __tablename__ = "metric"

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    name: str = Field(primary_key=True)
    value: float | None = None
    unit: str
    low: float | None = None
    high: float | None = None
    count: int | None = Field(default=None, sa_column=Column(BigInteger))
    cause: str | None = None


class ImportedTrace(SQLModel, table=True):
    """A record of another instrument that somebody laid beside one attempt (``kind``: ``power``); the last one of a kind counts.

    ``source`` says in words where it came from, ``alignment`` how its clock was brought to the device's.
    """

    __tablename__ = "imported_trace"

    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    job_id: str = Field(foreign_key="job.id", index=True)
    attempt: int
    kind: str
    sha256: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    source: str
    alignment: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    actor: str
    at: float


class Device(SQLModel, table=True):
    """One physical thing, its health and its lease. ``fence`` only ever grows; the device keeps the highest it has seen, too.

    ``health_set_by`` is ``system`` or a person, whose decision no check changes; it ends at ``health_until``, if that is given.
    ``power_cycle`` says how a hung device is switched off and on, ``power_cycled_at`` when that was last tried in vain;
    ``surroundings`` how the chamber and the fan around it are set.
    """

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    profile: str
    gateway: str
    transport: str
    address: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    root: str
    labels: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    emulated: str = "none"
    health: str = "unknown"
    health_reason: str = ""
    health_set_by: str = "system"
    health_until: float | None = None
    next_check_at: float | None = None
    check_asked_at: float | None = None
    power_cycle: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    power_cycled_at: float | None = None
    surroundings: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    added_at: float
    fence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    lease_job_id: str | None = Field(default=None, index=True)
    lease_expires_at: float | None = None


class Reservation(SQLModel, table=True):
    """A person's use of a device: active while ``ended_at`` is None and ``ends_at`` lies ahead. Jobs of others do not start meanwhile."""

    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    device_id: int = Field(foreign_key="device.id", index=True)
    holder: str
    why: str = ""
    begins_at: float
    ends_at: float
    ended_at: float | None = None
    ended_by: str | None = None
    ended_why: str = ""


class Environment(SQLModel, table=True):
    """What runs a model on one device; ``digest`` identifies interpreter, runtimes, numpy and native libraries by content and version.

    ``golden_digest`` is what this environment answered to the golden models on this device when it was registered; it is compared with
    itself only. ``bundle_sha256`` names the bundle it came with, if it did.
    """

    __table_args__ = (UniqueConstraint("device_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    device_id: int = Field(foreign_key="device.id")
    name: str
    interpreter: list[str] = Field(sa_column=Column(JSON, nullable=False))
    digest: str
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    checked_at: float
    golden_digest: str | None = None
    bundle_sha256: str | None = None


class Bundle(SQLModel, table=True):
    """A self-contained interpreter with its runtimes for devices that have nothing installed; named by its payload's content."""

    sha256: str = Field(primary_key=True)
    arch: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    manifest: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    built_at: float
    built_by: str


class Artifact(SQLModel, table=True):
    """A file the store holds under its SHA-256."""

    sha256: str = Field(primary_key=True)
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    kind: str
    created_at: float


class StateChange(SQLModel, table=True):
    """Who changed what, when and why: a person, a token, or the system."""

    __tablename__ = "state_change"
    __table_args__ = (Index("ix_state_change_subject", "subject", "subject_id"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    subject: str
    subject_id: str
    old: str
    new: str
    actor: str
    why: str = ""
    at: float


class Lock(SQLModel, table=True):
    """A lock by name with an expiry, taken by compare-and-set: which scheduler is the active one."""

    name: str = Field(primary_key=True)
    holder: str
    expires_at: float
