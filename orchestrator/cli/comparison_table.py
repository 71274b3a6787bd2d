"""How a comparison looks on a terminal: one line per pair of cells, and in words below it what could not be known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import Footnotes, percent
from orchestrator.cli.output import print_result
from orchestrator.report.words import p_value, signed

if TYPE_CHECKING:
    from orchestrator.report.inputs import PairComparison
    from orchestrator.service.comparison import Comparison, LatencyComparison


def print_comparison(result: Comparison) -> None:
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
            Text(difference_text(accuracy, pair.accuracy_verdict, notes)),
            Text("" if accuracy is None or accuracy.mcnemar_p is None else p_value(accuracy.mcnemar_p)),
            Text("" if accuracy is None or accuracy.flips_to_wrong is None else f"{accuracy.flips_to_wrong} / {accuracy.flips_to_right}"),
            percent(accuracy.agreement if accuracy else None),
            percent(accuracy.bit_exact_share if accuracy else None),
            Text(ratio_text(latency, notes)),
        )
    parts: list[Any] = [
        view,
        Text("difference, flips and ratio are B against A; a ratio below 1 means that B is faster", style="dim"),
        *notes.lines(),
    ]
    if result.unmatched:
        parts.append(Text("without a counterpart: " + ", ".join(result.unmatched), style="dim"))
    print_result(Group(*parts))


def difference_text(pair: PairComparison | None, verdict: str | None, notes: Footnotes) -> str:
    if pair is None:
        return ""
    mark = f" {notes.mark(pair.cause)}" if pair.cause else ""
    if pair.difference is None:
        return f"undetermined{mark}"
    decimals = 1 if pair.unit in ("points", "dB") else 4
    interval = "" if pair.low is None else f" [{signed(pair.low, decimals)}, {signed(pair.high, decimals)}]"
    return f"{signed(pair.difference, decimals)} {pair.unit}{interval} {verdict}{mark}"


def ratio_text(latency: LatencyComparison | None, notes: Footnotes) -> str:
    if latency is None:
        return ""
    mark = f" {notes.mark(latency.cause)}" if latency.cause else ""
    if latency.ratio is None:
        return f"undetermined{mark}"
    interval = "" if latency.low is None else f" [{latency.low:.3f}, {latency.high:.3f}]"
    return f"{latency.ratio:.3f}{interval} {latency.verdict}{mark}"
