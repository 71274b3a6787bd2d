"""What a lab needs of its machine: asked for, installed where that is possible, refused with a remedy where it is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agent.errors import EdgematrixError
from deploy.lab.commands import run, succeeds
from deploy.lab.errors import LabBroken, LabImpossible

#: Program → the Debian package that has it.
_PROGRAMS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
    "unshare": "util-linux",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "/usr/bin/qemu-aarch64-static": "qemu-user-static",
    "/usr/bin/qemu-x86_64-static": "qemu-user-static",
}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
BINFMT_NAME = "edgematrix-lab-aarch64"
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def refuse_without_root() -> None:
    """Raise :class:`LabImpossible` for anybody but root."""
    if os.geteuid() != 0:
        raise LabImpossible("a lab needs root: it makes network namespaces and mounts", "sudo -E edgematrix lab up (or down)")


def provide() -> None:
    """Make sure that everything is here. Raises :class:`LabImpossible` with what is missing and what to do about it."""
    refuse_without_root()
    machine_is_right()
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        _install(missing)
    _need_kernel()
    _need_arm64_programs()


def machine_is_right(release: Path = Path("/etc/os-release"), machine: str | None = None) -> None:
    """Raise :class:`LabImpossible` where no package manager or no CPU is that the lab could use."""
    text = release.read_text() if release.exists() else ""
    if "debian" not in text.lower():
        raise LabImpossible("a lab is made of Debian packages, and this is neither Debian nor Ubuntu", "use a Debian 12 machine or VM")
    machine = machine or os.uname().machine
    if machine != "x86_64":
        raise LabImpossible(f"this machine is {machine}; the lab's native device is x86-64", "use an x86-64 machine")


def forget_arm64_programs() -> None:
    """Take back what :func:`provide` told the kernel about arm64 programs, if it did."""
    entry = _BINFMT / BINFMT_NAME
    if entry.exists():
        entry.write_text("-1")


def _install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("apt-get", "update", "-qq", timeout_secs=300, environment=environment)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, timeout_secs=600, environment=environment)
    except LabBroken as error:
        raise LabImpossible(
            f"{', '.join(packages)} cannot be installed: {error.message}", f"apt-get install {' '.join(packages)}"
        ) from error


def _need_kernel() -> None:
    if "overlay" not in Path("/proc/filesystems").read_text() and not succeeds("modprobe", "overlay"):
        raise LabImpossible("this kernel has no overlay file system", "load it (modprobe overlay), or use another kernel")
    probe = "emlab-probe"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "netns", "delete", probe)
    except EdgematrixError as error:
        raise LabImpossible(f"no network namespace can be made here: {error.message}", "use a machine or VM, not a container") from error


def _need_arm64_programs() -> None:
    """Let the kernel start arm64 programs through qemu, also inside a root that does not hold it (the F flag)."""
    if not (_BINFMT / "register").exists() and not succeeds("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)):
        raise LabImpossible("this kernel has no binfmt_misc", "load it: modprobe binfmt_misc")
    for entry in _BINFMT.iterdir():
        if "aarch64" in entry.name:
            told = entry.read_text()
            if told.startswith("enabled") and "F" in _line(told, "flags:"):
                return
    (_BINFMT / "register").write_text(f":{BINFMT_NAME}:M::{_MAGIC}:{_MASK}:/usr/bin/qemu-aarch64-static:F")


def _line(text: str, beginning: str) -> str:
    return next((line.removeprefix(beginning) for line in text.splitlines() if line.startswith(beginning)), "")
