"""What the CPU can do that decides how INT8 models run: which 8-bit multiply instructions there are.

The sources differ by architecture. On arm64 the kernel tells this very process (``AT_HWCAP``), also under emulation. On x86-64 the
flags come from ``/proc/cpuinfo``, which under user-mode emulation may be the *host's*; numpy, when present, asks the processor
itself (CPUID), and where the two contradict each other CPUID wins and what CPUID was not asked for is unknown. Limit: numpy knows
no AVX-VNNI and no AMX, and an emulator that hides only those two is not noticed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Tuple

#: The features reported on every machine, false where the architecture has no such thing.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve", "sve2", "sme")

_X86 = FEATURES[:5]
#: Feature → (auxiliary vector entry, bit): Linux, arch/arm64/include/uapi/asm/hwcap.h.
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_ARM_BITS: Dict[str, Tuple[int, int]] = {
    "asimd": (_AT_HWCAP, 1),
    "asimddp": (_AT_HWCAP, 20),
    "sve": (_AT_HWCAP, 22),
    "sve2": (_AT_HWCAP2, 1),
    "i8mm": (_AT_HWCAP2, 13),
    "sme": (_AT_HWCAP2, 23),
}
_NUMPY_NAMES = {"avx2": "AVX2", "avx512f": "AVX512F", "avx512_vnni": "AVX512VNNI"}


@dataclass(frozen=True)
class CpuFeatures:
    """``features``: name → present, None when unknown; ``source``: where they come from; ``contradicted``: what cpuinfo claims and
    CPUID denies.
    """

    features: Dict[str, Optional[bool]]
    source: str
    contradicted: List[str] = field(default_factory=list)
    unknown: Optional[str] = None


def detect(machine: str, cpuinfo: str, auxiliary_value: Optional[Callable[[int], int]], cpuid: Optional[Mapping[str, bool]]) -> CpuFeatures:
    """Return the features of this machine.

    ``machine`` as of uname; ``cpuinfo`` the text of /proc/cpuinfo; ``auxiliary_value`` is getauxval, None where libc has none;
    ``cpuid`` numpy's table of CPU features, None without numpy.
    """
    if machine in ("aarch64", "arm64"):
        return _detect_arm(cpuinfo, auxiliary_value)
    return _detect_x86(cpuinfo, cpuid)


def getauxval() -> Optional[Callable[[int], int]]:
    """Return libc's getauxval, None where there is none (or no ctypes)."""
    try:
        import ctypes

        function = ctypes.CDLL(None).getauxval
    except (ImportError, OSError, AttributeError):
        return None
    function.restype = ctypes.c_ulong
    function.argtypes = [ctypes.c_ulong]
    return lambda entry: int(function(entry))


def numpy_cpuid() -> Optional[Mapping[str, bool]]:
    """Return the CPU features that numpy found by CPUID, None without numpy. NPY_DISABLE_CPU_FEATURES hides features here, too."""
    try:
        import numpy

        # numpy 2 renamed the package; importing the old name there warns.
        package = "numpy._core" if int(numpy.__version__.split(".")[0]) >= 2 else "numpy.core"
        return dict(importlib.import_module(f"{package}._multiarray_umath").__cpu_features__)
    except (ImportError, AttributeError, ValueError):
        return None


def _detect_arm(cpuinfo: str, auxiliary_value: Optional[Callable[[int], int]]) -> CpuFeatures:
    features: Dict[str, Optional[bool]] = dict.fromkeys(FEATURES, False)
    if auxiliary_value is not None and auxiliary_value(_AT_HWCAP):
        for name, (entry, bit) in _ARM_BITS.items():
            features[name] = bool(auxiliary_value(entry) >> bit & 1)
        return CpuFeatures(features, "AT_HWCAP")
    listed = _words(cpuinfo, "Features")
    if not listed:
        return CpuFeatures(
            {**features, **dict.fromkeys(_ARM_BITS)}, "none", unknown="neither getauxval nor /proc/cpuinfo tells the features"
        )
    for name in _ARM_BITS:
        features[name] = name in listed
    return CpuFeatures(features, "/proc/cpuinfo")


def _detect_x86(cpuinfo: str, cpuid: Optional[Mapping[str, bool]]) -> CpuFeatures:
    features: Dict[str, Optional[bool]] = dict.fromkeys(FEATURES, False)
    known = {name: bool(cpuid[numpy_name]) for name, numpy_name in _NUMPY_NAMES.items() if numpy_name in cpuid} if cpuid is not None else {}
    listed = _words(cpuinfo, "flags")
    if not listed:
        features.update(dict.fromkeys(_X86))
        features.update(known)
        missing = [name for name in _X86 if features[name] is None]
        return CpuFeatures(
            features, "numpy's CPUID" if known else "none", unknown=f"/proc/cpuinfo lists no flags: {', '.join(missing)} unknown"
        )
    for name in _X86:
        features[name] = name in listed
    contradicted = sorted(name for name, present in known.items() if features[name] and not present)
    if not contradicted:
        return CpuFeatures(features, "/proc/cpuinfo" + (", agreeing with numpy's CPUID" if known else ""))
    features.update(dict.fromkeys(_X86))
    features.update(known)
    missing = [name for name in _X86 if features[name] is None]
    return CpuFeatures(
        features,
        "numpy's CPUID",
        contradicted,
        f"/proc/cpuinfo is not this processor's (CPUID denies {', '.join(contradicted)}; emulation?): {', '.join(missing)} unknown",
    )


def _words(cpuinfo: str, key: str) -> List[str]:
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.split()
    return []
