"""Is this device fit to measure? Reached, spoken to, its environments run a tiny model, its clock and disk within limits."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from sqlmodel import col, select

from agent.errors import EdgematrixError
from orchestrator.dispatch.device_agent import DeviceAgent, end_leftovers
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.ledger import set_health
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment

log = structlog.get_logger(__name__)

_MAX_CLOCK_OFFSET_SECS = 5.0
#: What a short run writes. With less than that free, every job that waits would be spent on errors. Random: zeros take no room everywhere.
_PROBE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class HealthCheck:
    """One finding; ``status`` is ok, warning or failed. One failed check makes the device bad."""

    name: str
    status: str
    found: str
    remedy: str = ""


def check_device(gateway: Gateway, name: str) -> tuple[HealthCheck, ...]:
    """Check one device and record its health; devices in use are left alone, since a check would disturb the measurement."""
    with read_session(gateway.engine) as session:
        device = session.exec(select(Device).where(col(Device.name) == name)).one_or_none()
        if device is None or device.lease_job_id is not None:
            return ()
        environments = session.exec(
            select(Environment).where(col(Environment.device_id) == device.id).order_by(col(Environment.name))
        ).all()
    findings: list[HealthCheck] = []
    facts: dict[str, Any] = {}
    for environment in environments:
        findings += _check_environment(gateway, device, environment, facts)
    if not environments:
        findings.append(
            HealthCheck(
                "environment", "failed", "no environment is registered", f"edgematrix env add default --python PATH --device {name}"
            )
        )
    failed = [finding for finding in findings if finding.status == "failed"]
    health = DeviceHealth.BAD if failed else DeviceHealth.GOOD
    why = "; ".join(f"{finding.name}: {finding.found}" + (f" ({finding.remedy})" if finding.remedy else "") for finding in failed)
    now = gateway.clock()
    with open_session(gateway.engine) as session:
        row = session.get_one(Device, device.id)
        if row.lease_job_id is not None or row.fence != device.fence:
            # Somebody else's check was faster and a job has begun since: what we saw, and were refused, is no longer about an idle device.
            return ()
        set_health(session, device, health, why, now)
        row.facts = {**row.facts, **facts, "checked_at": now}
        session.add(row)
    log.info("health check", device=name, health=health, why=why)
    return tuple(findings)


def _check_environment(gateway: Gateway, device: Device, environment: Environment, facts: dict[str, Any]) -> list[HealthCheck]:
    agent = gateway.agent_for(device, environment.interpreter)
    try:
        agent.push_agent()
        hello = agent.hello()
    except EdgematrixError as error:
        return [HealthCheck(f"reach ({environment.name})", "failed", error.message, error.remedy)]
    findings = [HealthCheck(f"reach ({environment.name})", "ok", "the agent answers")]
    if not facts:
        facts |= {key: hello[key] for key in ("clock_offset_secs", "clock_offset_uncertainty_secs") if key in hello}
        findings.append(_check_clock(hello))
        findings.append(_check_disk(agent))
        findings.append(_check_leftovers(agent, device))
    findings.append(_check_runtimes(agent, environment, facts))
    # A run takes a moment to end, and the self-tests take longer: by now what was told to stop above can be removed.
    with suppress(EdgematrixError):
        end_leftovers(agent, device.fence)
    return findings


def _check_clock(hello: dict[str, Any]) -> HealthCheck:
    offset = hello.get("clock_offset_secs")
    if offset is None:
        return HealthCheck("clock", "warning", "the device did not tell its time")
    status = "ok" if abs(offset) <= _MAX_CLOCK_OFFSET_SECS else "failed"
    return HealthCheck(
        "clock",
        status,
        f"{offset:+.3f} s from this computer",
        "" if status == "ok" else "set the device's clock (timedatectl set-ntp true)",
    )


def _check_disk(agent: DeviceAgent) -> HealthCheck:
    """Write where runs will write: the only check of a disk that also finds a read-only one, and one that merely has room for a note."""
    probe = f"{agent.root}/health-probe"
    try:
        agent.transport.put_bytes(os.urandom(_PROBE_BYTES), probe)
        agent.transport.put_bytes(b"", probe)
    except EdgematrixError as error:
        return HealthCheck("disk", "failed", error.message, error.remedy)
    return HealthCheck("disk", "ok", f"{agent.root} is writable")


def _check_leftovers(agent: DeviceAgent, device: Device) -> HealthCheck:
    """Nobody holds this device, so no run may live on it."""
    try:
        end_leftovers(agent, device.fence)
        living = [run for run, state in agent.runs() if state == "running"]
    except EdgematrixError as error:
        return HealthCheck("left behind", "failed", error.message, error.remedy)
    if living:
        return HealthCheck("left behind", "warning", f"{', '.join(living)} still ends", "it was told to stop")
    return HealthCheck("left behind", "ok", "no run lives here")


def _check_runtimes(agent: DeviceAgent, environment: Environment, facts: dict[str, Any]) -> HealthCheck:
    name = f"runtimes ({environment.name})"
    try:
        found = agent.facts()
    except EdgematrixError as error:
        return HealthCheck(name, "failed", error.message, error.remedy)
    facts.setdefault("conditions", found.get("conditions", {}))
    runtimes = found.get("runtimes", {})
    working = {key: value.get("version", "") for key, value in runtimes.items() if value.get("available")}
    if not working:
        causes = "; ".join(f"{key}: {value.get('cause')}" for key, value in runtimes.items())
        return HealthCheck(name, "failed", f"no runtime passes its self-test: {causes}", "install the agent's packages in that environment")
    return HealthCheck(name, "ok", ", ".join(f"{key} {version}" for key, version in working.items()))
