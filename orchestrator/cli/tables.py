"""How an experiment looks on a terminal: one table per model, numbers first, and below it in words whatever a number alone would hide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import (
    Footnotes,
    accuracy_cell,
    degradation_cell,
    flips_cell,
    kept_cell,
    numbers_cell,
    p50_cell,
    p90_cell,
    percent,
    reason_texts,
    soak_sentence,
    throttle_cell,
    validity_cell,
    variant_cell,
)
from orchestrator.cli.output import print_result, result_console
from orchestrator.report.words import ABSENT

if TYPE_CHECKING:
    from orchestrator.report.findings import Finding
    from orchestrator.service.results import ExperimentTable, ResultRow

#: Columns of words; all others hold numbers.
WORDS = ("variant", "on", "throttled", "numbers", "validity", "against")

_FINDING_MARK = {"red": "!!!", "amber": " ! "}
_FINDING_STYLE = {"red": "bold red", "amber": "yellow"}
#: Findings that are told in full; what more there is stands in the report.
MOST_FINDINGS = 6

LEGEND = (
    "flips against the reference: − right there and wrong here, + wrong there and right here; "
    "latency end to end, median over repeats (their range)"
)
SOAK_LEGEND = "soaks: the last window against the first, by rate and by mean invoke time; median over repeats (their range)"
#: Soaks that are told in a sentence; the others stand in the table.
MOST_SOAKS = 6


def print_experiment(table: ExperimentTable) -> None:
    """Print an experiment: how its jobs ended, a table per model, and where several places ran it, how they agree."""
    counts = ", ".join(f"{count} {word}" for word, count in table.counts.items())
    parts: list[Any] = [Text(f"{table.name} ({table.experiment_id}), submitted {table.submitted_utc}: {table.job_count} jobs, {counts}")]
    if table.emulated_devices:
        names = ", ".join(table.emulated_devices)
        parts.append(
            Text(f"EMULATED: {names}. Times of an emulated CPU are withheld; they say nothing about a device.", style="bold yellow")
        )
    for model in dict.fromkeys(row.model for row in table.rows):
        parts += _model_parts([row for row in table.rows if row.model == model])
    scenarios = {scenario for row in table.rows for scenario in row.scenarios}
    if scenarios & {"accuracy", "latency"}:
        parts.append(Text(LEGEND, style="dim"))
    if "soak" in scenarios:
        parts.append(Text(SOAK_LEGEND, style="dim"))
    parts += _elsewhere_parts(table)
    unknown = dict.fromkeys(text for row in table.rows for text in row.unknown)
    if unknown:
        parts += [Text(""), Text(f"Unknown here: {'; '.join(unknown)}.", style="dim")]
    parts += _soak_parts(table.rows)
    parts += _finding_parts(table.findings)
    print_result(Group(*parts))


def _model_parts(rows: Sequence[ResultRow]) -> list[Any]:
    first = rows[0]
    notes = Footnotes()
    metric = f"; {_metric_words(first)}" if any("accuracy" in row.scenarios for row in rows) else ""
    title = Text(f"{first.model}  ({first.sample_count} samples{metric})", style="bold")
    return [Text(""), title, *_fitting_layout(rows, notes), *notes.lines()]


def _fitting_layout(rows: Sequence[ResultRow], notes: Footnotes) -> list[RenderableType]:
    """A table with intervals beside their numbers, or under them, or a few lines per row: whatever fits without losing a column."""
    console = result_console()
    unlimited = console.options.update(max_width=10_000)
    for beside in (" ", "\n"):
        headers, lines = _lay_out(rows, notes, beside)
        grid = _grid(headers, lines)
        if Measurement.get(console, unlimited, grid).minimum <= console.width:
            return [grid]
    return list(_cards(*_lay_out(rows, notes, " ")))


def _lay_out(rows: Sequence[ResultRow], notes: Footnotes, beside: str) -> tuple[list[str], list[list[Text]]]:
    """Headers and cells of the columns that say something here: no place where there is one only, no times where none were asked for."""
    reasons = reason_texts(rows)
    columns: dict[str, Callable[[ResultRow], Text]] = {"variant": lambda row: variant_cell(row, notes)}
    if len({row.place for row in rows}) > 1:
        columns["on"] = lambda row: Text(row.place)
    if any("accuracy" in row.scenarios for row in rows):
        columns[f"{_short_metric(rows[0])} [95 %]"] = lambda row: accuracy_cell(row, notes, beside)
        columns["flips −/+"] = lambda row: flips_cell(row, notes)
    if any("latency" in row.scenarios for row in rows):
        columns["p50 ms (repeats)"] = lambda row: p50_cell(row, notes, beside)
        columns["p90 ms"] = lambda row: p90_cell(row, notes)
    if any("soak" in row.scenarios for row in rows):
        columns["throttled"] = lambda row: throttle_cell(row, notes)
        columns["sustained/burst"] = lambda row: kept_cell(row, notes, beside)
        columns["degradation %"] = lambda row: degradation_cell(row, notes, beside)
        columns["numbers"] = lambda row: numbers_cell(row, notes)
    columns["validity"] = lambda row: validity_cell(row, notes, reasons)
    return list(columns), [[cell(row) for cell in columns.values()] for row in rows]


def _grid(headers: Sequence[str], lines: Sequence[Sequence[Text]]) -> Table:
    """Numbers are never wrapped or cut: a column of them is as wide as its widest one. Words may be folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, header in enumerate(headers):
        if header in WORDS:
            table.add_column(header, overflow="fold", min_width=10)
        else:
            widest = max(part.cell_len for line in lines for part in (Text(header), *line[index].split()))
            table.add_column(header, justify="right", no_wrap=True, min_width=widest)
    for line in lines:
        table.add_row(*line)
    return table


def _cards(headers: Sequence[str], lines: Sequence[Sequence[Text]]) -> list[Text]:
    """A terminal too narrow for a table: one line per number, so that none is cut off."""
    found = []
    for line in lines:
        found.append(line[0])
        found += [Text(f"  {header}: ", style="dim").append_text(cell) for header, cell in zip(headers[1:], line[1:], strict=True) if cell]
    return found


def _metric_words(row: ResultRow) -> str:
    from orchestrator.analysis.metric_names import METRICS

    definition = METRICS.get(row.metric)
    return f"{row.metric}: {definition.meaning}" if definition else row.metric


def _short_metric(row: ResultRow) -> str:
    name = {"accuracy.top1": "top-1", "auc": "AUC", "sqnr_db": "SQNR"}.get(row.metric, row.metric)
    return f"{name} {row.unit}".strip()


def _elsewhere_parts(table: ExperimentTable) -> list[Any]:
    """The same variants in two places: do the same files answer alike?"""
    if not table.elsewhere:
        return []
    notes = Footnotes()
    bases = list(dict.fromkeys(item.base_place for item in table.elsewhere))
    headers = ["variant", "on", *(["against"] if len(bases) > 1 else []), "bit-exact %", "same class %", "flips −/+"]
    several_models = len({item.model for item in table.elsewhere}) > 1
    lines = []
    for item in table.elsewhere:
        pair = item.comparison
        name = f"{item.model}/{item.variant}" if several_models else item.variant
        mark = f" {notes.mark(pair.cause)}" if pair.cause else ""
        flips = ABSENT if pair.flips_to_wrong is None else f"{pair.flips_to_wrong} / {pair.flips_to_right}"
        against = [Text(item.base_place)] if len(bases) > 1 else []
        lines.append([Text(name + mark), Text(item.place), *against, percent(pair.bit_exact_share), percent(pair.agreement), Text(flips)])
    title = "The same file elsewhere, sample by sample" + (f", against {bases[0]}" if len(bases) == 1 else "")
    return [Text(""), Text(title, style="bold"), _grid(headers, lines), *notes.lines()]


def _soak_parts(rows: Sequence[ResultRow]) -> list[Any]:
    soaks = [(row, row.soak) for row in rows if row.soak is not None]
    if not soaks:
        return []
    parts: list[Any] = [Text(""), Text("Heat", style="bold")]
    for row, soak in soaks[:MOST_SOAKS]:
        parts.append(Text(soak_sentence(row, soak)))
    if len(soaks) > MOST_SOAKS:
        parts.append(Text(f"and {len(soaks) - MOST_SOAKS} more rows"))
    return [*parts, Text(f"next: edgematrix thermal show {soaks[0][1].job_ids[0]}")]


def _finding_parts(findings: Sequence[Finding]) -> list[Any]:
    """What a reader must know first comes last: a terminal shows the end of what was printed. Notes are left to the report."""
    told = [finding for finding in findings if finding.level != "note"]
    if not told:
        return []
    parts: list[Any] = [Text(""), Text("Findings", style="bold")]
    for finding in told[:MOST_FINDINGS]:
        parts.append(Text(f"{_FINDING_MARK[finding.level]} {finding.title}", style=_FINDING_STYLE[finding.level]))
        parts += [Padding(Text(text), (0, 0, 0, 4)) for text in (finding.text, finding.likely) if text]
    if len(told) > MOST_FINDINGS:
        parts.append(Text(f"and {len(told) - MOST_FINDINGS} more: they open the report"))
    return parts
