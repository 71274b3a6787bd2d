"""What a reader must know first: the findings that open the page, the summary in words, and what was emulated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.domain.states import Emulation, JobOutcome, Scenario, Validity
from orchestrator.report.causes import likely_cause, siblings
from orchestrator.report.judgement import Change, change_of, changes_by, compared_row
from orchestrator.report.node_placement import NodePlacement, worst_placement
from orchestrator.report.reading import Matrix, Row, is_measured, outcome_counts
from orchestrator.report.words import clean, counted, listed, number, whole


@dataclass(frozen=True)
class Finding:
    """``level``: ``red`` (do not release on this device), ``amber`` (read before you sign), ``note``."""

    level: str
    title: str
    text: str
    likely: str = ""


def findings(matrix: Matrix) -> list[Finding]:
    """Return what a reader must know first, worst first."""
    found = [_collapsed(matrix, row) for row in matrix.rows if change_of(row) is Change.COLLAPSED]
    found += _numbers_changed(matrix) + _throttled(matrix)
    found += _worse(matrix) + _non_finite(matrix) + _fallbacks(matrix) + _doubts(matrix) + _not_measured(matrix) + _contradictions(matrix)
    order = {"red": 0, "amber": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def summary(matrix: Matrix) -> str:
    """Tell the whole experiment in one paragraph, with counts and without adjectives."""
    results = matrix.results
    measured = [result for result in results if is_measured(result)]
    counts = outcome_counts(results)
    devices = {result.device.name for result in results if result.device}
    variants = {(result.variant.model, result.variant.name) for result in results}
    matrix_words = f"{counted(len(variants), 'variant')} of {counted(len(matrix.models), 'model')} on {counted(len(devices), 'device')}"
    text = f"{matrix_words}: {counted(len(results), 'job')}, {whole(len(measured))} measured"
    rest = [f"{whole(count)} {word}" for word, count in counts.items() if word != JobOutcome.COMPLETED]
    text += f", not measured: {listed(rest, 9)}. " if rest else ", none left out. "
    levels = Counter(result.validity.level for result in measured if result.validity)
    if levels:
        text += "Of the measured, " + listed([f"{whole(levels[level])} are {level}" for level in Validity if levels[level]], 3) + ". "
    changes = changes_by(matrix.rows)
    judged = [
        f"{whole(changes[change])} {phrase}"
        for change, phrase in (
            (Change.COLLAPSED, "lost more than 5 points"),
            (Change.WORSE, "lost accuracy, 5 points or less"),
            (Change.WITHIN, "did not differ beyond the interval"),
            (Change.BETTER, "gained accuracy"),
            (Change.UNDETERMINED, "could not be judged"),
        )
        if changes[change]
    ]
    compared = sum(changes.values()) - changes[Change.REFERENCE]
    if compared:
        text += f"Against the reference, of {counted(compared, 'cell')} (a variant in one place) {listed(judged, 9)}. "
    text += _fastest(matrix)
    return text.strip()


def emulation(matrix: Matrix) -> list[str]:
    """Return one sentence for each emulated device."""
    sentences = []
    for name, kind in sorted(
        {(place.device.name, place.device.emulated) for place in matrix.places if place.device.emulated is not Emulation.NONE}
    ):
        what = (
            "its CPU is emulated. Its answers (accuracy, flips) count; its times mean nothing and are withheld everywhere."
            if kind is Emulation.CPU
            else "the CPU is this computer’s own, its surroundings (sensors, governor) are simulated. "
            "Its latencies are shown, and are not those of a physical device."
        )
        sentences.append(f"{clean(name, 80)}: {what}")
    return sentences


def _collapsed(matrix: Matrix, row: Row) -> Finding:
    sound = [other for other in siblings(matrix, row) if change_of(other) in (Change.WITHIN, Change.BETTER) and other.accuracy]
    text = _numbers(matrix, row)
    if sound:
        elsewhere = [
            f"{row.quality.text(other.accuracy.value if other.accuracy else None)} {row.quality.unit} on {other.place.label}"
            for other in sound
        ]
        text += f" The same file gives {listed(elsewhere, 4)}."
    return Finding("red", f"{row.name} collapses on {row.place.label}", text, likely_cause(matrix, row))


def _worse(matrix: Matrix) -> list[Finding]:
    """One finding for each variant that lost accuracy, with all the places where it did."""
    by_variant: dict[tuple[str, str], list[Row]] = {}
    for row in matrix.rows:
        if change_of(row) is Change.WORSE:
            by_variant.setdefault((row.model, row.variant.name), []).append(row)
    found = []
    for rows in by_variant.values():
        places = listed([row.place.label for row in rows], 6)
        causes = dict.fromkeys(cause for row in rows if (cause := likely_cause(matrix, row)))
        texts = [_numbers(matrix, row) if len(rows) == 1 else f"On {row.place.label}: {_difference(row)}." for row in rows]
        found.append(Finding("amber", f"{rows[0].name} is less accurate than the reference on {places}", " ".join(texts), " ".join(causes)))
    return found


def _difference(row: Row) -> str:
    if row.comparison is None:
        return ""
    quality = row.quality
    difference, low, high = quality.difference(row.comparison)
    interval = f"(95\u00a0% interval {quality.signed(low)} to {quality.signed(high)})"
    return " ".join(f"difference {quality.signed(difference)} {quality.difference_unit} {interval}".split())


def _numbers(matrix: Matrix, row: Row) -> str:
    quality, comparison = row.quality, row.comparison
    if comparison is None:
        return ""
    reference = compared_row(matrix, row)
    now = quality.text(row.accuracy.value if row.accuracy else None)
    before = quality.text(reference.accuracy.value if reference is not None and reference.accuracy else None)
    title = quality.title.lower() if quality.unit == "%" else quality.title
    where = f" (measured on {reference.place.label})" if reference is not None and not reference.place.matches(row.place) else ""
    text = f"{row.model}: {title} {now} {quality.unit} against {before} {quality.unit} of the reference{where}; {_difference(row)}."
    if comparison.flips_to_wrong is not None and comparison.flips_to_right is not None:
        flips = f"{whole(comparison.flips_to_wrong)} went from right to wrong and {whole(comparison.flips_to_right)} from wrong to right"
        text += f" Of {counted(comparison.sample_count, 'sample')}, {flips}."
    return " ".join(text.split())


def _non_finite(matrix: Matrix) -> list[Finding]:
    found = []
    for row in matrix.rows:
        metric = row.slice_metric("non_finite_count")
        if metric is not None and metric.value:
            found.append(
                Finding(
                    "red",
                    f"{row.name} answers with NaN or infinity on {row.place.label}",
                    f"{counted(int(metric.value), 'sample')} had an output that is no number; each counts as wrong.",
                )
            )
    return found


def _numbers_changed(matrix: Matrix) -> list[Finding]:
    """One finding for each cell whose probe samples were answered otherwise when the device was hot."""
    found = []
    for row in matrix.rows:
        changed = [metric.value for job in row.measured(Scenario.SOAK) if (metric := job.metric("probe_changed_samples")) and metric.value]
        if changed:
            text = f"{counted(int(max(changed)), 'probe sample')} gave other outputs than on the cold device"
            text += f", in {len(changed)} of {counted(len(row.measured(Scenario.SOAK)), 'soak')}. Which and when stands under “Heat”."
            found.append(Finding("red", f"The numbers of {row.name} change with heat on {row.place.label}", text))
    return found


def _throttled(matrix: Matrix) -> list[Finding]:
    """One finding for all cells whose device slowed down under sustained load."""
    texts = []
    for row in matrix.rows:
        onset, kept = row.soak("time_to_throttle_secs"), row.soak("sustained_burst")
        if onset.value is not None:
            left = f", sustained/burst {number(kept.value, 2)}" if kept.value is not None else ""
            texts.append(f"{row.name} on {row.place.label} after {number(onset.value)}\u00a0s{left}")
    if not texts:
        return []
    title = f"{counted(len(texts), 'cell')} throttled under sustained load"
    return [Finding("amber", title, f"{listed(texts, 6)}.")]


def _fallbacks(matrix: Matrix) -> list[Finding]:
    """One finding for each provider that was asked for and does not run every node, and one for each of which that is unknown."""
    elsewhere: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    for row in matrix.rows:
        worst = worst_placement(filter(is_measured, row.jobs))
        if worst is not None and worst.elsewhere_count:
            elsewhere.setdefault(worst.asked, []).append(f"{row.name} on {row.place.label}: {_of_nodes(worst)}")
        elif worst is not None and worst.asked != "default" and not worst.node_counts:
            unknown.setdefault(worst.asked, []).append(f"{row.name} on {row.place.label}")
    advice = "Their times are those of the providers that really ran them."
    return [
        Finding("amber", f"{counted(len(texts), 'cell')} asked for {asked}: not every node runs there", f"{listed(texts, 6)}. {advice}")
        for asked, texts in elsewhere.items()
    ] + [
        Finding("note", f"Whether {asked} ran all nodes is unknown for {counted(len(texts), 'cell')}", f"{listed(texts, 6)}.")
        for asked, texts in unknown.items()
    ]


def _of_nodes(placed: NodePlacement) -> str:
    others = [f"{whole(count)} {name}" for name, count in placed.node_counts.items()]
    return f"{whole(placed.elsewhere_count or 0)} of {counted(placed.total, 'node')} elsewhere ({listed(others, 4)})"


def _doubts(matrix: Matrix) -> list[Finding]:
    """One finding for each level below valid, with the reasons counted."""
    found = []
    for level, rank, title, advice in (
        (Validity.INVALID, "amber", "may not be trusted", "Their numbers are shown and marked; do not sign on them."),
        (Validity.SEMIVALID, "note", "may be trusted in part", "Their numbers are shown and marked."),
    ):
        results = [result for result in matrix.results if result.validity and result.validity.level is level]
        if not results:
            continue
        reasons = [reason for result in results if result.validity for reason in result.validity.reasons if reason.level is level]
        codes = Counter(clean(reason.code, 60).replace("_", " ") for reason in reasons)
        why = listed([f"{code} ({count})" for code, count in codes.most_common()], 5)
        found.append(Finding(rank, f"{counted(len(results), 'measurement')} {title}", f"Marked {level}: {why}. {advice}"))
    return found


def _not_measured(matrix: Matrix) -> list[Finding]:
    lost = [result for result in matrix.results if not is_measured(result)]
    if not lost:
        return []
    counts = outcome_counts(lost)
    names = list(dict.fromkeys(clean(result.variant.name, 80) for result in lost))
    parts = listed([f"{whole(count)} {word}" for word, count in counts.items()], 9)
    text = f"{parts}: {listed(names, 6)}. What happened and what to do stands under “Not measured”."
    return [
        Finding(
            "amber", f"{counted(len(lost), 'job')} of {whole(len(matrix.results))} {'was' if len(lost) == 1 else 'were'} not measured", text
        )
    ]


def _contradictions(matrix: Matrix) -> list[Finding]:
    notes: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in matrix.rows:
        if row.variant.notes:
            notes[(row.model, row.name)] = row.variant.notes
    return [
        Finding("amber", f"{name} is not what it is declared to be", " ".join(clean(note, 400) for note in texts))
        for (_, name), texts in notes.items()
    ]


def _fastest(matrix: Matrix) -> str:
    sentences = []
    for model in matrix.models:
        sound = [
            row for row in matrix.of(model) if change_of(row) in (Change.WITHIN, Change.BETTER) and row.latency("latency_ms.p50").value
        ]
        by_device: dict[str, Row] = {}
        for row in sorted(sound, key=lambda row: row.latency("latency_ms.p50").value or 0.0):
            by_device.setdefault(row.place.label, row)
        parts = [f"{row.name} on {label} (p50 {number(row.latency('latency_ms.p50').value)} ms)" for label, row in by_device.items()]
        if parts:
            sentences.append(f"Fastest without such a loss{f' for {model}' if len(matrix.models) > 1 else ''}: {listed(parts, 4)}.")
    return " ".join(sentences)
