"""Likely causes: known traps of kernels, named when the facts found on the device fit them. A likelihood, never a proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.states import Scenario
from orchestrator.report.judgement import Change, change_of
from orchestrator.report.reading import Matrix, Row
from orchestrator.report.words import clean

_VNNI_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8")


def likely_cause(matrix: Matrix, row: Row) -> str:
    """Name a known kernel trap when the facts found on the device fit it; empty when none does. A likelihood, never a proof."""
    features = _features_of(row)
    if _may_saturate(row, features) and not any(_has_vnni(_features_of(other)) for other in _fallen_elsewhere(matrix, row)):
        return (
            "Likely cause: this x86 CPU has no VNNI. There the 8-bit multiply (VPMADDUBSW) adds pairs of products in 16 bits "
            "and saturates, and this file holds signed 8-bit weights. "
            "To check: the same file on a CPU with VNNI, or with graph optimisation off. "
            "To mend: quantize with reduce_range (7-bit weights) or with unsigned weights (U8U8)."
        )
    if features.get("sme") and row.variant.runtime == "onnx" and "dynamic" in f"{row.variant.precision} {row.variant.quantization}".lower():
        return (
            "Possible cause: this Arm CPU has SME, where dynamically quantized files have been seen to fail with some runtime versions. "
            "To check: the same file on an Arm CPU without SME, or another version of the runtime."
        )
    return ""


def cpu_features(conditions: Mapping[str, Any]) -> dict[str, bool]:
    """Return the ISA features that were found on the device; empty when the record has none (a device's output is untrusted)."""
    cpu = conditions.get("cpu")
    features = cpu.get("features") if isinstance(cpu, Mapping) else None
    if not isinstance(features, Mapping):
        return {}
    return {clean(name, 40): value for name, value in list(features.items())[:64] if isinstance(value, bool)}


def siblings(matrix: Matrix, row: Row) -> list[Row]:
    """Return the rows of the same variant in other places."""
    return [other for other in matrix.of(row.model) if other.variant.name == row.variant.name and other.place.key != row.place.key]


def _may_saturate(row: Row, features: Mapping[str, bool]) -> bool:
    """The trap of U8S8 and S8S8 kernels: ONNX Runtime on x86 with AVX2 and without VNNI. Unsigned or 7-bit weights cannot saturate."""
    signed_weights = row.variant.runtime == "onnx" and "int8" in row.variant.weights
    reduced = "reduce" in f"{row.variant.precision} {row.variant.quantization}".lower()
    # A feature that could not be read is absent from the record, and proves nothing.
    return (
        signed_weights and not reduced and bool(features.get("avx2")) and features.get("avx512_vnni") is False and not _has_vnni(features)
    )


def _has_vnni(features: Mapping[str, bool]) -> bool:
    return any(features.get(name) for name in _VNNI_FEATURES)


def _features_of(row: Row) -> dict[str, bool]:
    return cpu_features(next((job.attempt.conditions for job in row.measured(Scenario.ACCURACY) if job.attempt), {}))


def _fallen_elsewhere(matrix: Matrix, row: Row) -> list[Row]:
    return [other for other in siblings(matrix, row) if change_of(other) is Change.COLLAPSED]
