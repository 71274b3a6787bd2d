"""How a reproduction looks on a terminal: the verdict and its reasons first, then every quantity and every repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import print_result
from orchestrator.cli.thermal_comparison import SPREAD_LEGEND, spread_table
from orchestrator.report.words import ABSENT, clean, counted, number

if TYPE_CHECKING:
    from orchestrator.domain.recipe import QuantityVerdict, Recipe
    from orchestrator.service.thermal_reproduction import DeviceReproduction, ReproductionView

_STYLE = {"reproduced": "bold green", "not reproduced": "bold red", "undetermined": "bold yellow"}


def print_reproduction(recipe: Recipe, view: ReproductionView) -> None:
    """Print the verdict of every device, quantity by quantity and repeat by repeat."""
    parts: list[Any] = [Text(f"{recipe.from_job}: {view.verdict}", style=_STYLE[view.verdict])]
    for item in view.devices:
        parts += _device(item)
    if view.spreads:
        parts += [Text("Between these units", style="bold"), spread_table(view.spreads), Text(SPREAD_LEGEND, style="dim")]
    print_result(Group(*parts))


def _device(item: DeviceReproduction) -> list[Any]:
    found = item.reproduction
    head = Text(f"{item.device} ({item.profile}), {counted(len(found.repeats), 'repeat')}: ", style="bold")
    parts: list[Any] = [head.append(found.verdict, style=_STYLE[found.verdict])]
    parts += [Text(f"  {clean(reason)}") for reason in found.reasons]
    parts += [Text(f"  not measured: {clean(text)}", style="yellow") for text in item.unmeasured]
    if found.quantities:
        parts.append(_quantities(found.quantities))
        parts += [Text(f"  {item.name}: {clean(item.words)}") for item in found.quantities if item.verdict != "reproduced"]
    parts += [Text(f"  {clean(check.words)}") for check in found.predictions]
    for repeat in found.repeats:
        line = Text(f"  {repeat.job_id}: ").append(repeat.verdict, style=_STYLE[repeat.verdict])
        differences = "; ".join(clean(text) for text in repeat.differences)
        parts.append(line.append("".join(f"; {text}" for text in (clean(repeat.words), differences) if text), style=""))
    return parts


def _quantities(quantities: tuple[QuantityVerdict, ...]) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    right = ("expected", "tolerance", "observed [95 %]")
    for name in ("quantity", "unit", *right, "verdict"):
        view.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for item in quantities:
        low, high = number(item.tolerance_low, 4), number(item.tolerance_high, 4)
        tolerance = ABSENT if item.tolerance_low is None and item.tolerance_high is None else f"{low} … {high}"
        observed = ABSENT
        if item.observed is not None:
            observed = number(item.observed.value, 4)
            if item.observed.low is not None and item.observed.high is not None:
                observed += f" [{number(item.observed.low, 4)}, {number(item.observed.high, 4)}]"
        cells = (Text(item.name), Text(item.unit), Text(number(item.expected, 4)), Text(tolerance), Text(observed))
        view.add_row(*cells, Text(item.verdict, style=_STYLE[item.verdict]))
    return view
