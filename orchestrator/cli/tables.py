"""How results look on a terminal: one table per model, numbers first, and below it in words whatever a number alone would hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import print_result, result_console
from orchestrator.report.words import ABSENT, fixed, number

if TYPE_CHECKING:
    from orchestrator.domain.results import Reason
    from orchestrator.service.results import ExperimentTable, Problem, ResultRow

LEVEL_STYLE = {"valid": "green", "semivalid": "yellow", "invalid": "bold red"}


class Footnotes:
    """Sentences below a table, each said once and numbered; cells point to them with ``[1]``."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"

    def marks(self, texts: Sequence[str]) -> str:
        return "".join(self.mark(text) for text in texts)

    def lines(self) -> list[Text]:
        return [Text(f"[{index}] {text}") for index, text in enumerate(self.texts, 1)]


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
    parts += _elsewhere_parts(table)
    unknown = dict.fromkeys(text for row in table.rows for text in row.unknown)
    if unknown:
        parts += [Text(""), Text(f"Unknown here: {'; '.join(unknown)}.", style="dim")]
    print_result(Group(*parts))


def _model_parts(rows: Sequence[ResultRow]) -> list[Any]:
    first = rows[0]
    notes = Footnotes()
    headers = ["variant", "on", f"{_short_metric(first)} [95 %]", "flips −/+", "p50 ms (repeats)", "p90 ms", "validity"]
    if len({row.place for row in rows}) == 1:
        headers.remove("on")
    title = Text(f"{first.model}  ({first.sample_count} samples; {_metric_words(first)})", style="bold")
    body = _fitting_layout(headers, rows, notes)
    legend = (
        "flips against the reference: − right there and wrong here, + wrong there and right here; "
        "latency end to end, median over repeats (their range)"
    )
    return [Text(""), title, *body, Text(legend, style="dim"), *notes.lines()]


def _fitting_layout(headers: Sequence[str], rows: Sequence[ResultRow], notes: Footnotes) -> list[RenderableType]:
    """A table with intervals beside their numbers, or under them, or a few lines per row: whatever fits without losing a column."""
    reasons = _reason_texts(rows)
    console = result_console()
    unlimited = console.options.update(max_width=10_000)
    for beside in (" ", "\n"):
        grid = _grid(headers, [_cells(row, headers, notes, reasons, beside) for row in rows])
        if Measurement.get(console, unlimited, grid).minimum <= console.width:
            return [grid]
    return list(_cards(headers, [_cells(row, headers, notes, reasons, " ") for row in rows]))


def _cells(row: ResultRow, headers: Sequence[str], notes: Footnotes, reasons: Mapping[tuple[str, str], str], beside: str) -> list[Text]:
    cells = [_variant_cell(row, notes)]
    cells += [Text(row.place)] if "on" in headers else []
    return [
        *cells,
        _accuracy_cell(row, notes, beside),
        _flips_cell(row, notes),
        *_latency_cells(row, notes, beside),
        _validity_cell(row, notes, reasons),
    ]


def _grid(headers: Sequence[str], lines: Sequence[Sequence[Text]]) -> Table:
    """Numbers are never wrapped or cut: a column of them is as wide as its widest one. Words may be folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, header in enumerate(headers):
        if header in ("variant", "on", "validity"):
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


def _variant_cell(row: ResultRow, notes: Footnotes) -> Text:
    cell = Text(row.variant)
    if row.reference:
        cell.append(" ref", style="dim")
    marks = notes.marks([f"{row.variant}: {note}" for note in row.notes])
    return cell.append(f" {marks}", style="yellow") if marks else cell


def _accuracy_cell(row: ResultRow, notes: Footnotes, beside: str) -> Text:
    metric = row.accuracy
    if metric is None:
        return Text(ABSENT)
    if metric.value is None:
        return Text(f"{ABSENT} {notes.mark(metric.cause or 'unknown')}")
    text = fixed(metric.value * row.factor, row.decimals)
    if metric.low is not None and metric.high is not None:
        text += f"{beside}[{fixed(metric.low * row.factor, row.decimals)}, {fixed(metric.high * row.factor, row.decimals)}]"
    if row.deterministic is False:
        text += f" {notes.mark(f'{row.variant}: not deterministic, repeats gave different outputs; repeat 0 is shown')}"
    return Text(text)


def _flips_cell(row: ResultRow, notes: Footnotes) -> Text:
    if row.reference:
        return Text("")
    pair = row.against_reference
    if pair is None:
        return Text(ABSENT)
    if pair.flips_to_wrong is None:
        return Text(f"{ABSENT} {notes.mark(pair.cause)}" if pair.cause else ABSENT)
    lost = pair.high is not None and pair.high < 0
    elsewhere = f"compared with the reference on {row.reference_place}: it was not measured on {row.place}" if row.reference_place else None
    cell = Text(f"{pair.flips_to_wrong} / {pair.flips_to_right}", style="bold red" if lost else "")
    marks = notes.marks([text for text in (pair.cause, elsewhere) if text])
    return cell.append(f" {marks}") if marks else cell


def _latency_cells(row: ResultRow, notes: Footnotes, beside: str) -> tuple[Text, Text]:
    if row.p50_ms.value is None:
        cause = row.p50_ms.cause
        return Text(f"{ABSENT} {notes.mark(cause)}" if cause and row.measured_count else ABSENT), Text(ABSENT)
    p50 = number(row.p50_ms.value)
    if row.p50_ms.repeats > 1:
        p50 += f"{beside}({number(row.p50_ms.low)}–{number(row.p50_ms.high)})"
    p90 = number(row.p90_ms.value) if row.p90_ms.value is not None else f"{ABSENT} {notes.mark(row.p90_ms.cause or 'unknown')}"
    return Text(p50), Text(p90)


def _validity_cell(row: ResultRow, notes: Footnotes, reasons: Mapping[tuple[str, str], str]) -> Text:
    """The worst validity of the measured jobs, and how those ended that were not measured."""
    outcomes = list(dict.fromkeys(problem.outcome for problem in row.problems))
    cell = Text(row.validity or ("" if outcomes else ABSENT), style=LEVEL_STYLE.get(row.validity or "", ""))
    if row.emulated != "none":
        cell.append(f" EMULATED {row.emulated}", style="bold yellow")
    for outcome in outcomes:
        cell.append(f" {outcome}" if cell else outcome, style="bold red" if outcome in ("error", "timeout") else "")
    marks = notes.marks([reasons[reason.code, reason.level] for reason in row.reasons])
    marks += notes.marks([f"{row.variant}: {text}" for text in _problem_texts(row.problems)])
    return cell.append(f" {marks}") if marks else cell


def _reason_texts(rows: Sequence[ResultRow]) -> dict[tuple[str, str], str]:
    """One sentence for each kind of reason: where rows differ in the number, that of the row farthest beyond the threshold."""
    found: dict[tuple[str, str], list[Reason]] = {}
    for row in rows:
        for reason in row.reasons:
            found.setdefault((reason.code, reason.level), []).append(reason)
    texts = {}
    for key, reasons in found.items():
        worst = max(reasons, key=lambda reason: abs((reason.value or 0.0) - (reason.threshold or 0.0)))
        several = len({reason.message for reason in reasons}) > 1
        texts[key] = f"{worst.level.value}: {worst.message}" + (" (the worst of these rows)" if several else "")
    return texts


def _problem_texts(problems: Sequence[Problem]) -> list[str]:
    """One sentence for each reason, however many jobs of both scenarios it kept from being measured."""
    jobs: dict[str, list[str]] = {}
    for problem in problems:
        reason = problem.outcome + (f" ({problem.code}): {problem.message}" if problem.code else "")
        count = len(problem.job_ids)
        words = f"{count} {problem.scenario} job{'s' if count > 1 else ''}"
        jobs.setdefault(reason + (f" → {problem.remedy}" if problem.remedy else ""), []).append(words)
    return [f"{' and '.join(words)}: {reason}" for reason, words in jobs.items()]


def _elsewhere_parts(table: ExperimentTable) -> list[Any]:
    """The same variants in two places: do the same files answer alike?"""
    if not table.elsewhere:
        return []
    notes = Footnotes()
    view = Table(
        title="The same file in two places, sample by sample", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name, justify in (
        ("variant", "left"),
        ("on", "left"),
        ("against", "left"),
        ("bit-exact %", "right"),
        ("same class %", "right"),
        ("flips −/+", "right"),
    ):
        view.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    several_models = len({item.model for item in table.elsewhere}) > 1
    for item in table.elsewhere:
        pair = item.comparison
        name = f"{item.model}/{item.variant}" if several_models else item.variant
        mark = f" {notes.mark(pair.cause)}" if pair.cause else ""
        flips = ABSENT if pair.flips_to_wrong is None else f"{pair.flips_to_wrong} / {pair.flips_to_right}"
        view.add_row(
            Text(name + mark), Text(item.place), Text(item.base_place), percent(pair.bit_exact_share), percent(pair.agreement), Text(flips)
        )
    return [Text(""), view, *notes.lines()]


def percent(share: float | None) -> Text:
    return Text(ABSENT if share is None else fixed(100 * share, 1))
