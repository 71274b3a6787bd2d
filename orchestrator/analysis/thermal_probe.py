"""Did the numbers change with heat, or only the time? Each probe sample's digests under load against those of the cold device.

A sample counts only when all its cold rounds agree: outputs that vary while nothing is hot prove nothing later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.thermal_run import NANOSECONDS_PER_SEC, Series, SoakRun
from orchestrator.domain.thermal import ProbeChange, ProbeRecord

#: Fewer cold answers than this say nothing of stability.
FEWEST_COLD_ROUNDS = 2
_MOST_NAMED = 5


def judge_probes(run: SoakRun, control: Series | None) -> ProbeRecord:
    """Compare every probe sample with itself; samples that were not stable cold are left out and told."""
    if run.soak.probe is None:
        return ProbeRecord(verdict="not asked", words="no probe was asked for")
    probes = run.probes
    cold = probes["cold"] != 0
    order = np.lexsort((probes["start_ns"], probes["sample"]))
    samples, firsts = np.unique(probes["sample"][order], return_index=True)
    cold_rounds = int(np.unique(probes["round"][cold]).size)
    hot_rounds = int(np.unique(probes["round"][~cold]).size)
    changes: list[ProbeChange] = []
    unstable: list[int] = []
    compared = 0
    for sample, rows in zip(samples, np.split(order, firsts[1:]) if samples.size else (), strict=True):
        before, after = rows[cold[rows]], rows[~cold[rows]]
        if before.size < FEWEST_COLD_ROUNDS or np.unique(probes["digest"][before]).size != 1:
            unstable.append(int(sample))
        elif after.size:
            compared += 1
            changed = after[probes["digest"][after] != probes["digest"][before[0]]]
            if changed.size:
                changes.append(_change(run, control, int(sample), int(before[0]), changed))
    changes.sort(key=lambda change: (change.first_at_secs, change.sample))
    counted = {"samples": int(samples.size), "cold_rounds": cold_rounds, "hot_rounds": hot_rounds}
    if changes:
        return ProbeRecord(verdict="changed", changes=tuple(changes), words=_changed_words(changes, compared), **counted)
    if not compared or unstable:
        return ProbeRecord(verdict="undetermined", words=_undetermined_words(samples.size, unstable, cold_rounds, hot_rounds), **counted)
    words = (
        f"the numbers did not change: {compared} samples gave the same outputs in {hot_rounds} rounds under load as in {cold_rounds} cold"
    )
    return ProbeRecord(verdict="stable", words=words, **counted)


def _change(run: SoakRun, control: Series | None, sample: int, before: int, changed: NDArray[np.intp]) -> ProbeChange:
    probes = run.probes
    first = int(changed[0])
    at = (int(probes["start_ns"][first]) - run.zero_ns) / NANOSECONDS_PER_SEC
    classes = [int(probes["top_class"][row]) for row in (before, first)]
    known = classes[0] >= 0 and classes[1] >= 0
    return ProbeChange(
        sample=sample,
        first_at_secs=at,
        temperature_c=control.at(at) if control else None,
        rounds=int(changed.size),
        class_before=classes[0] if known else None,
        class_after=classes[1] if known else None,
    )


def _changed_words(changes: list[ProbeChange], compared: int) -> str:
    first = changes[0]
    heat = "" if first.temperature_c is None else f" at {first.temperature_c:.1f} °C"
    named = ", ".join(str(change.sample) for change in changes[:_MOST_NAMED]) + (", …" if len(changes) > _MOST_NAMED else "")
    other = sum(1 for change in changes if change.class_before != change.class_after)
    classes = f"; {other} of them changed their class" if other else "; no class changed" if first.class_before is not None else ""
    return (
        f"the numbers changed with heat, not only the time: {len(changes)} of {compared} samples ({named}),"
        f" first after {first.first_at_secs:.1f} s{heat}{classes}"
    )


def _undetermined_words(samples: int, unstable: list[int], cold_rounds: int, hot_rounds: int) -> str:
    if not samples:
        return "undetermined: no probe was answered"
    if unstable and cold_rounds >= FEWEST_COLD_ROUNDS:
        named = ", ".join(str(sample) for sample in unstable[:_MOST_NAMED]) + (", …" if len(unstable) > _MOST_NAMED else "")
        return f"undetermined: {len(unstable)} of {samples} samples ({named}) gave other outputs from round to round while cold"
    if cold_rounds < FEWEST_COLD_ROUNDS:
        return f"undetermined: {cold_rounds} cold rounds were answered; {FEWEST_COLD_ROUNDS} are needed to know what is stable"
    return f"undetermined: no probe was answered under load ({hot_rounds} rounds)"
