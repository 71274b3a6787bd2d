"""The tables of records: reasons for doubt, what was not measured, the model files, and every job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Scenario, Validity
from orchestrator.report.reading import Matrix, Row, is_measured
from orchestrator.report.table import Cell, Column, Table, TableRow, absent, latency_cell, place_cell
from orchestrator.report.words import ABSENT, clean, listed, size, whole


def validity_table(results: Iterable[ResultEnvelope]) -> Table:
    """Every reason once, in words, with the jobs it concerns."""
    groups: dict[tuple[str, str], list[tuple[ResultEnvelope, str]]] = {}
    for result in results:
        for reason in result.validity.reasons if result.validity else ():
            groups.setdefault((reason.code, reason.level), []).append((result, reason.message))
    columns = (
        Column("Level"),
        Column("Reason"),
        Column("In words", "of the first job it concerns"),
        Column("Jobs", "", True),
        Column("Variants"),
    )
    rows = []
    for (code, level), members in sorted(groups.items(), key=lambda item: (item[0][1] != Validity.INVALID, item[0])):
        names = list(dict.fromkeys(clean(result.variant.name, 60) for result, _ in members))
        kind = "bad" if level == Validity.INVALID else "warn"
        cells = (
            Cell(level, level, "", kind),
            Cell(clean(code, 60).replace("_", " "), code),
            Cell(clean(members[0][1], 400)),
            Cell(whole(len(members)), float(len(members))),
            Cell(listed(names, 4)),
        )
        rows.append(TableRow(cells))
    return Table("validity", columns, tuple(rows))


def errors_table(results: Iterable[ResultEnvelope]) -> Table:
    """What was not measured: what happened, and what to do next."""
    groups: dict[tuple[str, str, str, str], list[ResultEnvelope]] = {}
    for result in results:
        if is_measured(result):
            continue
        error = result.job.error
        word = str(result.job.outcome) if result.job.outcome is not None else f"still {result.job.state}"
        key = (word, error.code, clean(error.message, 600), clean(error.remedy, 400)) if error else (word, "", "", "")
        groups.setdefault(key, []).append(result)
    columns = (Column("Outcome"), Column("What happened"), Column("What to do"), Column("Jobs", "", True), Column("Which"))
    rows = []
    for (word, code, message, remedy), members in groups.items():
        which = list(dict.fromkeys(_which(result) for result in members))
        what = Cell(message or "no cause was recorded", code, clean(code, 60), "", clean(code, 60))
        rows.append(
            TableRow(
                (
                    Cell(word, word, "", "warn"),
                    what,
                    Cell(remedy or "–"),
                    Cell(whole(len(members)), float(len(members))),
                    Cell(listed(which, 4)),
                )
            )
        )
    return Table("errors", columns, tuple(rows))


def files_table(matrix: Matrix) -> Table:
    """The files that were deployed: what they are declared to be and what they hold."""
    columns = (
        Column("Variant"),
        Column("Declared"),
        Column("Weights", "values per data type in the file itself"),
        Column("Size", "", True),
        Column("SHA-256"),
        Column("Notes"),
    )
    rows, seen = [], set()
    for row in matrix.rows:
        variant = row.variant
        if (row.model, variant.name) in seen:
            continue
        seen.add((row.model, variant.name))
        weights = sorted(variant.weights.items(), key=lambda item: -item[1])[:6]
        held = ", ".join(f"{whole(count)} {clean(kind, 20)}" for kind, count in weights)
        declared = " · ".join(word for word in (clean(variant.precision, 30), clean(variant.quantization, 80)) if word)
        notes = " ".join(clean(note, 400) for note in variant.notes)
        cells = (
            Cell(row.name, row.name, "", "name", f"{row.model} · {clean(variant.file, 160)}"),
            Cell(declared, declared),
            Cell(held) if held else absent("the file was not examined"),
            Cell(size(variant.size_bytes), float(variant.size_bytes)),
            Cell(clean(variant.sha256, 64)[:12], None, clean(variant.sha256, 64), "code"),
            Cell(notes, None, "", "warn" if notes else ""),
        )
        rows.append(TableRow(cells))
    # Most files are what they say: an empty column would only take room.
    if not any(row.cells[-1].text for row in rows):
        return Table("files", columns[:-1], tuple(replace(row, cells=row.cells[:-1]) for row in rows))
    return Table("files", columns, tuple(rows))


def jobs_table(matrix: Matrix) -> Table:
    """Every job with its own number, so that repeats can be told apart."""
    columns = (
        Column("Job"),
        Column("Variant"),
        Column("Place"),
        Column("Scenario"),
        Column("Repeat", "", True),
        Column("Outcome"),
        Column("Validity"),
        Column("Value", "accuracy, p50 in ms, or sustained/burst", True),
        Column("Started (UTC)"),
    )
    rows = []
    for row in matrix.rows:
        for result in sorted(row.jobs, key=lambda result: (result.job.scenario, result.job.repeat)):
            job = result.job
            level = str(result.validity.level) if result.validity else ABSENT
            started = clean(result.attempt.started_utc, 40)[:19].replace("T", " ") if result.attempt else ABSENT
            outcome = str(job.outcome) if job.outcome is not None else f"still {job.state}"
            cells = (
                Cell(clean(job.id, 12), job.id, clean(job.id, 64), "code"),
                Cell(row.name, row.name),
                place_cell(row),
                Cell(str(job.scenario)),
                Cell(str(job.repeat), float(job.repeat)),
                Cell(outcome, outcome, "", "" if is_measured(result) else "warn"),
                Cell(level, level, "", {"invalid": "bad", "semivalid": "warn"}.get(level, "")),
                _own_value(row, result),
                Cell(started, started),
            )
            rows.append(TableRow(cells))
    return Table("jobs", columns, tuple(rows))


def _own_value(row: Row, result: ResultEnvelope) -> Cell:
    if result.job.scenario is Scenario.LATENCY:
        alone = replace(row, jobs=(result,), distributions=())
        return latency_cell(alone.latency("latency_ms.p50"))
    if result.job.scenario is Scenario.SOAK:
        return latency_cell(replace(row, jobs=(result,), distributions=()).soak("sustained_burst"), 2)
    metric = result.metric(row.quality.metric)
    if metric is None or metric.value is None:
        return absent(clean(metric.cause) if metric and metric.cause else "not measured")
    return Cell(f"{row.quality.text(metric.value)} {row.quality.unit}".strip(), metric.value)


def _which(result: ResultEnvelope) -> str:
    device = clean(result.device.name, 60) if result.device else "no device"
    return f"{clean(result.variant.name, 60)} ({result.job.scenario}) on {device}"
