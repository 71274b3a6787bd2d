"""The conditions of each device and environment in a reader's words.

The record comes from a device: every value is checked, cleaned and bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Emulation
from orchestrator.report.causes import cpu_features
from orchestrator.report.reading import Matrix
from orchestrator.report.words import clean, counted, listed, number, size

_INT8_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve", "sve2", "sme")
_RECORD_LIMIT = 6000
#: A record of facts that is this different from job to job is shown for the first ones only.
_MAX_RECORDS = 12


@dataclass(frozen=True)
class Conditions:
    """One set of facts that some jobs share; ``facts`` are titles with texts, ``record`` is the device's own record."""

    title: str
    jobs: str
    facts: tuple[tuple[str, str], ...]
    record: str


def conditions_of(matrix: Matrix) -> list[Conditions]:
    """Group the measured jobs by what was found where they ran."""
    groups: dict[tuple[str, str, str], list[ResultEnvelope]] = {}
    for result in matrix.results:
        if result.attempt is not None and result.device is not None:
            groups.setdefault((result.device.name, result.job.environment, result.attempt.conditions_key), []).append(result)
    return [_conditions(results) for results in list(groups.values())[:_MAX_RECORDS]]


def _conditions(results: list[ResultEnvelope]) -> Conditions:
    first = results[0]
    device, attempt = first.device, first.attempt
    if device is None or attempt is None:
        raise AssertionError("grouped results have a device and an attempt")
    found = attempt.conditions
    cpu, environment = _mapping(found, "cpu"), _mapping(found, "environment")
    unknown = {clean(name, 60): clean(cause, 200) for name, cause in list(_mapping(found, "unknown").items())[:24]}
    sensorless = sorted({clean(name, 80) for result in results if result.validity for name in result.validity.unknown})
    facts = [
        ("Profile", clean(device.profile, 80)),
        ("Emulation", "" if device.emulated is Emulation.NONE else f"emulated: {device.emulated}"),
        (
            "Board",
            " ".join(
                _word(_mapping(found, "board"), name)
                for name in ("model", "sys_vendor", "product_name")
                if _word(_mapping(found, "board"), name)
            ),
        ),
        ("CPU", " · ".join(word for word in (_word(cpu, "model"), _word(cpu, "architecture"), _cores(cpu)) if word)),
        ("INT8 instructions", _features(found)),
        ("Memory", _memory(found)),
        (
            "System",
            " · ".join(
                word
                for word in (
                    _word(_mapping(found, "os"), "pretty_name"),
                    f"kernel {_word(_mapping(found, 'kernel'), 'release')}" if _mapping(found, "kernel") else "",
                    _virtual(found),
                )
                if word
            ),
        ),
        ("Governor", _governors(found, unknown)),
        (
            "Interpreter",
            " ".join(
                word for word in (_word(environment, "implementation"), _word(environment, "python"), _word(environment, "libc")) if word
            ),
        ),
        ("Runtimes", _runtimes(results)),
        (
            "Packages",
            ", ".join(f"{clean(name, 40)} {clean(version, 40)}" for name, version in list(_mapping(environment, "packages").items())[:12]),
        ),
        ("Threads", listed(sorted({str(result.job.settings.num_threads) for result in results}), 6)),
        ("Placement", _placement(results)),
        ("Agent", listed(sorted({result.attempt.agent_sha256[:12] for result in results if result.attempt}), 3)),
        ("Unknown: no sensor", "; ".join(sensorless[:12])),
        ("Unknown", "; ".join(f"{name}: {cause}" for name, cause in unknown.items())),
    ]
    title = f"{clean(device.name, 80)} · {clean(first.job.environment, 60)}"
    shown = tuple((name, text) for name, text in facts if text)
    return Conditions(title, counted(len(results), "job"), shown, _record(found))


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _word(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return clean(value, 120) if isinstance(value, (str, int, float)) else ""


def _cores(cpu: Mapping[str, Any]) -> str:
    count = cpu.get("usable_count")
    return f"{counted(count, 'core')} usable" if isinstance(count, int) else ""


def _features(found: Mapping[str, Any]) -> str:
    features = cpu_features(found)
    if not features:
        return "unknown: the record names none"
    has = [name for name in _INT8_FEATURES if features.get(name)]
    lacks = [name for name in _INT8_FEATURES if features.get(name) is False and not (has and _other_architecture(name, has))]
    return f"{', '.join(has) or 'none'}" + (f" (not: {', '.join(lacks)})" if lacks else "")


def _other_architecture(name: str, has: list[str]) -> bool:
    x86 = _INT8_FEATURES[:5]
    return (name in x86) != (has[0] in x86)


def _memory(found: Mapping[str, Any]) -> str:
    total = found.get("memory_bytes")
    return size(total) if isinstance(total, int) else ""


def _virtual(found: Mapping[str, Any]) -> str:
    virtualization = _mapping(found, "virtualization")
    words = []
    if virtualization.get("virtual"):
        words.append(f"virtual machine ({_word(virtualization, 'hypervisor') or 'hypervisor not named'})")
    if _word(found, "container"):
        words.append(f"container: {_word(found, 'container')}")
    quota = found.get("cpu_quota")
    if isinstance(quota, (int, float)) and not isinstance(quota, bool):
        words.append(f"limited to {number(quota)} cores")
    return " · ".join(words)


def _governors(found: Mapping[str, Any], unknown: Mapping[str, str]) -> str:
    words = []
    for name, policy in list(_mapping(found, "frequency").items())[:8]:
        if isinstance(policy, Mapping):
            maximum = policy.get("max_khz")
            clock = f", up to {number(maximum / 1e6)} GHz" if isinstance(maximum, int) else ""
            words.append(f"{clean(name, 30)}: {_word(policy, 'governor') or 'unknown'}{clock}")
    return "; ".join(words) or ("unknown: no sensor" if "frequency" in unknown else "")


def _runtimes(results: list[ResultEnvelope]) -> str:
    found = set()
    for result in results:
        runtime = _mapping(result.attempt.runner if result.attempt else {}, "runtime")
        name, version = _word(runtime, "package") or _word(runtime, "name"), _word(runtime, "version")
        if name or version:
            found.add(f"{name} {version}".strip())
    return listed(sorted(found), 6)


def _placement(results: list[ResultEnvelope]) -> str:
    found: dict[str, int] = {}
    for result in results:
        placement = _mapping(result.attempt.runner if result.attempt else {}, "placement")
        if not placement:
            continue
        used = placement.get("used")
        names = ", ".join(clean(name, 60) for name in used[:6]) if isinstance(used, list) and used else "unknown"
        text = f"{clean(result.variant.runtime, 20)}: asked {_word(placement, 'asked') or 'default'}, used {names}"
        found[text] = found.get(text, 0) + 1
    return "; ".join(f"{text} ({counted(count, 'job')})" for text, count in list(found.items())[:8])


def _record(found: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(found, indent=1, sort_keys=True, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "the record cannot be shown"
    lines = [clean(line, 300) for line in text.splitlines()]
    joined = "\n".join(lines)
    return joined if len(joined) <= _RECORD_LIMIT else joined[:_RECORD_LIMIT] + "\n… (the whole record: edgematrix export)"
