"""The kinds of emulated devices: what their root holds, what runs models there, and how honest a number from them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QEMU_X86 = "/usr/bin/qemu-x86_64-static"
_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Kind:
    """``base`` names the root below it, ``emulated`` is what every record of such a device says."""

    base: Literal["arm64", "amd64", "bare-arm64"]
    profile: str
    emulated: Literal["cpu", "environment"]
    interpreter: tuple[str, ...] | Literal["bundle"]
    programs: tuple[str, ...] = ()


KINDS = {
    "arm64": Kind("arm64", "linux-arm64", "cpu", (_PYTHON,)),
    "x86-native": Kind("amd64", "linux-x86_64", "environment", (_PYTHON,)),
    # Haswell has AVX2 and no VNNI: its 8-bit multiply saturates.
    "x86-avx2": Kind("amd64", "linux-x86_64", "cpu", (QEMU_X86, "-cpu", "Haswell", _PYTHON), (QEMU_X86,)),
    "bare-arm64": Kind("bare-arm64", "linux-arm64", "cpu", "bundle"),
}
