"""How soaks look beside one another on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import print_result
from orchestrator.report.thermal_words import finding
from orchestrator.report.words import ABSENT, clean, fixed, number, signed

if TYPE_CHECKING:
    from orchestrator.domain.recipe import UnitSpread
    from orchestrator.service.thermal_compare import ComparedQuantity, ThermalComparison

SPREAD_LEGEND = "between: standard deviation of the units' means; within: of one unit's repeats (– where each ran once)"
#: Of these a difference in percent would say little.
DIFFERENCES_IN_UNIT = ("%", "°C", "fraction", "samples", "queries")
#: Up to so many soaks stand beside one another; of more, each has its own lines.
MOST_COLUMNS = 6


def print_comparison(found: ThermalComparison) -> None:
    """Print each soak's finding, the quantities side by side, the differing conditions and the spread between units."""
    parts: list[Any] = []
    for item in found.soaks:
        head = item.label if item.job_id in item.label else f"{item.label}  ({item.job_id})"
        parts += [Text(head, style="bold"), Text(f"  {finding(item.story)}")]
    parts += [Text(f"left out: {clean(text)}", style="yellow") for text in found.left_out]
    parts.append(_side_by_side(found) if len(found.soaks) <= MOST_COLUMNS else _one_by_one(found))
    parts.append(Text(f"differences are to {found.soaks[0].label}", style="dim"))
    conditions = {name: values for name, values in found.conditions.items() if name != "device"}  # the labels tell the devices
    if conditions:
        parts.append(Text("What their conditions differ in", style="bold"))
        for name, values in conditions.items():
            told = "; ".join(f"{clean(value, 80)} ({', '.join(labels)})" for value, labels in _grouped(values).items())
            parts.append(Text(f"  {name.replace('_', ' ')}: {told}"))
    for profile, spreads in found.spreads.items():
        parts += [Text(f"Between units of {profile}", style="bold"), spread_table(spreads), Text(SPREAD_LEGEND, style="dim")]
    print_result(Group(*parts))


def _grouped(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Value → the labels that have it."""
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(value, []).append(label)
    return groups


def spread_table(spreads: tuple[UnitSpread, ...]) -> Table:
    """How far units lie apart, against how far one lies from itself."""
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, right in (("quantity", False), ("units", False), ("between %", True), ("within %", True)):
        view.add_column(name, justify="right" if right else "left", overflow="fold")
    for spread in spreads:
        units = ", ".join(f"{name} {number(value, 4)}" for name, value in spread.units.items())
        cells = (
            spread.name,
            f"{units} {spread.unit}",
            fixed(spread.between_percent, 2),
            fixed(spread.within_percent, 2),
        )
        view.add_row(*map(Text, cells))
    return view


def _side_by_side(found: ThermalComparison) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("quantity", overflow="fold")
    view.add_column("unit", overflow="fold")
    for item in found.soaks:
        view.add_column(item.label, justify="right", overflow="fold")
    for row in found.quantities:
        view.add_row(Text(row.name), Text(row.unit), *(Text(_cell(row, index)) for index in range(len(found.soaks))))
    return view


def _one_by_one(found: ThermalComparison) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("quantity", "unit", "soak", "value"):
        view.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for row in found.quantities:
        for index, item in enumerate(found.soaks):
            view.add_row(
                Text(row.name if index == 0 else ""), Text(row.unit if index == 0 else ""), Text(item.label), Text(_cell(row, index))
            )
    return view


def _cell(row: ComparedQuantity, index: int) -> str:
    metric, difference = row.values[index], row.differences[index]
    if metric is None or metric.value is None:
        return ABSENT
    text = number(metric.value, 4)
    if index == 0 or difference.absolute is None:
        return text
    if row.unit in DIFFERENCES_IN_UNIT or difference.percent is None:
        return f"{text} ({signed(difference.absolute, 2)})"
    return f"{text} ({signed(difference.percent)} %)"
