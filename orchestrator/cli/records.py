"""One thing at length: a job with its metrics and conditions, or any nested record as indented lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import LEVEL_STYLE
from orchestrator.cli.output import print_result
from orchestrator.report.node_placement import node_placement
from orchestrator.report.words import ABSENT, number

if TYPE_CHECKING:
    from orchestrator.domain.results import ResultEnvelope


def print_job(envelope: ResultEnvelope) -> None:
    """Print one job: what it was, how it ended, its metrics with causes, and the conditions found."""
    job, variant = envelope.job, envelope.variant
    device = envelope.device.name if envelope.device else "no device yet"
    emulated = f"  EMULATED {envelope.device.emulated.value}" if envelope.device and envelope.device.emulated.value != "none" else ""
    head = f"{variant.model}/{variant.name} · {job.scenario.value} · repeat {job.repeat} · {device} · {job.environment}{emulated}"
    parts: list[Any] = [Text(f"job {job.id} of {envelope.experiment.name} ({envelope.experiment.id})", style="bold"), Text(head)]
    parts.append(
        Text(
            f"{job.state.value}{f', {job.outcome.value}' if job.outcome else ''}, {job.attempts} attempt{'s' if job.attempts != 1 else ''}"
        )
    )
    if job.error:
        parts.append(Text(f"{job.error.error_class} error {job.error.code}: {job.error.message}", style="red"))
        parts += [Text(f"  {job.error.remedy}")] if job.error.remedy else []
    parts += [Text(f"note: {note}", style="yellow") for note in variant.notes]
    placed = node_placement(envelope)
    if placed is not None:
        parts.append(Text(f"nodes: {placed.text}", style="yellow" if placed.elsewhere_count else ""))
        parts += [Text(f"  {placed.fallback_text}", style="yellow")] if placed.fallback_text else []
    if envelope.validity:
        parts.append(Text(envelope.validity.level.value, style=LEVEL_STYLE[envelope.validity.level.value]))
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
            view.add_row(
                Text(metric.name), Text(value), Text(metric.unit), Text(interval), Text("" if metric.count is None else str(metric.count))
            )
        parts.append(view)
    print_result(Group(*parts))
    if envelope.attempt:
        print_record(envelope.attempt.conditions)


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
            shown = ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)
            lines.append(head.append(shown, style="not bold"))
    return lines


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ABSENT if value is None or value in ("", {}) else str(value)
