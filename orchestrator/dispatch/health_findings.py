"""The single questions of a health check: each looks at what a device told, or tries something there, and says what it found."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import EdgematrixError
from orchestrator.dispatch.device_agent import DeviceAgent, end_leftovers
from orchestrator.domain.profiles import DeviceProfile, HealthLimits
from orchestrator.domain.times import utc_text
from orchestrator.store.tables import Device, Environment

#: What a short run writes. Random: zeros take no room everywhere.
_PROBE_BYTES = 4 * 1024 * 1024
#: Whoever wrote the remedy knew the command, and not whom it would be about.
_PLACEHOLDER = re.compile(r"(edgematrix device [a-z-]+) NAME\b")
_MACHINES = {"arm64": ("aarch64", "arm64"), "x86_64": ("x86_64", "amd64")}


@dataclass(frozen=True)
class HealthCheck:
    """One finding; ``status`` is ok, warning or failed. One failed check makes the device bad."""

    name: str
    status: str
    found: str
    remedy: str = ""


def failed(name: str, error: EdgematrixError, device: str) -> HealthCheck:
    """What an error says, with the device's name in the command that mends it."""
    return HealthCheck(name, "failed", error.message, _PLACEHOLDER.sub(lambda found: f"{found[1]} {device}", error.remedy))


def architecture(hello: dict[str, Any], profile: DeviceProfile) -> HealthCheck:
    machine = str(hello.get("machine"))
    if machine.lower() in _MACHINES[profile.arch]:
        return HealthCheck("architecture", "ok", machine)
    return HealthCheck(
        "architecture",
        "failed",
        f"it says {machine}, but its profile {profile.name} is for {profile.arch}",
        "add it with the right profile: edgematrix profile list",
    )


def clock(hello: dict[str, Any], limits: HealthLimits) -> HealthCheck:
    offset = hello.get("clock_offset_secs")
    if offset is None:
        return HealthCheck("clock", "warning", "the device did not tell its time")
    far = abs(offset) > limits.max_clock_offset_secs
    found = f"{offset:+.3f} s from this computer" + (f", and {limits.max_clock_offset_secs:g} s are allowed" if far else "")
    return HealthCheck("clock", "failed" if far else "ok", found, "set the device's clock (timedatectl set-ntp true)" if far else "")


def disk(agent: DeviceAgent, told: dict[str, Any], limits: HealthLimits, device: str) -> HealthCheck:
    """Free room by the device's word, and a file written where runs will write: that also finds a disk that only looks writable."""
    free_mb = told["free_bytes"] / 1e6
    if free_mb < limits.min_free_disk_mb:
        return HealthCheck(
            "disk",
            "failed",
            f"{free_mb:.0f} MB are free in {agent.root}, and {limits.min_free_disk_mb:g} MB are demanded",
            f"make room: edgematrix device clean {device}",
        )
    probe = f"{agent.root}/health-probe"
    try:
        agent.transport.put_bytes(os.urandom(_PROBE_BYTES), probe)
        agent.transport.put_bytes(b"", probe)
    except EdgematrixError as error:
        return failed("disk", error, device)
    return HealthCheck("disk", "ok", f"{free_mb:.0f} MB free in {agent.root}, which is writable")


def background_load(told: dict[str, Any], limits: HealthLimits) -> HealthCheck:
    """Other work slows measurements down and comes and goes: a warning, since validity judges each run by what it met itself."""
    busy = told["busy_percent"]
    if busy is None:
        return HealthCheck("background load", "warning", "the device does not tell its load")
    if busy > limits.max_background_load_percent:
        found = f"its CPUs are {busy:.0f} % busy with other work, and {limits.max_background_load_percent:g} % are allowed"
        return HealthCheck("background load", "warning", found, "see `top` on the device")
    return HealthCheck("background load", "ok", f"{busy:.0f} %")


def sensors(told: dict[str, Any], before: Sequence[Any]) -> HealthCheck:
    """Those that the device was ever seen with must be readable; one that breaks takes a part of every result's evidence away."""
    readable = {str(item.get("name")) for item in told["sensors"] if item.get("error") is None}
    gone = sorted(str(name) for name in before if str(name) not in readable)
    if gone:
        return HealthCheck("sensors", "warning", f"no longer readable: {', '.join(gone)[:400]}", "see the device's kernel log (dmesg)")
    return HealthCheck("sensors", "ok", f"{len(readable)} channels readable")


def power_supply(told: dict[str, Any]) -> HealthCheck:
    flags = [str(name) for name in told["power_flags"]]
    if any(name.startswith("under_voltage") for name in flags):
        return HealthCheck(
            "power supply", "failed", f"set now: {', '.join(flags)}"[:400], "use the supply the board's maker names, and a short cable"
        )
    if flags:
        # A board that has just worked is hot, not broken. What it measures while it is throttled says so itself.
        return HealthCheck("power supply", "warning", f"slowed down now: {', '.join(flags)}"[:400], "let it cool, or see what heats it")
    known = any(str(item.get("name")).startswith(("under_voltage", "throttled")) for item in told["sensors"])
    return HealthCheck("power supply", "ok", "no flag is set" if known else "unknown: no sensor of this device tells it")


def exclusive(agent: DeviceAgent, fence: int, device: str) -> HealthCheck:
    """No device has seen a lease above ours, unless somebody else gives leases of it."""
    try:
        seen = agent.seen_fence()
    except EdgematrixError as error:
        return HealthCheck("exclusive", "failed", error.message, error.remedy)
    if seen > fence:
        return HealthCheck(
            "exclusive",
            "failed",
            f"it has seen lease {seen} and ours is {fence}: another database gives leases of it, or gave them before",
            f"when no other installation uses it any more: edgematrix device take-over {device}",
        )
    return HealthCheck("exclusive", "ok", f"no lease above ours ({fence}) was seen")


def leftovers(agent: DeviceAgent, device: Device) -> HealthCheck:
    """Nobody holds this device, so no run may live on it."""
    try:
        # Each question starts an interpreter on the device: where nothing was found, it is not asked twice.
        living = [run for run, _ in agent.runs()] if end_leftovers(agent, device.fence) else []
    except EdgematrixError as error:
        return failed("left behind", error, device.name)
    if living:
        return HealthCheck("left behind", "warning", f"{', '.join(living)} still ends", "it was told to stop")
    return HealthCheck("left behind", "ok", "no run lives here")


def cycled_in_vain(device: Device) -> HealthCheck:
    """A board that is silent after its power was off: only a person can help."""
    when = "before" if device.power_cycled_at is None else f"at {utc_text(device.power_cycled_at)}"
    return HealthCheck(
        "power cycle",
        "failed",
        f"it was switched off and on {when} and does not answer",
        f"look at the board itself; then: edgematrix device power-cycle {device.name}, or edgematrix device check {device.name}",
    )


def runtimes(told: dict[str, Any], environment: str) -> HealthCheck:
    name = f"runtimes ({environment})"
    working = {key: value.get("version", "") for key, value in told.items() if value.get("available")}
    if not working:
        causes = "; ".join(f"{key}: {value.get('cause')}" for key, value in told.items())
        return HealthCheck(name, "failed", f"no runtime passes its self-test: {causes}", "install the agent's packages in that environment")
    return HealthCheck(name, "ok", ", ".join(f"{key} {version}" for key, version in working.items()))


def golden(digest: str | None, environment: Environment, device: str) -> HealthCheck:
    """Compare the answers to the golden models with this environment's own of when it was registered, and with nothing else."""
    name = f"golden model ({environment.name})"
    if environment.golden_digest is None:
        return HealthCheck(
            name, "warning", "nothing is registered to compare with", f"edgematrix env add {environment.name} --device {device}"
        )
    if digest == environment.golden_digest:
        return HealthCheck(name, "ok", f"answers as when it was registered ({digest[:12]})")
    return HealthCheck(
        name,
        "failed",
        f"answers {digest[:12] if digest else 'nothing'}, and answered {environment.golden_digest[:12]} when it was registered:"
        " its CPU, its runtime or its kernel is another now",
        f"if that is meant: edgematrix env add {environment.name} --python PATH --device {device}",
    )
