"""Devices reached over SSH: seen for the first time, registered with a pinned host key, given an environment, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlmodel import Session, col, select

from agent.errors import ConfigurationError, DeviceBusy, DeviceReplyInvalid, EdgematrixError
from orchestrator.dispatch.bundle_push import push_bundle
from orchestrator.dispatch.health_findings import failed
from orchestrator.dispatch.ledger import note_change, set_health
from orchestrator.dispatch.profiles import load_profile
from orchestrator.domain.profiles import DeviceProfile
from orchestrator.domain.reasons import one_line
from orchestrator.domain.states import DeviceHealth
from orchestrator.service import devices
from orchestrator.service.bundles import bundle_for
from orchestrator.service.context import Context
from orchestrator.service.views import Check, DeviceView, EnvironmentView
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device
from orchestrator.transports import open_transport
from orchestrator.transports.ssh import HostKey, parse_target, probe_host_key
from orchestrator.transports.ssh_errors import HostKeyChanged

_ROOT_NAME = "edgematrix-device"
#: A bundle over a slow link takes minutes.
_ADDING_SECS = 900.0
_EMULATIONS = ("none", "cpu", "environment")


class NotADevice(ConfigurationError):
    code = "not_a_device"


class AlreadyRegistered(ConfigurationError):
    code = "already_registered"


@dataclass(frozen=True)
class NewSshDevice:
    """What is asked for; None means: as the profile, the OpenSSH configuration or this installation says.

    ``target`` is ``user@host:port`` or a Host of the OpenSSH configuration; ``interpreter`` the command prefix of the environment
    ``default``, or ``bundle``; ``root`` an absolute folder on the device, by default ``edgematrix-device`` in the user's home.
    """

    name: str
    target: str
    profile: str
    key_file: str | None = None
    jump: str | None = None
    gateway: str | None = None
    root: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    emulated: str = "none"
    interpreter: tuple[str, ...] | Literal["bundle"] | None = None

    def address(self, host_key: str | None) -> dict[str, Any]:
        target = parse_target(self.target)
        return {
            "host": target.host,
            "port": target.port,
            "user": target.user,
            "host_key": host_key,
            # As the shell here reads it: a worker runs in another folder.
            "key_file": os.path.abspath(os.path.expanduser(self.key_file)) if self.key_file else None,
            "jump": self.jump,
        }


@dataclass(frozen=True)
class AddedDevice:
    """A device as registered, the environment it got, and what its first health check found; ``problem`` says why it got no environment."""

    device: DeviceView
    environment: EnvironmentView | None
    checks: tuple[Check, ...]
    problem: EdgematrixError | None = None


def see_host_key(asked: NewSshDevice) -> HostKey:
    """Ask the host for its key, without logging in; whether it is the right one is for a person to say."""
    return probe_host_key(asked.address(None))


def add_ssh_device(context: Context, asked: NewSshDevice, host_key: str) -> AddedDevice:
    """Log in, register the device with ``host_key`` (``TYPE BASE64``) pinned, give it its default environment and check its health.

    A device that cannot be reached is not registered: the transport's error says why. One that is reached but has no interpreter that
    works is registered, unhealthy, and :attr:`AddedDevice.problem` says what is missing.
    """
    profile = load_profile(asked.profile)
    if "ssh" not in profile.transports:
        raise NotADevice(f"the profile {profile.name} is not reached over SSH", f"use one of: {', '.join(_ssh_profiles())}")
    if asked.emulated not in _EMULATIONS:
        raise NotADevice(f"{asked.emulated!r} is no kind of emulation", f"use one of: {', '.join(_EMULATIONS)}")
    address = asked.address(host_key)
    root = _root_on(address, asked.root)
    with open_session(context.engine) as session:
        _refuse_twice(session, asked.name, address, root)
        device = Device(
            name=asked.name,
            profile=profile.name,
            gateway=asked.gateway or context.settings.gateway,
            transport="ssh",
            address=address,
            root=root,
            labels=dict(asked.labels),
            facts={},
            emulated=asked.emulated,
            health=DeviceHealth.UNKNOWN,
            health_reason="never checked",
            added_at=context.clock(),
            # Not before it has its environment: the check at the end of this is its first.
            next_check_at=context.clock() + _ADDING_SECS,
        )
        session.add(device)
        note_change(session, "device", asked.name, "", "added", context.actor, context.clock(), f"{asked.target}, {profile.title}")
    environment, problem = None, None
    try:
        environment = add_default_environment(context, asked.name, profile, asked.interpreter)
    except EdgematrixError as error:
        problem = error
    checks = tuple(devices.check_device(context, asked.name))
    if problem is not None:
        checks = _with_problem(context, asked.name, checks, problem)
    return AddedDevice(devices.get_device(context, asked.name), environment, checks, problem)


def _with_problem(context: Context, name: str, checks: tuple[Check, ...], problem: EdgematrixError) -> tuple[Check, ...]:
    """Say why there is no environment, in place of the finding that there is none."""
    told = failed(f"environment ({devices.DEFAULT_ENVIRONMENT})", problem, name)
    with open_session(context.engine) as session:
        why = f"{told.name}: {told.found}" + (f" ({told.remedy})" if told.remedy else "")
        set_health(session, devices.find_device(session, name), DeviceHealth.BAD, why, context.clock())
    kept = [item for item in checks if item.name != "environment"]
    return (*kept, Check(told.name, told.status, told.found, told.remedy))


def add_default_environment(
    context: Context, name: str, profile: DeviceProfile, interpreter: tuple[str, ...] | Literal["bundle"] | None = None
) -> EnvironmentView:
    """Give the device the environment ``default``: ``interpreter``, else what its profile says, a bundle or a Python of its own."""
    chosen = interpreter or profile.interpreter
    if chosen == "bundle":
        return add_bundle_environment(context, devices.DEFAULT_ENVIRONMENT, name)
    return devices.add_environment(context, devices.DEFAULT_ENVIRONMENT, list(chosen), device=name)


def add_bundle_environment(context: Context, environment: str, name: str, bundle_sha256: str | None = None) -> EnvironmentView:
    """Bring a bundle to the device, unless it is there, and register it as an environment: the one whose digest begins so, else the newest.

    Raises :class:`orchestrator.service.bundles.NoBundle` when there is none for the device's architecture.
    """
    row = devices.device_row(context, name)
    bundle = bundle_for(context, load_profile(row.profile).arch, bundle_sha256)
    gateway = context.gateway()
    try:
        interpreter = push_bundle(gateway, row, bundle)
    finally:
        gateway.close()
    return devices.add_environment(context, environment, interpreter, device=name, bundle_sha256=bundle.sha256)


def asked_before(context: Context, name: str) -> NewSshDevice:
    """How a registered device is reached, in the words in which it was asked for."""
    device = devices.device_row(context, name)
    if device.transport != "ssh":
        raise NotADevice(f"{name} is not reached over SSH", f"edgematrix device show {name}")
    return NewSshDevice(name, devices.where(device.address), device.profile, device.address.get("key_file"), device.address.get("jump"))


def trust_host_key(context: Context, name: str, host_key: str, why: str) -> DeviceView:
    """Pin another host key for a device that was set up anew; a check then decides about its health. Who did it, and why, is recorded."""
    now = context.clock()
    with open_session(context.engine) as session:
        device = devices.find_device(session, name)
        device.address, device.next_check_at = {**device.address, "host_key": host_key}, now
        _doubt(device, "its host key was pinned anew")
        session.add(device)
        note_change(session, "device", name, "host key", "host key", context.actor, now, why)
    return devices.get_device(context, name)


def take_over(context: Context, name: str, why: str = "") -> DeviceView:
    """Let the next lease of a device be above every one it has seen: those of another database, or of this one before it was lost.

    What another installation still runs there will be ended. The device's health is unknown until a check. Raises
    :class:`agent.errors.DeviceBusy` while a job of ours holds it.
    """
    row = devices.device_row(context, name)
    gateway = context.gateway()
    try:
        # Only a file is read: no interpreter is needed, and there may be none.
        seen = gateway.agent_for(row, []).seen_fence()
    finally:
        gateway.close()
    now = context.clock()
    with open_session(context.engine) as session:
        device = devices.find_device(session, name)
        if device.lease_job_id is not None:
            raise DeviceBusy(f"{name} measures {device.lease_job_id}", f"wait, or: edgematrix device kick {name}")
        if seen > device.fence:
            note_change(session, "device", name, f"fence {device.fence}", f"fence {seen}", context.actor, now, one_line(why))
            device.fence, device.next_check_at = seen, now
            _doubt(device, "taken over, not checked yet")
            session.add(device)
    return devices.get_device(context, name)


def _doubt(device: Device, why: str) -> None:
    """Let a check decide about the device's health, unless a person has: no change of ours brings back what somebody took out."""
    if device.health_set_by == "system":
        device.health, device.health_reason = DeviceHealth.UNKNOWN, why


def has_file(context: Context, name: str, path: str) -> bool:
    """Whether there is a file at ``path`` on the device."""
    gateway = context.gateway()
    try:
        return gateway.transport_of(devices.device_row(context, name)).size_of(path) is not None
    finally:
        gateway.close()


def move(context: Context, name: str, asked: NewSshDevice, host_key: str) -> DeviceView:
    """Let a known device be reached at another address from now on; everything else of it stays."""
    now = context.clock()
    with open_session(context.engine) as session:
        device = devices.find_device(session, name)
        address = asked.address(host_key)
        if device.address != address:
            note_change(session, "device", name, devices.where(device.address), devices.where(address), context.actor, now, "moved")
            device.transport, device.address = "ssh", address
            session.add(device)
    return devices.get_device(context, name)


def _root_on(address: dict[str, Any], asked: str | None) -> str:
    """The absolute root on the device; reaching it proves that we can log in before anything is registered."""
    transport = open_transport("ssh", address)
    try:
        if asked is None:
            # A builtin of every shell: a device may have nothing but that.
            told = transport.run(["pwd"], timeout_secs=30.0, max_output_bytes=4096)
            home = told.stdout.decode("utf-8", "replace").strip()
            if told.exit_code != 0 or not home.startswith("/") or "\n" in home:
                raise DeviceReplyInvalid(
                    "the device does not tell the user's home folder", "say where its files shall be: --root /some/folder"
                )
            asked = f"{home.rstrip('/')}/{_ROOT_NAME}"
        if not asked.startswith("/") or asked.strip("/") == "":
            raise NotADevice(f"{asked!r} is no folder for a device", "give an absolute path of a folder of its own")
        transport.size_of(f"{asked}/fence.json")
        return asked
    except HostKeyChanged as error:
        # The transport's own remedy is about a device that is registered.
        raise HostKeyChanged(error.message, "compare the fingerprint on the board, and give the right one: --host-key SHA256:…") from error
    finally:
        transport.close()


def _refuse_twice(session: Session, name: str, address: dict[str, Any], root: str) -> None:
    devices.refuse_taken(session, name)
    for other in session.exec(select(Device).where(col(Device.transport) == "ssh")).all():
        same_host = all(other.address.get(key) == address[key] for key in ("host", "port"))
        if same_host and other.root == root and other.health != DeviceHealth.RETIRED:
            raise AlreadyRegistered(
                f"{address['host']} with the folder {root} is the device {other.name} already",
                "one board is one device: two names for it would disturb each other's measurements",
            )


def _ssh_profiles() -> list[str]:
    return [profile.name for profile in devices.list_profiles() if "ssh" in profile.transports]
