"""What a real run of each cell leaves on a device: its outcome message and its streams, made by the real agent on this computer."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from agent import protocol
from benchmarks.fleet.world import recording_key
from orchestrator.dispatch.agent_package import build_agent_package
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.request import build_request
from orchestrator.domain.plan import Plan
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.tables import Job
from orchestrator.transports import open_transport

#: Enough queries for a run of seconds on a small board; the time that the simulated run takes is another matter.
_LOAD = protocol.LoadSettings(warmup_min_secs=0.0, warmup_runs=5, min_duration_secs=0.05, min_query_count=1024, max_duration_secs=5.0)
_DEADLINE_SECS = 120.0


def record(plan: Plan, artifacts: ArtifactStore, python: Path, root: Path) -> dict[str, Any]:
    """Run every variant in every scenario of the plan once; return outcome (JSON) and streams (hex) by :func:`recording_key`."""
    package = build_agent_package(root / "package")
    agent = DeviceAgent(open_transport("local", {}), str(root / "device"), [str(python)], package)
    agent.push_agent()
    recorded: dict[str, Any] = {}
    for model in plan.models.values():
        for variant in model.variants:
            for scenario in plan.scenarios:
                job = _job(f"rec-{len(recorded):06d}", model.name, variant, scenario)
                request = dataclasses.replace(build_request(plan, job, [str(python)], 1, 1), load=_LOAD)
                recorded[recording_key(dataclasses.asdict(request))] = _run(agent, request, artifacts)
    return recorded


def _job(job_id: str, model: str, variant: str, scenario: str) -> Job:
    return Job(
        id=job_id,
        experiment_id="rec",
        job_key="",
        model=model,
        variant=variant,
        environment="default",
        num_threads=1,
        provider="default",
        scenario=scenario,
        repeat=0,
        device_query="",
        state="scheduled",
        submitted_at=0.0,
    )


def _run(agent: DeviceAgent, request: protocol.RunRequest, artifacts: ArtifactStore) -> dict[str, Any]:
    name = f"{request.job_id}.{request.attempt}"
    for content in (request.model, request.inputs.content):
        agent.push_content(content.sha256, content.size_bytes, partial(artifacts.local_path, content.sha256))
    agent.push_request(name, request)
    agent.start(name, request.fence)
    deadline = time.monotonic() + _DEADLINE_SECS
    while (outcome := agent.outcome(name)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not end")
        time.sleep(0.05)
    if outcome.status != "completed":
        raise RuntimeError(f"{name} ended as {outcome.status}: {outcome.error}")
    streams = {
        stream: agent.transport.read_from(f"{agent.root}/{protocol.JOBS_FOLDER}/{name}/{stream}.spool", 0, reference.size_bytes) or b""
        for stream, reference in outcome.streams.items()
    }
    return {"outcome": json.loads(protocol.to_json(outcome)), "streams": {stream: data.hex() for stream, data in streams.items()}}
