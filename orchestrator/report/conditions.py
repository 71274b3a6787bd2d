"""The conditions of each device and environment in a reader's words.

The record comes from a device: every value is checked, cleaned and bounded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.results import DeviceInfo, ResultEnvelope
from orchestrator.domain.states import Emulation
from orchestrator.report.causes import cpu_features
from orchestrator.report.node_placement import node_placement
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


def conditions_of(matrix: Matrix, untried_profiles: Collection[str] = ()) -> list[Conditions]:
    """Group the measured jobs by the facts that were found where they ran; a device that changed between two jobs appears twice.

    ``untried_profiles`` are those that nobody has tried on the hardware they describe.
    """
    groups: dict[tuple[tuple[str, str], ...], list[ResultEnvelope]] = {}
    for result in matrix.results:
        if result.attempt is not None and result.device is not None:
            tried = result.device.profile not in untried_profiles
            groups.setdefault(_facts_found(result.device, tried, result.job.environment, result.attempt.conditions), []).append(result)
    return [_conditions(facts, results) for facts, results in list(groups.items())[:_MAX_RECORDS]]


def _conditions(found: tuple[tuple[str, str], ...], results: list[ResultEnvelope]) -> Conditions:
    sensorless = sorted({clean(name, 80) for result in results if result.validity for name in result.validity.unknown})
    used = (
        ("Runtimes", _runtimes(results)),
        ("Threads", listed(sorted({str(result.job.settings.num_threads) for result in results}), 6)),
        ("Placement", _placement(results)),
        ("Agent", listed(sorted({result.attempt.agent_sha256[:12] for result in results if result.attempt}), 3)),
        ("Unknown: no sensor", "; ".join(sensorless[:12])),
    )
    (_, title), *facts = found
    shown = tuple((name, text) for name, text in (*facts, *used) if text)
    return Conditions(title, counted(len(results), "job"), shown, _record(results[0].attempt.conditions if results[0].attempt else {}))


def _facts_found(device: DeviceInfo, tried: bool, environment_name: str, found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a device and an environment are, as text; the first entry is the title."""
    cpu, environment, board = _mapping(found, "cpu"), _mapping(found, "environment"), _mapping(found, "board")
    kernel = _word(_mapping(found, "kernel"), "release")
    unknown = {clean(name, 60): clean(cause, 200) for name, cause in list(_mapping(found, "unknown").items())[:24]}
    system = (_word(_mapping(found, "os"), "pretty_name"), f"kernel {kernel}" if kernel else "", _virtual(found))
    packages = list(_mapping(environment, "packages").items())[:12]
    return (
        ("", f"{clean(device.name, 80)} · {clean(environment_name, 60)}"),
        ("Profile", clean(device.profile, 80) + ("" if tried else " (tried on hardware: no)")),
        ("Emulation", "" if device.emulated is Emulation.NONE else f"emulated: {device.emulated}"),
        ("Board", _joined(" ", (_word(board, name) for name in ("model", "sys_vendor", "product_name")))),
        ("CPU", _joined(" · ", (_word(cpu, "model"), _word(cpu, "architecture"), _cores(cpu)))),
        ("INT8 instructions", _features(found)),
        ("Memory", _memory(found)),
        ("System", _joined(" · ", system)),
        ("Governor", _governors(found, unknown)),
        ("Interpreter", _joined(" ", (_word(environment, name) for name in ("implementation", "python", "libc")))),
        ("Packages", ", ".join(f"{clean(name, 40)} {clean(version, 40)}" for name, version in packages)),
        ("Unknown", "; ".join(f"{name}: {cause}" for name, cause in unknown.items())),
    )


def _joined(separator: str, words: Iterable[str]) -> str:
    return separator.join(word for word in words if word)


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
    """Who ran the nodes, all variants of a runtime together; how many nodes each has is told job by job."""
    found: dict[str, int] = {}
    for result in results:
        placed = node_placement(result)
        if placed is not None:
            names = listed(sorted(placed.node_counts), 6) or "unknown"
            elsewhere = ", some nodes elsewhere than asked" if placed.elsewhere_count else ""
            text = f"{clean(result.variant.runtime, 20)}: asked for {placed.asked}, ran on {names}{elsewhere}"
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
