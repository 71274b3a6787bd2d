"""Makes the lab's devices known to edgematrix, marked as what they are, and takes them out of service when the lab goes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from agent.errors import EdgematrixError
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from orchestrator.service import devices, ssh_devices, upkeep
from orchestrator.service.bundles import NoBundle, build_bundle, bundle_for
from orchestrator.service.context import Context
from orchestrator.service.views import DeviceView

Say = Callable[[str], None]
_UP = "the lab is up"
_UP_UNCHECKED = "the lab is up, not checked yet"
_DOWN = "the lab is down: edgematrix lab up"


def register(context: Context, lab: Lab, started: Sequence[Machine], say: Say) -> list[DeviceView]:
    """Register and check the lab's devices that are not known, and bring back those that were ``started``, side by side.

    Raises the first device's error when one gets no environment that works.
    """
    if any(machine.kind.interpreter == "bundle" for machine in lab.machines):
        _provide_bundle(context, say)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda machine: _register(context, lab, machine, machine in started, say), lab.machines))


def take_out(context: Context, machines: Sequence[Machine]) -> None:
    """Give the lab's devices no more work; their results stay, and so does what a person decided about one."""
    for machine in machines:
        with suppress(devices.UnknownName):
            if devices.get_device(context, machine.name).health_set_by == "system":
                upkeep.maintain(context, machine.name, _DOWN)


def _provide_bundle(context: Context, say: Say) -> None:
    try:
        bundle_for(context, "arm64")
    except NoBundle:
        say("building the bundle for the device that has nothing installed")
        build_bundle(context, "aarch64", ())


def _register(context: Context, lab: Lab, machine: Machine, started: bool, say: Say) -> DeviceView:
    asked = _asked(lab, machine)
    try:
        view = devices.get_device(context, machine.name)
    except devices.UnknownName:
        view = _add(context, asked, machine)
    else:
        view = _bring_back(context, asked, machine, view, started)
    if view.running_job is not None:
        say(f"{machine.name} measures {view.running_job}")
    elif view.health_reason == _UP_UNCHECKED:
        say(f"{machine.name} is back, and checked before its next job")
    else:
        say(f"{machine.name} is {view.health}" + (f" ({view.health_reason})" if view.health_reason else ""))
    return view


def _add(context: Context, asked: ssh_devices.NewSshDevice, machine: Machine) -> DeviceView:
    added = ssh_devices.add_ssh_device(context, asked, machine.host_key)
    if added.problem is not None:
        raise added.problem
    machine.forget_new()
    if any(check.name == "exclusive" and check.status == "failed" for check in added.checks):
        # Its disk was used by another home of edgematrix. The lab is one machine's: whoever starts it may have it.
        ssh_devices.take_over(context, machine.name, _UP)
        return _checked(context, machine)
    return added.device


def _bring_back(context: Context, asked: ssh_devices.NewSshDevice, machine: Machine, view: DeviceView, started: bool) -> DeviceView:
    if view.labels.get("lab") != "yes" or view.emulated == "none":
        raise devices.NameTaken(f"there is a device {machine.name} that is not of a lab", "give the lab's another name: docs/lab.md")
    if view.running_job is not None:
        # It went down under a job, which finds out by itself what became of its run.
        return view
    moved = ssh_devices.move(context, machine.name, asked, machine.host_key).where != view.where
    decided = view.health_set_by != "system" and view.health_reason != _DOWN
    if decided or (view.health == "good" and not started and not moved):
        return view
    upkeep.bring_back(context, machine.name, _UP_UNCHECKED)
    ssh_devices.take_over(context, machine.name, _UP)
    if not machine.marked_new and view.environments and _has_its_interpreter(context, machine.name):
        # As every device that comes back, it is checked before its next job: emulated, that takes seconds of every core there is.
        return devices.get_device(context, machine.name)
    _add_environment(context, machine)
    machine.forget_new()
    return _checked(context, machine)


def _has_its_interpreter(context: Context, name: str) -> bool:
    """Whether its bundle is still on the device: another home may have given its disk another one, or none."""
    return all(
        ssh_devices.has_file(context, name, environment.interpreter[0])
        for environment in devices.list_environments(context)
        if environment.device == name and "/bundles/" in environment.interpreter[0]
    )


def _add_environment(context: Context, machine: Machine) -> None:
    profile = devices.get_profile(machine.kind.profile)
    ssh_devices.add_default_environment(context, machine.name, profile, machine.kind.interpreter)


def _checked(context: Context, machine: Machine) -> DeviceView:
    with suppress(EdgematrixError):
        devices.check_device(context, machine.name)
    return devices.get_device(context, machine.name)


def _asked(lab: Lab, machine: Machine) -> ssh_devices.NewSshDevice:
    return ssh_devices.NewSshDevice(
        name=machine.name,
        target=f"root@{machine.address}",
        profile=machine.kind.profile,
        key_file=str(lab.client_key),
        jump="none",
        labels={"lab": "yes", "kind": machine.about.kind, **({} if machine.about.plant is None else {"plant": "yes"})},
        emulated=machine.kind.emulated,
        interpreter=machine.kind.interpreter,
    )
