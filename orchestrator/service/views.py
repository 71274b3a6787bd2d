"""What the service answers with: plain frozen records that the CLI prints and the API serializes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.service.use_views import ReservationView


@dataclass(frozen=True)
class ExperimentSummary:
    """``counts`` maps job states (unfinished) and outcomes (finished) to numbers of jobs."""

    id: str
    name: str
    state: str
    submitted_utc: str
    submitted_by: str
    priority: int
    counts: dict[str, int]
    job_count: int
    finished_count: int


@dataclass(frozen=True)
class RunningJob:
    """``lasting``: its phases may take minutes and are worth telling one by one; ``words`` say what it waits for, beyond its phase."""

    job_id: str
    label: str
    phase: str
    done: int
    total: int
    seconds_left: float | None
    lasting: bool = False
    words: str = ""


@dataclass(frozen=True)
class DeviceProgress:
    """One device's share of an experiment; ``waiting_for`` says in words why nothing runs."""

    device: str
    done: int
    total: int
    running: RunningJob | None
    waiting_for: str | None


@dataclass(frozen=True)
class Progress:
    """``blocked`` says, when nothing can go on without a person, why and what to do (every device that is still needed is unhealthy)."""

    experiment: ExperimentSummary
    devices: tuple[DeviceProgress, ...]
    finished: bool
    blocked: str | None = None


@dataclass(frozen=True)
class Submitted:
    """``warnings`` are facts a user should know (a model file that is not what it says, a percentile that cannot be supported)."""

    experiment_id: str
    name: str
    job_count: int
    skipped_count: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DryRunView:
    """``cells`` has one row per job group: model, variant, environment, settings, scenario, repeats and the devices that would run it."""

    name: str
    job_count: int
    skipped_count: int
    cells: tuple[dict[str, Any], ...]
    device_hours: float
    expected_finish_utc: str | None
    basis: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DeviceView:
    """``where`` says how it is reached: ``user@host:port``, or ``this computer``.

    ``tried_on_hardware`` tells whether the device's profile was ever tried on such a board, ``tried_note`` how far.
    """

    name: str
    profile: str
    gateway: str
    transport: str
    where: str
    health: str
    health_reason: str
    emulated: str
    labels: dict[str, str]
    tried_on_hardware: bool
    tried_note: str
    running_job: str | None
    environments: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    health_set_by: str = "system"
    health_until_utc: str | None = None
    reserved: ReservationView | None = None


@dataclass(frozen=True)
class EnvironmentView:
    name: str
    device: str
    interpreter: tuple[str, ...]
    digest: str
    runtimes: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One line of ``doctor`` or ``device check``: ``status`` is ok, warning or failed; ``remedy`` is a command where one exists."""

    name: str
    status: str
    found: str
    remedy: str = ""
