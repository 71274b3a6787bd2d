"""Devices, their environments and profiles: what there is, whether it works, and how to add to it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import ConfigurationError, EdgematrixError, MissingRuntime
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health import HealthCheck, golden_digest
from orchestrator.dispatch.health import check_device as check_health
from orchestrator.dispatch.profiles import load_profile, load_profiles
from orchestrator.dispatch.reservations import active, reservation_of
from orchestrator.domain.profiles import DeviceProfile
from orchestrator.domain.states import DeviceHealth
from orchestrator.domain.times import utc_text
from orchestrator.service.context import Context
from orchestrator.service.elsewhere import ask_for_check, is_elsewhere, refuse_elsewhere
from orchestrator.service.use_views import ReservationView, view_reservation
from orchestrator.service.views import Check, DeviceView, EnvironmentView
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment, Reservation
from orchestrator.worker.local_environment import find_agent_python

THIS_COMPUTER = "this-computer"
DEFAULT_ENVIRONMENT = "default"


class UnknownName(ConfigurationError):
    code = "unknown_name"


class NameTaken(ConfigurationError):
    code = "name_taken"


class EmulationUnmarked(ConfigurationError):
    code = "emulation_unmarked"


def list_profiles() -> list[DeviceProfile]:
    """Every kind of board edgematrix knows, by name."""
    return load_profiles()


def get_profile(name: str) -> DeviceProfile:
    return load_profile(name)


def untried_profiles() -> tuple[str, ...]:
    """The kinds of board that nobody has tried on the hardware they describe, by name."""
    return tuple(profile.name for profile in load_profiles() if not profile.tried_on_hardware)


def list_devices(context: Context) -> list[DeviceView]:
    now = context.clock()
    with read_session(context.engine) as session:
        devices = session.exec(select(Device).order_by(col(Device.name))).all()
        reserved = active(session, now)
        profiles = {name: _tried(name) for name in {device.profile for device in devices}}
        return [
            _view(session, device, profiles[device.profile], _reserved(reserved.get(device.id or 0), device, now)) for device in devices
        ]


def get_device(context: Context, name: str) -> DeviceView:
    """One device; :class:`UnknownName` names those there are."""
    now = context.clock()
    with read_session(context.engine) as session:
        device = find_device(session, name)
        return _view(session, device, _tried(device.profile), _reserved(reservation_of(session, device.id, now), device, now))


def add_local_device(
    context: Context, name: str, profile: str | None = None, labels: dict[str, str] | None = None, root: str | None = None
) -> DeviceView:
    """Register this computer as a device. It becomes usable when a health check has passed: see :func:`check_device`."""
    chosen = load_profile(profile or _profile_of_this_computer())
    now = context.clock()
    with open_session(context.engine) as session:
        refuse_taken(session, name)
        device = Device(
            name=name,
            profile=chosen.name,
            gateway=context.settings.gateway,
            transport="local",
            address={},
            root=root or str(context.settings.home / "devices" / name),
            labels=labels or {},
            facts={"machine": platform.machine()},
            health=DeviceHealth.UNKNOWN,
            health_reason="never checked",
            added_at=now,
        )
        session.add(device)
        session.flush()
        return _view(session, device, _tried(device.profile))


def check_device(context: Context, name: str) -> list[Check]:
    """Check a device of this gateway now and record its health; a device that is measuring is left alone, one of another gateway is
    checked there.
    """
    view = get_device(context, name)
    if view.running_job:
        return [Check("in use", "warning", f"measuring {view.running_job}; a check would disturb it", "try again when the job has ended")]
    if is_elsewhere(context, view.gateway):
        with open_session(context.engine) as session:
            return [ask_for_check(session, find_device(session, name), context.clock())]
    return [Check(finding.name, finding.status, finding.found, finding.remedy) for finding in _check(context, name)]


def _check(context: Context, name: str) -> tuple[HealthCheck, ...]:
    gateway = context.gateway()
    try:
        return check_health(gateway, name)
    finally:
        gateway.close()


def list_environments(context: Context) -> list[EnvironmentView]:
    with read_session(context.engine) as session:
        rows = session.exec(select(Environment, Device).join(Device).order_by(col(Device.name), col(Environment.name))).all()
        return [_environment_view(environment, device) for environment, device in rows]


def get_environment(context: Context, name: str, device: str = THIS_COMPUTER) -> EnvironmentView:
    """One environment of one device; :class:`UnknownName` names those there are."""
    found = [view for view in list_environments(context) if view.device == device]
    for view in found:
        if view.name == name:
            return view
    raise UnknownName(
        f"{device} has no environment {name!r}; it has: {', '.join(view.name for view in found) or 'none'}",
        f"edgematrix env add {name} --python PATH --device {device}",
    )


def add_environment(
    context: Context, name: str, interpreter: list[str], device: str = THIS_COMPUTER, bundle_sha256: str | None = None
) -> EnvironmentView:
    """Register (or renew) an environment: its interpreter is run once, its runtimes must pass their self-test.

    Raises :class:`agent.errors.MissingRuntime` with each runtime's cause when none does, :class:`EmulationUnmarked` for an emulator on a
    device that does not say it is emulated, :class:`~orchestrator.service.elsewhere.DeviceElsewhere` for another gateway's computer.
    """
    if device == THIS_COMPUTER:
        _ensure_registered(context)
        # The worker has another working folder. Not resolved further: a virtual environment's python is a link, and knows itself by it.
        interpreter = [os.path.abspath(word) if "/" in word and os.path.exists(word) else word for word in interpreter]
    with read_session(context.engine) as session:
        row = find_device(session, device)
    refuse_elsewhere(context, row)
    _refuse_unmarked_emulation(row, interpreter)
    gateway = context.gateway()
    try:
        facts = _facts(gateway, row, interpreter)
    finally:
        gateway.close()
    with open_session(context.engine) as session:
        query = select(Environment).where(col(Environment.device_id) == row.id, col(Environment.name) == name)
        environment = session.exec(query).first()
        values: dict[str, Any] = {
            "interpreter": interpreter,
            "digest": str(facts["digest"]),
            "facts": facts,
            "checked_at": context.clock(),
            "bundle_sha256": bundle_sha256,
            "golden_digest": golden_digest(facts["runtimes"]),
        }
        if environment is None:
            environment = Environment(device_id=_key(row), name=name, **values)
        else:
            environment.sqlmodel_update(values)
        session.add(environment)
        # What device expressions call `arch`: the interpreter's own word, since a kernel may run programs of several machines.
        kept = session.get_one(Device, row.id)
        kept.facts = {**kept.facts, "machine": facts["machine"]}
        session.flush()
        return _environment_view(environment, row)


def _refuse_unmarked_emulation(device: Device, interpreter: list[str]) -> None:
    if device.emulated == "none" and any(os.path.basename(word).startswith("qemu-") for word in interpreter):
        raise EmulationUnmarked(
            f"{' '.join(interpreter)} runs under an emulator, and {device.name} is registered as real hardware",
            "register an emulated device of its own: edgematrix device add NAME --emulated cpu",
        )


def _facts(gateway: Gateway, device: Device, interpreter: list[str]) -> dict[str, Any]:
    agent = gateway.agent_for(device, interpreter)
    agent.push_agent()
    agent.hello()
    reply = agent.facts()
    runtimes: dict[str, Any] = reply["runtimes"]
    facts: dict[str, Any] = {**reply["environment"], "runtimes": runtimes}
    if not any(runtime.get("available") for runtime in runtimes.values()):
        causes = "; ".join(f"{name}: {runtime.get('cause')}" for name, runtime in runtimes.items())
        raise MissingRuntime(
            f"no runtime works under {' '.join(interpreter)}: {causes}",
            "install the agent's packages there: pip install 'edgematrix[agent]'",
        )
    return facts


def ensure_this_computer(context: Context) -> DeviceView:
    """Register this computer and its default environment when they are not there, and see that it is healthy.

    Raises :class:`agent.errors.MissingRuntime` when no environment is known and none can be found.
    """
    view = _ensure_registered(context)
    known = [environment for environment in list_environments(context) if environment.device == THIS_COMPUTER]
    if DEFAULT_ENVIRONMENT not in {environment.name for environment in known}:
        python = find_agent_python(context.settings)
        if python is None and not known:
            raise MissingRuntime(
                "no Python environment with a runtime is known on this computer",
                "edgematrix env add default --python PATH (a Python that has numpy and onnxruntime or tflite-runtime)",
            )
        if python is not None:
            add_environment(context, DEFAULT_ENVIRONMENT, [str(python)])
    if view.health not in (DeviceHealth.GOOD, DeviceHealth.MAINTENANCE, DeviceHealth.RETIRED) and not view.running_job:
        _check(context, THIS_COMPUTER)
    return get_device(context, THIS_COMPUTER)


def _ensure_registered(context: Context) -> DeviceView:
    try:
        return get_device(context, THIS_COMPUTER)
    except UnknownName:
        # Another command may be doing the same on this home at this moment.
        with suppress(NameTaken):
            add_local_device(context, THIS_COMPUTER)
        return get_device(context, THIS_COMPUTER)


def _profile_of_this_computer() -> str:
    return "linux-arm64" if platform.machine() in ("aarch64", "arm64") else "linux-x86_64"


def device_row(context: Context, name: str) -> Device:
    """The row of one device, read only; :class:`UnknownName` names those there are."""
    with read_session(context.engine) as session:
        return find_device(session, name)


def refuse_taken(session: Session, name: str) -> None:
    """Raise :class:`NameTaken` when a device has that name already."""
    if session.exec(select(Device).where(col(Device.name) == name)).first():
        raise NameTaken(f"there is a device {name!r} already", "edgematrix device list")


def find_device(session: Session, name: str) -> Device:
    """The row of one device in this session; :class:`UnknownName` names those there are."""
    device = session.exec(select(Device).where(col(Device.name) == name)).first()
    if device is None:
        known = session.exec(select(Device.name).order_by(col(Device.name))).all()
        raise UnknownName(f"there is no device {name!r}; there are: {', '.join(known) or 'none'}", "edgematrix device add NAME")
    return device


def _reserved(row: Reservation | None, device: Device, now: float) -> ReservationView | None:
    return None if row is None else view_reservation(row, device.name, now)


def _tried(profile: str) -> tuple[bool, str]:
    """Whether a kind of board was tried on the hardware, and how far; a profile that is gone or broken was not, and says so."""
    try:
        found = load_profile(profile)
    except EdgematrixError as error:
        return False, error.message
    return found.tried_on_hardware, found.tried_note


def _view(session: Session, device: Device, tried: tuple[bool, str], reserved: ReservationView | None = None) -> DeviceView:
    environments = session.exec(
        select(Environment.name).where(col(Environment.device_id) == device.id).order_by(col(Environment.name))
    ).all()
    return DeviceView(
        name=device.name,
        profile=device.profile,
        gateway=device.gateway,
        transport=device.transport,
        where=where(device.address),
        health=device.health,
        health_reason=device.health_reason,
        emulated=device.emulated,
        labels=dict(device.labels),
        tried_on_hardware=tried[0],
        tried_note=tried[1],
        running_job=device.lease_job_id,
        environments=tuple(environments),
        facts=dict(device.facts),
        health_set_by=device.health_set_by,
        health_until_utc=None if device.health_until is None else utc_text(device.health_until),
        reserved=reserved,
    )


def _environment_view(environment: Environment, device: Device) -> EnvironmentView:
    runtimes = {
        name: str(runtime.get("version") or "")
        for name, runtime in environment.facts.get("runtimes", {}).items()
        if runtime.get("available")
    }
    return EnvironmentView(
        environment.name, device.name, tuple(environment.interpreter), environment.digest, runtimes, dict(environment.facts)
    )


def where(address: Mapping[str, Any]) -> str:
    """An address as a person writes it: ``user@host:port``; an IPv6 address in brackets."""
    if not address.get("host"):
        return "this computer"
    host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
    user = f"{address['user']}@" if address.get("user") else ""
    return f"{user}{host}" + (f":{address['port']}" if address.get("port") else "")


def _key(device: Device) -> int:
    if device.id is None:
        raise UnknownName(f"{device.name} has not been saved yet", "register it first: edgematrix device add")
    return device.id
