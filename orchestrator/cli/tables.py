"""How results look on a terminal: one table per model, numbers first, and below it in words whatever a number alone would hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import print_result
from orchestrator.report.words import ABSENT, fixed, number, signed

if TYPE_CHECKING:
    from orchestrator.domain.results import ResultEnvelope
    from orchestrator.service.results import ExperimentTable, ResultRow

_LEVEL_STYLE = {"valid": "green", "semivalid": "yellow", "invalid": "bold red"}
_SCENARIO_WORDS = {"accuracy": "accuracy job", "latency": "latency job"}


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
        parts.append(Text(f"EMULATED: {names}. Times of an emulated CPU are withheld; they say nothing about a device.", style="bold yellow"))
    for model in dict.fromkeys(row.model for row in table.rows):
        parts += _model_parts([row for row in table.rows if row.model == model])
    parts += _elsewhere_parts(table)
    unknown = dict.fromkeys(text for row in table.rows for text in row.unknown)
    if unknown:
        parts += [Text(""), Text("No sensor of this machine can tell: " + "; ".join(unknown) + ".", style="dim")]
    print_result(Group(*parts))


def _model_parts(rows: Sequence[ResultRow]) -> list[Any]:
    first = rows[0]
    notes = Footnotes()
    several_places = len({row.place for row in rows}) > 1
    table = Table(title=f"{first.model}  ({_metric_words(first)})", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", overflow="fold", min_width=10)
    if several_places:
        table.add_column("on", overflow="fold")
    table.add_column(f"{_short_metric(first)} [95 %]", justify="right")
    table.add_column("flips −/+", justify="right", no_wrap=True)
    table.add_column("p50 ms (repeats)", justify="right")
    table.add_column("p90 ms", justify="right", no_wrap=True)
    table.add_column("validity", overflow="fold")
    for row in rows:
        cells = [_variant_cell(row, notes)]
        cells += [Text(row.place)] if several_places else []
        cells += [_accuracy_cell(row, notes), _flips_cell(row, notes), *_latency_cells(row, notes), _validity_cell(row, notes)]
        table.add_row(*cells)
    legend = "flips against the reference: − right there and wrong here, + wrong there and right here; latency end to end, median over repeats (their range)"
    return [Text(""), table, Text(legend, style="dim"), *notes.lines()]


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


def _accuracy_cell(row: ResultRow, notes: Footnotes) -> Text:
    metric = row.accuracy
    if metric is None:
        return Text(ABSENT)
    if metric.value is None:
        return Text(f"{ABSENT} {notes.mark(metric.cause or 'unknown')}")
    text = fixed(metric.value * row.factor, row.decimals)
    if metric.low is not None and metric.high is not None:
        text += f" [{fixed(metric.low * row.factor, row.decimals)}, {fixed(metric.high * row.factor, row.decimals)}]"
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
    cell = Text(f"{pair.flips_to_wrong} / {pair.flips_to_right}", style="bold red" if lost else "")
    return cell.append(f" {notes.mark(pair.cause)}") if pair.cause else cell


def _latency_cells(row: ResultRow, notes: Footnotes) -> tuple[Text, Text]:
    if row.p50_ms.value is None:
        cause = row.p50_ms.cause
        return Text(f"{ABSENT} {notes.mark(cause)}" if cause and row.measured_count else ABSENT), Text(ABSENT)
    p50 = number(row.p50_ms.value)
    if row.p50_ms.repeats > 1:
        p50 += f" ({number(row.p50_ms.low)}–{number(row.p50_ms.high)})"
    p90 = number(row.p90_ms.value) if row.p90_ms.value is not None else f"{ABSENT} {notes.mark(row.p90_ms.cause or 'unknown')}"
    return Text(p50), Text(p90)


def _validity_cell(row: ResultRow, notes: Footnotes) -> Text:
    cell = Text(row.validity or ABSENT, style=_LEVEL_STYLE.get(row.validity or "", ""))
    if row.emulated != "none":
        cell.append(f" EMULATED {row.emulated}", style="bold yellow")
    marks = notes.marks([f"{reason.level.value}: {reason.message}" for reason in row.reasons])
    for problem in row.problems:
        jobs = f"{len(problem.job_ids)} {_SCENARIO_WORDS.get(problem.scenario, problem.scenario)}{'s' if len(problem.job_ids) > 1 else ''}"
        words = f"{row.variant}, {jobs}: {problem.outcome}"
        words += f" ({problem.code}): {problem.message}" if problem.code else ""
        cell.append(f" {problem.outcome}", style="bold red" if problem.outcome in ("error", "timeout") else "dim")
        marks += notes.mark(words + (f" → {problem.remedy}" if problem.remedy else ""))
    return cell.append(f" {marks}") if marks else cell


def _elsewhere_parts(table: ExperimentTable) -> list[Any]:
    """The same variants in two places: do the same files answer alike?"""
    if not table.elsewhere:
        return []
    notes = Footnotes()
    view = Table(
        title="The same file in two places, sample by sample", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name, justify in (("variant", "left"), ("on", "left"), ("against", "left"), ("bit-exact %", "right"), ("same class %", "right"), ("flips −/+", "right")):
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


def print_job(envelope: ResultEnvelope) -> None:
    """Print one job: what it was, how it ended, its metrics with causes, and the conditions found."""
    job, variant = envelope.job, envelope.variant
    device = envelope.device.name if envelope.device else "no device yet"
    emulated = f"  EMULATED {envelope.device.emulated.value}" if envelope.device and envelope.device.emulated.value != "none" else ""
    head = f"{variant.model}/{variant.name} · {job.scenario.value} · repeat {job.repeat} · {device} · {job.environment}{emulated}"
    parts: list[Any] = [Text(f"job {job.id} of {envelope.experiment.name} ({envelope.experiment.id})", style="bold"), Text(head)]
    parts.append(Text(f"{job.state.value}{f', {job.outcome.value}' if job.outcome else ''}, {job.attempts} attempt{'s' if job.attempts != 1 else ''}"))
    if job.error:
        parts.append(Text(f"{job.error.error_class} error {job.error.code}: {job.error.message}", style="red"))
        parts += [Text(f"  {job.error.remedy}")] if job.error.remedy else []
    parts += [Text(f"note: {note}", style="yellow") for note in variant.notes]
    if envelope.validity:
        parts.append(Text(envelope.validity.level.value, style=_LEVEL_STYLE[envelope.validity.level.value]))
        parts += [Text(f"  {reason.level.value}: {reason.message}") for reason in envelope.validity.reasons]
        if envelope.validity.unknown:
            parts.append(Text(f"  no sensor can tell: {'; '.join(envelope.validity.unknown)}", style="dim"))
    if envelope.metrics:
        view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("metric", "value", "unit", "95 % interval", "count"):
            view.add_column(name, justify="left" if name in ("metric", "unit") else "right", overflow="fold")
        for metric in envelope.metrics:
            interval = "" if metric.low is None else f"[{number(metric.low)}, {number(metric.high)}]"
            value = number(metric.value, 4) if metric.value is not None else f"{ABSENT} ({metric.cause})"
            view.add_row(Text(metric.name), Text(value), Text(metric.unit), Text(interval), Text("" if metric.count is None else str(metric.count)))
        parts.append(view)
    print_result(Group(*parts))
    if envelope.attempt:
        print_record(envelope.attempt.conditions)


def print_comparison(result: Any) -> None:
    """Print what ``service.comparison.compare`` found: one line per pair of cells, and in words what could not be known."""
    notes = Footnotes()
    view = Table(title=f"{result.b} against {result.a}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    right = ("difference [95 %]", "McNemar p", "flips −/+", "same class %", "bit-exact %", "latency ratio [95 %]")
    for name in ("pair", *right):
        view.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for pair in result.pairs:
        accuracy, latency = pair.accuracy, pair.latency
        view.add_row(
            Text(f"{pair.label_b}\nvs {pair.label_a}"),
            Text(difference_text(accuracy, notes)),
            Text("" if accuracy is None or accuracy.mcnemar_p is None else ("< 0.001" if accuracy.mcnemar_p < 0.001 else f"{accuracy.mcnemar_p:.3f}")),
            Text("" if accuracy is None or accuracy.flips_to_wrong is None else f"{accuracy.flips_to_wrong} / {accuracy.flips_to_right}"),
            percent(accuracy.agreement if accuracy else None),
            percent(accuracy.bit_exact_share if accuracy else None),
            Text(ratio_text(latency, notes)),
        )
    parts: list[Any] = [view, Text("difference, flips and ratio are B against A; a ratio below 1 means that B is faster", style="dim"), *notes.lines()]
    if result.unmatched:
        parts.append(Text("without a counterpart: " + ", ".join(result.unmatched), style="dim"))
    print_result(Group(*parts))


def difference_text(pair: Any, notes: Footnotes) -> str:
    if pair is None:
        return ""
    mark = f" {notes.mark(pair.cause)}" if pair.cause else ""
    if pair.difference is None:
        return f"undetermined{mark}"
    decimals = 1 if pair.unit in ("points", "dB") else 4
    interval = "" if pair.low is None else f" [{signed(pair.low, decimals)}, {signed(pair.high, decimals)}]"
    undetermined = " undetermined" if pair.low is not None and pair.low <= 0 <= pair.high else ""
    return f"{signed(pair.difference, decimals)} {pair.unit}{interval}{undetermined}{mark}"


def ratio_text(latency: Any, notes: Footnotes) -> str:
    if latency is None:
        return ""
    mark = f" {notes.mark(latency.cause)}" if latency.cause else ""
    if latency.ratio is None:
        return f"undetermined{mark}"
    interval = "" if latency.low is None else f" [{latency.low:.3f}, {latency.high:.3f}]"
    return f"{latency.ratio:.3f}{interval} {latency.verdict}{mark}"


def print_record(record: Mapping[str, Any], indent: int = 0) -> None:
    """Print a nested record as indented ``name: value`` lines."""
    print_result(Group(*_record_lines(record, indent)))


def _record_lines(record: Mapping[str, Any], indent: int) -> list[Text]:
    lines: list[Text] = []
    for name, value in record.items():
        head = Text("  " * indent + f"{name}: ", style="bold")
        if isinstance(value, Mapping) and value:
            lines += [head, *_record_lines(value, indent + 1)]
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            lines.append(head)
            for item in value:
                lines += [*_record_lines(item, indent + 1), Text("")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else ABSENT if value is None or value in ("", {}) else str(value)
            lines.append(head.append(shown, style="not bold"))
    return lines
