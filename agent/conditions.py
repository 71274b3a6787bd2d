"""The conditions: the facts found on the device when it ran.

``collect`` gives what does not change during a run, ``volatile`` what does. What cannot be read is in ``unknown`` with its cause;
nothing is guessed.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

from agent import board as board_of
from agent import board_facts, cpu_features
from agent.host import HostFiles, exists, read_text, try_int, try_text
from agent.programs import Programs

#: Version of the layout below; raised when a field changes its meaning.
CONDITIONS_FORMAT = 1

#: MIDR implementer and part numbers of the cores that boards of this field carry (Linux, arch/arm64/include/asm/cputype.h).
_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x4e", "0x004"): "Carmel",
}


def collect(host: HostFiles, environment: Dict[str, Any], programs: Optional[Programs] = None) -> Dict[str, Any]:
    """Return the lasting conditions of this machine.

    Keys: format, board, cpu, memory_bytes, kernel, os, frequency (per cpufreq policy, kHz), thermal_zones (trip points, °C),
    cooling_devices {type: highest level}, power_mode (nvpmodel), firmware, boot_id, virtualization, container, cpu_quota (cores),
    environment, environment_digest, and unknown {name: cause}.
    """
    unknown: Dict[str, str] = {}
    programs = programs or Programs()
    cpuinfo = try_text(host.proc / "cpuinfo") or ""
    facts: Dict[str, Any] = {
        "format": CONDITIONS_FORMAT,
        "board": _board(host, unknown),
        "cpu": _cpu(cpuinfo, unknown),
        "memory_bytes": _memory(host, "MemTotal", unknown),
        "kernel": {"release": platform.release(), "version": platform.version()},
        "boot_id": boot_id(host),
        "os": _os_release(host, unknown),
        "frequency": _frequency_limits(host, unknown),
        "thermal_zones": _thermal_zones(host, unknown),
        "cooling_devices": board_facts.cooling_devices(host),
        "power_mode": board_facts.power_mode(host, programs, unknown),
        "firmware": board_facts.firmware(host, programs, unknown),
        "virtualization": _virtualization(host, cpuinfo),
        "container": _container(host),
        "cpu_quota": _cpu_quota(host),
        "environment": environment,
        "environment_digest": environment.get("digest"),
    }
    facts["unknown"] = unknown
    return facts


def volatile(host: HostFiles, programs: Optional[Programs] = None) -> Dict[str, Any]:
    """Return what changes during a run: clocks of time, load averages, free memory, governor and clock (kHz) per policy, temperatures
    (°C), cooling_levels {type: level}, fans {name: revolutions per minute}, and throttle_flags {now: names, since_boot: names} of a
    Raspberry Pi's firmware (None elsewhere).
    """
    frequency = {}
    for policy in _policies(host):
        current = try_int(policy / "cpuinfo_cur_freq")
        frequency[policy.name] = {
            "governor": try_text(policy / "scaling_governor"),
            "current_khz": current if current is not None else try_int(policy / "scaling_cur_freq"),
        }
    temperatures: Dict[str, float] = {}
    for zone in _zones(host):
        millidegrees = try_int(zone / "temp")
        if millidegrees is not None:
            temperatures.setdefault(try_text(zone / "type") or zone.name, millidegrees / 1000)
    load = (try_text(host.proc / "loadavg") or "").split()
    return {
        "utc_unix_secs": time.time(),
        "monotonic_ns": time.monotonic_ns(),
        "load_average": [float(value) for value in load[:3]] if len(load) >= 3 else None,
        "memory_available_bytes": _memory(host, "MemAvailable", {}),
        "frequency": frequency,
        "temperature_c": temperatures,
        "cooling_levels": board_facts.cooling_levels(host),
        "fans": board_facts.fans(host),
        "throttle_flags": board_facts.throttle_flags(host, programs or Programs()),
    }


def boot_id(host: HostFiles) -> Optional[str]:
    """Return what the kernel calls this boot, another after each restart; None when it cannot be read."""
    return try_text(host.proc / "sys" / "kernel" / "random" / "boot_id")


def memory_available_bytes(host: HostFiles) -> Optional[int]:
    """Return the memory that the kernel could give to a new process without swapping, None when unknown."""
    return _memory(host, "MemAvailable", {})


def _board(host: HostFiles, unknown: Dict[str, str]) -> Dict[str, Any]:
    board: Dict[str, Any] = {}
    model, compatible = board_of.model(host), board_of.compatible(host)
    if model is not None:
        board["model"] = model
    if compatible:
        board["compatible"] = compatible
    for key in ("sys_vendor", "product_name", "board_vendor", "board_name", "bios_version"):
        value = try_text(host.sys / "class" / "dmi" / "id" / key)
        if value is not None:
            board[key] = value
    if not board:
        unknown["board"] = "this machine has neither a device tree nor DMI"
    return board


def _cpu(cpuinfo: str, unknown: Dict[str, str]) -> Dict[str, Any]:
    entries = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in cpuinfo.split("\n\n")
    ]
    model = next((entry["model name"] for entry in entries if "model name" in entry), None)
    cores = Counter(_arm_core(entry) for entry in entries if "CPU part" in entry)
    if model is None and cores:
        model = " + ".join(f"{count}x {name}" for name, count in sorted(cores.items()))
    if model is None:
        unknown["cpu.model"] = "/proc/cpuinfo names no model"
    found = cpu_features.detect(platform.machine(), cpuinfo, cpu_features.getauxval(), cpu_features.numpy_cpuid())
    if found.unknown is not None:
        unknown["cpu.features"] = found.unknown
    return {
        "model": model,
        "architecture": platform.machine(),
        "logical_count": os.cpu_count(),
        "usable_count": len(os.sched_getaffinity(0)),
        "features": found.features,
        "features_source": found.source,
        "features_contradicted": found.contradicted,
    }


def _arm_core(entry: Dict[str, str]) -> str:
    implementer, part = entry.get("CPU implementer", "?"), entry["CPU part"]
    return _ARM_CORES.get((implementer, part), f"core {implementer}/{part}")


def _memory(host: HostFiles, key: str, unknown: Dict[str, str]) -> Optional[int]:
    for line in (try_text(host.proc / "meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == key and value.split()[:1]:
            return int(value.split()[0]) * 1024
    unknown["memory"] = f"/proc/meminfo has no {key}"
    return None


def _os_release(host: HostFiles, unknown: Dict[str, str]) -> Dict[str, str]:
    text = try_text(host.etc / "os-release")
    if text is None:
        unknown["os"] = f"{host.etc / 'os-release'} cannot be read"
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    found = {key: value.strip().strip("\"'") for key, _, value in pairs}
    return {key.lower(): found[key] for key in ("ID", "VERSION_ID", "PRETTY_NAME") if key in found}


def _policies(host: HostFiles) -> List[Path]:
    return sorted((host.sys / "devices" / "system" / "cpu" / "cpufreq").glob("policy*"), key=lambda path: (len(path.name), path.name))


def _zones(host: HostFiles) -> List[Path]:
    return sorted((host.sys / "class" / "thermal").glob("thermal_zone*"), key=lambda path: (len(path.name), path.name))


def _frequency_limits(host: HostFiles, unknown: Dict[str, str]) -> Dict[str, Any]:
    found = {}
    for policy in _policies(host):
        found[policy.name] = {
            "cpus": try_text(policy / "related_cpus"),
            "driver": try_text(policy / "scaling_driver"),
            "governor": try_text(policy / "scaling_governor"),
            "min_khz": try_int(policy / "cpuinfo_min_freq"),
            "max_khz": try_int(policy / "cpuinfo_max_freq"),
            "allowed_max_khz": try_int(policy / "scaling_max_freq"),
        }
    if not found:
        unknown["frequency"] = "no cpufreq policy: the kernel does not control this CPU's clock (usual in virtual machines)"
    return found


def _thermal_zones(host: HostFiles, unknown: Dict[str, str]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for zone in _zones(host):
        trips = []
        for trip in sorted(zone.glob("trip_point_*_temp")):
            millidegrees = try_int(trip)
            kind = try_text(zone / trip.name.replace("_temp", "_type"))
            if millidegrees is not None and kind is not None:
                trips.append({"type": kind, "temperature_c": millidegrees / 1000})
        found.setdefault(try_text(zone / "type") or zone.name, {"zone": zone.name, "trip_points": trips})
    if not found:
        unknown["temperature"] = "no thermal zone (usual in virtual machines)"
    return found


def _virtualization(host: HostFiles, cpuinfo: str) -> Dict[str, Any]:
    product = " ".join(filter(None, (try_text(host.sys / "class" / "dmi" / "id" / name) for name in ("sys_vendor", "product_name"))))
    flagged = any(line.startswith("flags") and " hypervisor" in line for line in cpuinfo.splitlines())
    names = ("KVM", "QEMU", "VMware", "VirtualBox", "Virtual Machine", "Bochs", "Xen", "Google Compute Engine", "Amazon EC2")
    by_name = next((name for name in names if name.lower() in product.lower()), None)
    kind = try_text(host.sys / "hypervisor" / "type")
    dummy = any("dummy-virt" in item for item in board_of.compatible(host))
    return {"virtual": flagged or dummy or kind is not None or by_name is not None, "hypervisor": kind or by_name}


def _container(host: HostFiles) -> Optional[str]:
    """Return a hint that this runs in a container, None without one. Control groups may hide it: absence proves nothing."""
    told = os.environ.get("container")  # noqa: SIM112 (systemd's and podman's own spelling)
    if told:
        return told
    root = host.proc.parent
    if exists(root / ".dockerenv"):
        return "docker"
    if exists(root / "run" / ".containerenv"):
        return "podman"
    groups = try_text(host.proc / "1" / "cgroup") or ""
    return next((word for word in ("docker", "kubepods", "containerd", "lxc", "podman") if word in groups), None)


def _cpu_quota(host: HostFiles) -> Optional[float]:
    """Return the CPU limit of this process' control group in cores (version 2, nearest limit upwards), None when there is none or it
    is hidden.
    """
    try:
        groups = read_text(host.proc / "self" / "cgroup")
    except OSError:
        return None
    path = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    top = host.sys / "fs" / "cgroup"
    folder = top / path.strip("/")
    limits = []
    for place in (folder, *folder.parents):
        quota, _, period = (try_text(place / "cpu.max") or "max 100000").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(int(quota) / int(period))
        if place == top:
            break
    return min(limits) if limits else None
