"""What is kept beside an attempt: the device's own words about it, and what makes it comparable with another one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from agent import protocol
from orchestrator.dispatch.starting import start_conditions
from orchestrator.store.tables import Environment, Job

#: Facts that make two measurements comparable; times, loads and temperatures are found anew at every run and are left out.
_CONDITION_KEYS = ("board", "cpu", "memory_bytes", "kernel", "os", "frequency", "virtualization", "container", "cpu_quota")


def conditions_key(outcome: protocol.RunOutcome, environment: Environment | None) -> str:
    """Hash the facts found that decide whether another measurement was made under the same conditions."""
    facts: dict[str, Any] = {name: outcome.conditions.get(name) for name in _CONDITION_KEYS}
    facts["environment"] = environment.digest if environment else None
    facts["agent"] = outcome.agent_sha256
    facts["runtime"] = outcome.runner.runtime if outcome.runner else None
    facts["placement"] = dataclasses.asdict(outcome.runner.placement) if outcome.runner and outcome.runner.placement else None
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def message_of(outcome: protocol.RunOutcome, job: Job) -> dict[str, Any]:
    """The outcome as plain JSON, its conditions with what this side did before the start: the gate's readings, the surroundings set."""
    message: dict[str, Any] = json.loads(protocol.to_json(outcome))
    message["conditions"] |= start_conditions(job.progress)
    return message
