"""Is this device fit to measure? Reached, spoken to, its environments run a tiny model, and everything its profile demands holds.

A device is compared with its profile and with its own past, never with other devices: that CPUs compute differently is what we are here to
find, not a fault.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

import structlog
from sqlmodel import col, select

from agent.errors import DeviceUnreachable, EdgematrixError
from orchestrator.dispatch import health_findings as finding
from orchestrator.dispatch.check_schedule import next_check_at
from orchestrator.dispatch.device_agent import DeviceAgent, end_leftovers
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health_findings import HealthCheck as HealthCheck
from orchestrator.dispatch.ledger import note_change, set_health
from orchestrator.dispatch.power_cycle import power_cycle
from orchestrator.dispatch.profiles import load_profile
from orchestrator.domain.profiles import DeviceProfile
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment
from orchestrator.transports.ssh_errors import REFUSALS

log = structlog.get_logger(__name__)


def check_device(gateway: Gateway, name: str) -> tuple[HealthCheck, ...]:
    """Check one device and record its health; devices in use are left alone, since a check would disturb the measurement.

    A device that cannot be reached, and has a way to be switched off and on, gets that once before it is called bad.
    """
    with read_session(gateway.engine) as session:
        device = session.exec(select(Device).where(col(Device.name) == name)).one_or_none()
        if device is None or device.lease_job_id is not None:
            return ()
        environments = session.exec(
            select(Environment).where(col(Environment.device_id) == device.id).order_by(col(Environment.name))
        ).all()
    check = _Check(gateway, device)
    for environment in environments:
        check.environment(environment)
    if not environments:
        check.without_environment()
    return _record(gateway, check)


def golden_digest(runtimes: dict[str, Any]) -> str | None:
    """One digest (SHA-256, hex) over what each working runtime answered to its golden model; None when none answered."""
    told = {name: about.get("golden_sha256") for name, about in runtimes.items() if about.get("available")}
    answers = {name: digest for name, digest in told.items() if isinstance(digest, str)}
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest() if answers else None


class _Check:
    """One look at one device; ``findings`` and ``facts`` gather what was found, ``silent`` whether it could not be reached at all."""

    def __init__(self, gateway: Gateway, device: Device) -> None:
        self.gateway, self.device = gateway, device
        self.findings: list[HealthCheck] = []
        self.facts: dict[str, Any] = {}
        self.silent = False
        self._seen = False

    def environment(self, environment: Environment) -> None:
        """Check one environment, and with the first that answers the device itself."""
        agent = self.gateway.agent_for(self.device, environment.interpreter)
        try:
            agent.push_agent()
            hello = agent.hello()
        except EdgematrixError as error:
            self._not_reached(f"reach ({environment.name})", error)
            return
        self.findings.append(HealthCheck(f"reach ({environment.name})", "ok", "the agent answers"))
        if not self._seen:
            self._seen = True
            self._board(agent, hello)
        self._runtimes(agent, environment)
        if any(item.name == "left behind" and item.status == "warning" for item in self.findings):
            # A run takes a moment to end, and the self-tests take longer: by now what was told to stop above can be removed.
            with suppress(EdgematrixError):
                end_leftovers(agent, self.device.fence)

    def without_environment(self) -> None:
        """A device that nothing can run on yet: whether it is there at all can be said."""
        try:
            self.gateway.transport_of(self.device).size_of(f"{self.device.root}/fence.json")
            self.findings.append(HealthCheck("reach", "ok", "it answers"))
        except EdgematrixError as error:
            self._not_reached("reach", error)
        remedy = f"edgematrix env add default --python PATH --device {self.device.name}"
        self.findings.append(HealthCheck("environment", "failed", "no environment is registered", remedy))

    def _not_reached(self, what: str, error: EdgematrixError) -> None:
        # A host that answers and refuses us does not come round by losing its power.
        hung = isinstance(error, DeviceUnreachable) and not isinstance(error, REFUSALS)
        self.silent = self.silent or (hung and not self._seen)
        self.findings.append(self._failed(what, error))

    def _failed(self, what: str, error: EdgematrixError) -> HealthCheck:
        return finding.failed(what, error, self.device.name)

    def _board(self, agent: DeviceAgent, hello: dict[str, Any]) -> None:
        self.facts |= {key: hello[key] for key in ("clock_offset_secs", "clock_offset_uncertainty_secs") if key in hello}
        exclusive = finding.exclusive(agent, self.device.fence, self.device.name)
        self.findings.append(exclusive)
        if exclusive.status == "ok":  # else the runs there may be somebody's
            self.findings.append(finding.leftovers(agent, self.device))
        try:
            profile: DeviceProfile = load_profile(self.device.profile)
            told = agent.health()
        except EdgematrixError as error:
            self.findings.append(self._failed("board", error))
            return
        before = self.device.facts.get("sensors")
        self.findings += [
            finding.architecture(hello, profile),
            finding.clock(hello, profile.health),
            finding.disk(agent, told, profile.health, self.device.name),
            finding.background_load(told, profile.health),
            finding.sensors(told, before if isinstance(before, list) else []),
            finding.power_supply(told),
        ]
        readable = [str(item.get("name")) for item in told["sensors"] if item.get("error") is None]
        # Those ever seen: one that is gone is missed at every check, until the device is added anew.
        self.facts["sensors"] = sorted({*readable, *(before if isinstance(before, list) else [])})

    def _runtimes(self, agent: DeviceAgent, environment: Environment) -> None:
        try:
            found = agent.facts()
        except EdgematrixError as error:
            self.findings.append(self._failed(f"runtimes ({environment.name})", error))
            return
        self.facts.setdefault("conditions", found.get("conditions", {}))
        self.findings.append(finding.runtimes(found["runtimes"], environment.name))
        self.findings.append(finding.golden(golden_digest(found["runtimes"]), environment, self.device.name))


def _record(gateway: Gateway, check: _Check) -> tuple[HealthCheck, ...]:
    device, tried, back = check.device, False, False
    if check.silent and device.power_cycle is not None:
        tried = device.power_cycled_at is None
        cycled = power_cycle(device) if tried else finding.cycled_in_vain(device)
        back = cycled.status == "ok"
        check.findings.append(cycled)
    failed = [item for item in check.findings if item.status == "failed"]
    health = DeviceHealth.BAD if failed else DeviceHealth.GOOD
    why = "; ".join(f"{item.name}: {item.found}" + (f" ({item.remedy})" if item.remedy else "") for item in failed)
    if back:
        health, why = DeviceHealth.UNKNOWN, f"it was switched off and on and is given time to boot; before that: {why}"
    now = gateway.clock()
    with open_session(gateway.engine) as session:
        row = session.get_one(Device, device.id)
        if row.lease_job_id is not None or row.fence != device.fence:
            # Somebody else's check was faster and a job has begun since: what we saw, and were refused, is no longer about an idle device.
            return ()
        set_health(session, device, health, why, now)
        bad_before = int(row.facts.get("bad_checks") or 0)
        row.facts = {**row.facts, **check.facts, "checked_at": now, "bad_checks": bad_before + 1 if health == DeviceHealth.BAD else 0}
        row.power_cycled_at = None if health == DeviceHealth.GOOD else now if tried else row.power_cycled_at
        if tried:
            note_change(session, "device", device.name, "power", "off and on", "system", now, why)
        row.next_check_at, row.check_asked_at = next_check_at(health, bad_before, now), None
        session.add(row)
    log.info("health check", device=device.name, health=health, why=why)
    return tuple(check.findings)
