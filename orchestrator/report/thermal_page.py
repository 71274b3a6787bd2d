"""A page about heat alone: soaks on one axis of time, side by side, and repeats of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.recipe import Reproduction
from orchestrator.report.figure import FigureGroup
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.reproduction_chart import reproduction_group
from orchestrator.report.shell import Drawing, DrawnGroup, render_page
from orchestrator.report.thermal_charts import soak_group
from orchestrator.report.thermal_overlay import overlay_group, scatter_group
from orchestrator.report.thermal_tables import changes_table, fits_table, soaks_table
from orchestrator.report.thermal_words import headline
from orchestrator.report.words import clean, counted

#: Soaks that get a figure of their own; the table and the overlaid figure hold the others.
MOST_DRAWN = 6


def thermal_groups(panels: Sequence[ThermalPanel], reproduction: Reproduction | None = None) -> list[FigureGroup]:
    """Return the figures of some soaks in the order in which they are read: together first, then each alone."""
    together = [reproduction_group(reproduction) if reproduction is not None else None, overlay_group(panels)]
    alone = [group for panel in panels[:MOST_DRAWN] for group in (soak_group(panel), scatter_group(panel))]
    return [group for group in (*together, *alone) if group is not None]


def draw_soaks(drawing: Drawing, panels: Sequence[ThermalPanel], reproduction: Reproduction | None = None) -> list[DrawnGroup]:
    """Draw the figures of some soaks into a page."""
    return [drawn for group in thermal_groups(panels, reproduction) if (drawn := drawing.draw(group)) is not None]


def left_out_words(panels: Sequence[ThermalPanel]) -> str:
    """Say how many soaks have no figure of their own."""
    count = len(panels) - MOST_DRAWN
    return f"{counted(count, 'further soak')} without a figure of {'its' if count == 1 else 'their'} own." if count > 0 else ""


def render_thermal_page(panels: Sequence[ThermalPanel], title: str, reproduction: Reproduction | None = None) -> str:
    """Return one HTML page that loads nothing from anywhere. Pure: the same input gives the same text."""
    drawing = Drawing()
    groups = draw_soaks(drawing, panels, reproduction)
    return render_page(
        "thermal.html",
        drawing,
        kind="heat",
        title=clean(title, 200),
        emulation=emulation_words(panels),
        soaks=soaks_table(panels),
        changes=changes_table(panels),
        fits=fits_table(panels),
        predictions=predictions(panels),
        groups=groups,
        left_out=left_out_words(panels),
    )


def predictions(panels: Sequence[ThermalPanel]) -> list[str]:
    """Return what the fits foretell at other ambients, a paragraph for each soak."""
    told = [(headline(panel), [clean(item.words, 300) for item in panel.story.predictions]) for panel in panels]
    return [f"Foretold for {name}: {'; '.join(words)}." for name, words in told if words]


def emulation_words(panels: Sequence[ThermalPanel]) -> list[str]:
    """Return one sentence for each emulated device among the soaks."""
    found = dict.fromkeys((clean(panel.device, 80), panel.emulated.value) for panel in panels if panel.emulated.value != "none")
    meaning = {
        "cpu": "its CPU is emulated: its times mean nothing and are withheld.",
        "environment": "the CPU is this computer’s own, its surroundings (sensors, governor) are simulated.",
    }
    return [f"{device}: {meaning[kind]}" for device, kind in found]
