"""Brings the streams of a run over and reads them: whole and verified from a run that has ended well, as far as they go from any other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import structlog

from agent import errors, protocol
from agent.spool import SpoolContents, SpoolDamaged, read_spool
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.measuring import Streams
from orchestrator.dispatch.request import required_streams, stream_limit
from orchestrator.domain.plan import Plan
from orchestrator.store.tables import Job

log = structlog.get_logger(__name__)

#: How long one drive pulls; what is left comes with the next nudge, under a renewed lease. The queries of a long soak over a slow link take
#: longer than any one drive may.
PULL_SECS = 60.0


class PullUnfinished(Exception):
    """There is more to bring over than one drive has time for; the next one goes on where this one stopped."""


def pull_whole(
    gateway: Gateway, agent: DeviceAgent, plan: Plan, job: Job, fence: int, references: Mapping[str, protocol.ContentRef]
) -> Streams:
    """Bring the streams over that a completed run says it wrote, and verify them against what it says.

    Only the names of the protocol are ever asked for, into files this side has named. Raises :class:`agent.errors.DeviceReplyInvalid`,
    :class:`agent.errors.DigestMismatch`, :class:`agent.spool.SpoolDamaged`; the attempt is then repeated. Raises :class:`PullUnfinished`.
    """
    run = f"{job.id}.{job.attempts}"
    missing = [stream for stream in required_streams(plan, job) if stream not in references]
    if missing:
        raise errors.DeviceReplyInvalid(f"{run} claims to be complete and brings no {' and no '.join(missing)}", "it is tried again")
    folder, out_of_time = gateway.run_folder(run, fence), _deadline(gateway)
    streams: Streams = {}
    for stream in protocol.STREAMS:
        reference = references.get(stream)
        if reference is None:
            continue
        limit = stream_limit(plan, job, stream)
        if not 0 <= reference.size_bytes <= limit:
            raise errors.DeviceReplyInvalid(f"{stream} of {run} claims {reference.size_bytes} bytes; at most {limit} are possible")
        target = folder / f"{stream}.spool"
        size = agent.pull_stream(run, stream, target, reference.size_bytes, out_of_time=out_of_time)
        if size < reference.size_bytes and out_of_time():
            raise PullUnfinished
        if size != reference.size_bytes or _sha256(target) != reference.sha256:
            target.unlink()
            raise errors.DigestMismatch(
                f"{stream} of {run}: {size} bytes arrived that are not the {reference.size_bytes} the agent wrote", "it is tried again"
            )
        found = _read(target, stream, plan.models[job.model].task.top_k)
        if found.torn_bytes:
            raise errors.DeviceReplyInvalid(
                f"{stream} ends with {found.torn_bytes} bytes of a block that was never finished", "it is tried again"
            )
        streams[stream] = dict(found.columns)
    return streams


def pull_partial(gateway: Gateway, agent: DeviceAgent, plan: Plan, job: Job, fence: int) -> Streams:
    """Bring over what a run has written that will not go on: every stream to its last whole block; one that is damaged is left out.

    A link that breaks raises as ever, and the next call goes on where this one stopped. Raises :class:`PullUnfinished`.
    """
    run = f"{job.id}.{job.attempts}"
    folder, out_of_time = gateway.run_folder(run, fence), _deadline(gateway)
    streams: Streams = {}
    for stream in protocol.STREAMS:
        target = folder / f"{stream}.spool"
        before = target.stat().st_size if target.exists() else 0
        size = agent.pull_stream(run, stream, target, stream_limit(plan, job, stream), out_of_time=out_of_time)
        if size > before and out_of_time():
            # Whether that was all of it is seen when nothing more comes.
            raise PullUnfinished
        if size == 0:
            continue
        try:
            found = _read(target, stream, plan.models[job.model].task.top_k)
        except (SpoolDamaged, errors.DeviceReplyInvalid) as error:
            log.warning("a stream of a failed attempt is left out", run=run, stream=stream, why=error.message)
            continue
        if found.block_count:
            streams[stream] = dict(found.columns)
    return streams


def _deadline(gateway: Gateway) -> Callable[[], bool]:
    until = gateway.clock() + PULL_SECS
    return lambda: gateway.clock() >= until


def _read(path: Path, stream: str, top_k: int) -> SpoolContents:
    """Read a spool that holds the columns that the protocol gives its stream."""
    found = read_spool(path, expected_stream=stream)
    expected: dict[str, str] = {
        protocol.QUERIES: dict(protocol.QUERY_COLUMNS),
        protocol.SAMPLES: dict(protocol.sample_columns(top_k)),
        protocol.OUTPUTS: {"sample": "<u4", "values": "<f4"},
        protocol.PROBES: dict(protocol.PROBE_COLUMNS),
        protocol.TELEMETRY: dict(protocol.TELEMETRY_COLUMNS),
        protocol.EVENTS: dict(protocol.EVENT_COLUMNS),
    }[stream]
    kinds = {name: np.dtype(kind) for name, kind in expected.items()}
    if {name: column.dtype for name, column in found.columns.items()} != kinds:
        raise errors.DeviceReplyInvalid(f"{stream} holds the columns {', '.join(found.columns)[:200]}, which are not the protocol's")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
