"""What a board says of how it is cooled, powered and limited: the facts that decide whether another run of a soak is the same soak."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional

from agent import board
from agent.host import HostFiles, try_int, try_text
from agent.programs import Programs
from agent.sensors.pi_firmware import flags_of, open_firmware, parse_answers

_TIMEOUT_SECS = 5.0
#: ``nvpmodel -q`` prints this line, sometimes after a warning, and then the mode's number.
_POWER_MODE = re.compile(r"NV Power Mode:\s*(\S+)")


def cooling_devices(host: HostFiles) -> Dict[str, int]:
    """Return the highest level of each cooling device by its type."""
    return _cooling(host, "max_state")


def cooling_levels(host: HostFiles) -> Dict[str, int]:
    """Return the present level of each cooling device by its type; fans are among them."""
    return _cooling(host, "cur_state")


def fans(host: HostFiles) -> Dict[str, int]:
    """Return revolutions per minute of each fan that is measured, by ``<chip>_<label>``."""
    found: Dict[str, int] = {}
    for path in sorted((host.sys / "class" / "hwmon").glob("hwmon*/fan*_input")):
        speed = try_int(path)
        channel = path.name.partition("_")[0]
        if speed is not None:
            name = f"{try_text(path.parent / 'name') or path.parent.name}_{try_text(path.parent / f'{channel}_label') or channel}"
            found.setdefault(name, speed)
    return found


def power_mode(host: HostFiles, programs: Programs, unknown: Dict[str, str]) -> Optional[str]:
    """Return the power mode of a Jetson (``MODE_15W``), None elsewhere; why it is not known goes into ``unknown``."""
    program = programs.find("nvpmodel")
    if program is None or not board.is_tegra(host):
        return None
    try:
        found = _POWER_MODE.search(programs.run([program, "-q"], _TIMEOUT_SECS))
    except OSError as error:
        unknown["power_mode"] = str(error)
        return None
    if found is None:
        unknown["power_mode"] = f"{program} -q names no power mode"
        return None
    return found.group(1)


def firmware(host: HostFiles, programs: Programs, unknown: Dict[str, str]) -> Optional[str]:
    """Return the version of the firmware: the Raspberry Pi's own word, the Jetson's release, Android's fingerprint; None elsewhere."""
    if board.is_raspberry_pi(host):
        answering, complaint = open_firmware(host, programs)
        if answering is not None:
            try:
                text = answering.ask(["version"])
                return ", ".join(line.strip() for line in text.splitlines() if line.strip() and "Copyright" not in line)
            except OSError as error:
                complaint = str(error)
            finally:
                answering.close()
        unknown["firmware"] = complaint
        return None
    if board.is_tegra(host):
        release = try_text(host.etc / "nv_tegra_release")
        if release is None:
            unknown["firmware"] = f"{host.etc / 'nv_tegra_release'} cannot be read"
        return release.splitlines()[0].lstrip("# ") if release is not None else None
    if board.is_android(host):
        return _fingerprint(host, programs, unknown)
    return None


def throttle_flags(host: HostFiles, programs: Programs) -> Optional[Dict[str, List[str]]]:
    """Return the flags of a Raspberry Pi's firmware that are set now and that were set since boot; None where nobody tells."""
    if not board.is_raspberry_pi(host):
        return None
    answering, _ = open_firmware(host, programs)
    if answering is None:
        return None
    try:
        bits = parse_answers(answering.ask(["get_throttled"])).get("throttled")
    except (OSError, ValueError):
        return None
    finally:
        answering.close()
    if bits is None:
        return None
    now, since_boot = flags_of(int(bits))
    return {"now": now, "since_boot": since_boot}


def _fingerprint(host: HostFiles, programs: Programs, unknown: Dict[str, str]) -> Optional[str]:
    program = programs.find("getprop")
    if program is not None:
        try:
            text = programs.run([program, "ro.build.fingerprint"], _TIMEOUT_SECS).strip()
            if text:
                return text
        except OSError as error:
            unknown["firmware"] = str(error)
    for line in (try_text(host.system / "build.prop") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("ro.build.fingerprint", "ro.system.build.fingerprint"):
            unknown.pop("firmware", None)
            return value.strip()
    unknown.setdefault("firmware", "neither getprop nor build.prop tells the fingerprint of this Android")
    return None


def _cooling(host: HostFiles, file: str) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for device in _cooling_folders(host):
        level, kind = try_int(device / file), try_text(device / "type") or device.name
        if level is not None:
            number = 1 + sum(name == kind or name.startswith(f"{kind} #") for name in found)
            found[kind if number == 1 else f"{kind} #{number}"] = level
    return found


def _cooling_folders(host: HostFiles) -> List[Path]:
    return sorted((host.sys / "class" / "thermal").glob("cooling_device[0-9]*"), key=lambda path: (len(path.name), path.name))
