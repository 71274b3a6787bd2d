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
_DOWN = "the lab is down: edgematrix lab up"


def register(context: Context, lab: Lab, say: Say) -> list[DeviceView]:
    """Register every device of the lab that is not known, bring the others back, and check them all, side by side.

    Raises the first device's error when one gets no environment that works.
    """
    if any(machine.kind.interpreter == "bundle" for machine in lab.machines):
        _provide_bundle(context, say)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda machine: _register(context, lab, machine, say), lab.machines))


def take_out(context: Context, machines: Sequence[Machine]) -> None:
    """Give the lab's devices no more work; their results stay."""
    for machine in machines:
        with suppress(devices.UnknownName):
            upkeep.maintain(context, machine.name, _DOWN)


def _provide_bundle(context: Context, say: Say) -> None:
    try:
        bundle_for(context, "arm64")
    except NoBundle:
        say("building the bundle for the device that has nothing installed")
        build_bundle(context, "aarch64", ())


def _register(context: Context, lab: Lab, machine: Machine, say: Say) -> DeviceView:
    try:
        view = devices.get_device(context, machine.name)
    except devices.UnknownName:
        return _add(context, lab, machine, say)
    ssh_devices.move(context, machine.name, _asked(lab, machine), machine.host_key)
    if not view.environments:
        _add_environment(context, machine)
    upkeep.bring_back(context, machine.name, "the lab is up")
    return _checked(context, machine, say)


def _add(context: Context, lab: Lab, machine: Machine, say: Say) -> DeviceView:
    added = ssh_devices.add_ssh_device(context, _asked(lab, machine), machine.host_key)
    if added.problem is not None:
        raise added.problem
    say(f"{machine.name} is registered: {added.device.health}" + (f" ({added.device.health_reason})" if added.device.health_reason else ""))
    return added.device


def _add_environment(context: Context, machine: Machine) -> None:
    profile = devices.get_profile(machine.kind.profile)
    ssh_devices.add_default_environment(context, machine.name, profile, machine.kind.interpreter)


def _checked(context: Context, machine: Machine, say: Say) -> DeviceView:
    with suppress(EdgematrixError):
        devices.check_device(context, machine.name)
    view = devices.get_device(context, machine.name)
    say(f"{machine.name} is {view.health}" + (f" ({view.health_reason})" if view.health_reason else ""))
    return view


def _asked(lab: Lab, machine: Machine) -> ssh_devices.NewSshDevice:
    return ssh_devices.NewSshDevice(
        name=machine.name,
        target=f"root@{machine.address}",
        profile=machine.kind.profile,
        key_file=str(lab.client_key),
        jump="none",
        labels={"lab": "yes", "kind": machine.about.kind},
        emulated=machine.kind.emulated,
        interpreter=machine.kind.interpreter,
    )
