"""The one contract between orchestrator and agent: messages, file names, streams and their columns.

A device's folder (its *root*) holds::

    agents/<sha256>.pyz          the agent, named by its content
    content/<sha256>             models and inputs, named by their content
    fence.json, fence.lock       the highest fence this device has seen
    custody.log, custody.log.1   the device's own record of who used it; see ``agent.custody``
    jobs/<job_id>.<attempt>/     one folder for each attempt:
        request.json                 RunRequest, written by the orchestrator
        queries.spool, samples.spool, outputs.spool, probes.spool     written by the runner
        telemetry.spool, events.spool                   written by the supervisor
        progress                     PROGRESS, rewritten in place by the runner
        read_mark                    touched whenever the orchestrator reads; see ``orphan_after_secs``
        cancel                       its presence asks the supervisor to end the run
        runner.json                  RunnerReport, written by the runner when all is measured, and again with the placement
        start.json                   RunStart, written by the supervisor before the runner starts: what a run that is lost leaves behind
        runner_start.json            RunnerStart, written by the runner before it loads the model
        control                      CONTROL, rewritten in place by the supervisor of a soak: the temperature that steers it
        outcome.json                 RunOutcome, written by the supervisor as its last act

Everything that comes from a device is untrusted: it is sized with the limits below and checked here before use.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from agent.channels import QUANTITIES as QUANTITIES
from agent.channels import SamplingCost as SamplingCost
from agent.channels import SensorInfo as SensorInfo
from agent.message_text import MAX_MESSAGE_BYTES as MAX_MESSAGE_BYTES
from agent.message_text import from_json as from_json
from agent.message_text import to_json as to_json
from agent.soak_settings import CONTROL as CONTROL
from agent.soak_settings import CONTROL_FILE as CONTROL_FILE
from agent.soak_settings import MAX_ARRIVALS as MAX_ARRIVALS
from agent.soak_settings import PATTERNS as PATTERNS
from agent.soak_settings import PROBE_COLUMNS as PROBE_COLUMNS
from agent.soak_settings import PROBES as PROBES
from agent.soak_settings import STOPS as STOPS
from agent.soak_settings import CoLoad as CoLoad
from agent.soak_settings import LoadPattern as LoadPattern
from agent.soak_settings import ProbeSettings as ProbeSettings
from agent.soak_settings import SoakReport as SoakReport
from agent.soak_settings import SoakSettings as SoakSettings
from agent.steps import STEP_PARAMETERS as STEP_PARAMETERS
from agent.steps import check_steps as check_steps

PROTOCOL_VERSION = 3

MAX_STREAM_BYTES = 4 * 1024 * 1024 * 1024

AGENTS_FOLDER = "agents"
CONTENT_FOLDER = "content"
#: Content that is still on its way lies in ``content/<sha256>.parts/``, as files ``<index, six digits>-<sha256 of the part>``.
PARTS_SUFFIX = ".parts"
BUNDLES_FOLDER = "bundles"
#: ``bundles/<sha256>.seed/`` holds just enough of an interpreter to unpack ``bundles/<sha256>/``.
SEED_SUFFIX = ".seed"
JOBS_FOLDER = "jobs"
FENCE_FILE = "fence.json"
FENCE_LOCK_FILE = "fence.lock"
REQUEST_FILE = "request.json"
PROGRESS_FILE = "progress"
READ_MARK_FILE = "read_mark"
CANCEL_FILE = "cancel"
RUNNER_REPORT_FILE = "runner.json"
OUTCOME_FILE = "outcome.json"
START_FILE = "start.json"
RUNNER_START_FILE = "runner_start.json"

# --- streams -------------------------------------------------------------------------------------------------

QUERIES = "queries"
SAMPLES = "samples"
OUTPUTS = "outputs"
TELEMETRY = "telemetry"
EVENTS = "events"
STREAMS = (QUERIES, SAMPLES, OUTPUTS, PROBES, TELEMETRY, EVENTS)

#: Phases of a run, as the number stored in the ``phase`` column and in PROGRESS.
PHASES = (
    *("starting", "loading", "first_query", "warmup", "steady", "accuracy", "finishing"),
    *("idle", "precondition", "probe", "cooldown"),
)

#: Columns of ``queries``: name, numpy dtype and unit. Every time is monotonic nanoseconds.
#: ``start_ns`` counts from the runner's origin (``RunnerReport.origin_monotonic_ns``); the three others are durations, so that
#: end-to-end = pre_ns + invoke_ns + post_ns and the harness' own cost is the gap to the next start. They are u8 because a query may
#: last longer than the 4.29 s that u4 nanoseconds hold; the spool stores them in four bytes wherever they fit.
QUERY_COLUMNS = (("phase", "u1"), ("sample", "<u4"), ("start_ns", "<u8"), ("pre_ns", "<u8"), ("invoke_ns", "<u8"), ("post_ns", "<u8"))


def sample_columns(top_k: int) -> Tuple[Tuple[str, str], ...]:
    """Columns of ``samples`` (one row per sample of an accuracy run).

    ``digest`` is the first 8 bytes of the SHA-256 of the raw output bytes of all output tensors, in order; ``confidence`` the softmax or
    probability of the top class (classification) or the score itself (anomaly); ``finite`` is 0 when any output is NaN or infinite.
    Where there is no such class (fewer classes than ``top_k``, or a task without classes) ``class_N`` is -1 and ``score_N`` NaN.
    """
    columns = [("sample", "<u4"), ("digest", "<u8"), ("finite", "u1"), ("confidence", "<f4")]
    columns += [(f"class_{rank}", "<i4") for rank in range(top_k)]
    columns += [(f"score_{rank}", "<f4") for rank in range(top_k)]
    return tuple(columns)


def output_columns(value_count: int) -> Tuple[Tuple[str, str], ...]:
    """Columns of ``outputs`` (full dequantized outputs, on request): the sample and its flattened values, in one sub-array column."""
    return (("sample", "<u4"), ("values", f"({value_count},)<f4"))


#: ``telemetry``: one row per reading; ``sensor`` indexes ``RunOutcome.sensors``. ``time_ns`` is the raw CLOCK_MONOTONIC, which Linux shares
#: among all processes: subtract ``RunnerReport.origin_monotonic_ns`` to compare with ``queries``. A reading that failed has no row.
#: The times of ``events`` are the same.
TELEMETRY_COLUMNS = (("time_ns", "<u8"), ("sensor", "<u2"), ("value", "<f8"))

#: ``events``: rare facts; ``code`` indexes EVENT_CODES, ``value`` depends on the code.
EVENT_COLUMNS = (("time_ns", "<u8"), ("code", "<u2"), ("value", "<f8"))
EVENT_CODES = (
    "supervisor_started",
    "runner_started",
    "runner_ended",
    "cancel_seen",
    "timeout_reached",
    "orphaned",
    "fence_adopted",
    "sample_late",
    # A soak. ``value``: the control temperature in °C, for the markers 1 for load and 0 for rest.
    "marker",
    "safety_stop",
    "battery_stop",
    "cooldown_started",
    "cooldown_ended",
    # ``value``: the channel's index in ``RunOutcome.sensors``. Said once for each time that a channel falls silent or speaks again.
    "sensor_failed",
    "sensor_recovered",
)

#: ``progress``: phase index, done, total (0 when unknown), seconds left (negative when unknown).
PROGRESS = struct.Struct("<IQQd")

# --- messages ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContentRef:
    """A file named by its content: SHA-256 (64 hex digits) and size in bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class InputsRef:
    """The inputs of a run: an ``.npy`` file whose first axis counts samples."""

    content: ContentRef
    sample_count: int
    sample_shape: List[int]
    dtype: str


@dataclass(frozen=True)
class Settings:
    """One point of the settings axes; what a runtime has no such setting for is None."""

    num_threads: int = 1
    provider: str = "default"
    graph_optimization: Optional[str] = None


@dataclass(frozen=True)
class LoadSettings:
    """When warm-up and the measured part of a latency run stop (FIELD: LoadGen's rules); seconds and counts.

    Warm-up ends when both minima are met. The steady part ends when minimum duration AND minimum count are met, or at the maximum.
    """

    warmup_min_secs: float = 1.0
    warmup_runs: int = 10
    min_duration_secs: float = 10.0
    min_query_count: int = 1024
    max_duration_secs: float = 60.0


@dataclass(frozen=True)
class RunRequest:
    """What the orchestrator asks of the agent: one attempt of one job.

    ``interpreter`` is the environment's whole command prefix, with which the runner is started. The agent cannot find it out by itself:
    under user-mode emulation the kernel's files show the command without its emulator, and the model would run on the native CPU.
    """

    protocol: int
    job_id: str
    attempt: int
    fence: int
    scenario: str
    task: str
    scores: str
    model: ContentRef
    runtime: str
    inputs: InputsRef
    steps: List[Dict[str, Any]]
    settings: Settings
    load: LoadSettings
    interpreter: List[str]
    timeout_secs: float
    class_count: Optional[int] = None
    top_k: int = 5
    full_outputs: bool = False
    telemetry_hz: float = 10.0
    orphan_after_secs: float = 900.0
    soak: Optional[SoakSettings] = None


@dataclass(frozen=True)
class TensorInfo:
    """One input or output tensor of the loaded model, as the runtime describes it; scale and zero point when quantized per tensor."""

    name: str
    shape: List[int]
    dtype: str
    scale: Optional[float] = None
    zero_point: Optional[int] = None


@dataclass(frozen=True)
class PlacedNode:
    """One node of the model as the runtime runs it (after its optimizations), and the provider or delegate that does."""

    name: str
    operator: str
    provider: str


@dataclass(frozen=True)
class Placement:
    """Where the model's nodes really ran: provider or delegate asked for, and nodes counted per provider. Empty counts carry a cause.

    ``fallback_count`` are the nodes that run elsewhere than asked; None when nothing in particular was asked for (``default``), or when
    it is unknown. ``fallback`` names the first MAX_FALLBACK_NODES of them.
    """

    asked: str
    used: List[str]
    node_counts: Dict[str, int] = field(default_factory=dict)
    cause: Optional[str] = None
    fallback_count: Optional[int] = None
    fallback: List[PlacedNode] = field(default_factory=list)


MAX_FALLBACK_NODES = 32

#: The placement's cause while the runner still looks for it: such a report holds a whole measurement, however the runner ends after it.
PLACEMENT_UNFINISHED = "the runner ended, or was ended after its time, while it ran the model again to see where the nodes go"


@dataclass(frozen=True)
class RunnerReport:
    """What the runner found and did, also when it fails in an orderly way.

    ``placement`` is set exactly when everything that was asked for has been measured, first with the cause PLACEMENT_UNFINISHED.
    """

    error: Optional[Dict[str, Any]] = None
    origin_monotonic_ns: int = 0
    runtime: Dict[str, str] = field(default_factory=dict)
    inputs: List[TensorInfo] = field(default_factory=list)
    outputs: List[TensorInfo] = field(default_factory=list)
    placement: Optional[Placement] = None
    load_ns: Optional[int] = None
    first_query_ns: Optional[int] = None
    warmup_count: int = 0
    steady_count: int = 0
    steady_ns: int = 0
    min_duration_met: Optional[bool] = None
    min_query_count_met: Optional[bool] = None
    flush_pauses_ns: List[int] = field(default_factory=list)
    flush_count: int = 0
    flush_total_ns: int = 0
    flush_longest_ns: int = 0
    peak_rss_bytes: Optional[int] = None
    rss_before_load_bytes: Optional[int] = None
    numpy_threads: Dict[str, Any] = field(default_factory=dict)
    soak: Optional[SoakReport] = None


@dataclass(frozen=True)
class RunnerStart:
    """What a runner says of itself before it loads the model, so that the queries of one that is killed can be placed in time."""

    origin_monotonic_ns: int
    runtime: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunStart:
    """What is known when the runner is about to start; with the spools it is all that a run leaves whose supervisor was killed."""

    protocol: int
    job_id: str
    attempt: int
    fence: int
    agent_version: str
    agent_sha256: str
    started_utc: str
    boot_id: Optional[str] = None
    conditions: Dict[str, Any] = field(default_factory=dict)
    sensors: List[SensorInfo] = field(default_factory=list)


@dataclass(frozen=True)
class RunOutcome:
    """The supervisor's last act: how the attempt ended and everything that was found beside it.

    ``stopped`` is one of STOPS when a soak was ended before its time by a rule of its own; its status is ``completed`` all the same.
    """

    protocol: int
    job_id: str
    attempt: int
    fence: int
    agent_version: str
    agent_sha256: str
    status: str
    started_utc: str
    ended_utc: str
    duration_secs: float
    error: Optional[Dict[str, Any]] = None
    runner: Optional[RunnerReport] = None
    conditions: Dict[str, Any] = field(default_factory=dict)
    sensors: List[SensorInfo] = field(default_factory=list)
    streams: Dict[str, ContentRef] = field(default_factory=dict)
    sampling: Optional[SamplingCost] = None
    stopped: Optional[str] = None


OUTCOME_STATUSES = ("completed", "error", "timeout", "canceled")


@dataclass(frozen=True)
class RunStatus:
    """The reply to ``status``: what is true of one attempt on the device now.

    ``restarted``, of a lost run: whether the device was restarted since the run began; None when unknown.
    """

    state: str
    fence: int
    phase: str = "starting"
    done: int = 0
    total: int = 0
    seconds_left: Optional[float] = None
    streams: Dict[str, int] = field(default_factory=dict)
    restarted: Optional[bool] = None


#: ``absent``: no such folder; ``pushed``: a request lies there, nothing was started; ``running``: a supervisor lives;
#: ``ended``: outcome.json is there; ``lost``: started, no supervisor lives, no outcome.
RUN_STATES = ("absent", "pushed", "running", "ended", "lost")
