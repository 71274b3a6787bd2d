"""The closed sets of words that describe jobs, devices and measurements (DESIGN.md, the words)."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life; ``outcome`` says apart from this whether it was measured."""

    SUBMITTED = "submitted"
    SCHEDULED = "scheduled"
    PREPARING = "preparing"
    RUNNING = "running"
    COLLECTING = "collecting"
    CANCELING = "canceling"
    FINISHED = "finished"


#: States in which a job holds the lease of a device.
LEASED_STATES = (JobState.SCHEDULED, JobState.PREPARING, JobState.RUNNING, JobState.COLLECTING, JobState.CANCELING)


class JobOutcome(StrEnum):
    """Whether a finished job was measured. Pass and fail belong to verdicts alone."""

    COMPLETED = "completed"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELED = "canceled"
    SKIPPED = "skipped"


class ErrorClass(StrEnum):
    """Whose fault an error is; only infrastructure errors are retried by themselves."""

    INFRASTRUCTURE = "infrastructure"
    CONFIGURATION = "configuration"
    JOB = "job"
    BUG = "bug"


class DeviceHealth(StrEnum):
    GOOD = "good"
    UNKNOWN = "unknown"
    BAD = "bad"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Validity(StrEnum):
    """How far a measurement may be trusted."""

    VALID = "valid"
    SEMIVALID = "semivalid"
    INVALID = "invalid"


class Emulation(StrEnum):
    """Whether a device is what it says: ``cpu`` (numerics yes, latency withheld), ``environment`` (native CPU, simulated surroundings)."""

    NONE = "none"
    CPU = "cpu"
    ENVIRONMENT = "environment"


class Scenario(StrEnum):
    ACCURACY = "accuracy"
    LATENCY = "latency"
    SOAK = "soak"


class TaskKind(StrEnum):
    CLASSIFICATION = "classification"
    ANOMALY = "anomaly"
    TENSOR = "tensor"
