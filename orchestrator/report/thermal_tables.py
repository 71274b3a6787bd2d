"""The table of soaks: one line for each attempt, what is left of its speed, when it throttled, and whether its numbers changed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.thermal import ThermalStory
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.table import Cell, Column, Table, TableRow, absent
from orchestrator.report.thermal_words import STOPPED, headline, numbers, seconds
from orchestrator.report.words import clean, counted, fixed

_PROBE_KINDS = {"changed": "bad", "undetermined": "warn", "stable": "", "not asked": "absent"}


def soaks_table(panels: Sequence[ThermalPanel]) -> Table:
    """Return one row for each soak that left anything."""
    columns = (
        Column("Soak"),
        Column("Throttled after", "from the first steady query to the first sign of throttling", True),
        Column("Shown by", "the surest of the signs that came first"),
        Column("Sustained/burst", "completions per second of the last window against the first", True),
        Column("Stability %", "100 · slowest window / fastest window", True),
        Column("Peak °C", "highest control temperature of the steady part", True),
        Column("Ambient °C", "", True),
        Column("Numbers", "whether the outputs of the probe samples changed with heat"),
        Column("Load", "how long it was loaded"),
    )
    return Table("soaks", columns, tuple(TableRow(_cells(panel)) for panel in panels))


def _cells(panel: ThermalPanel) -> tuple[Cell, ...]:
    story = panel.story
    onset = story.onset
    name = headline(panel)
    return (
        Cell(name, name, story.job_id, "name", clean(story.job_id, 40)),
        Cell(seconds(onset.at_secs), onset.at_secs, clean(onset.words, 300)) if onset else _no_onset(story),
        Cell(str(onset.cause), str(onset.cause), clean(onset.words, 300)) if onset else absent(clean(story.throttle_words, 300)),
        _scalar(story, "sustained_burst", 2),
        _scalar(story, "stability_percent", 1),
        _scalar(story, "peak_c", 1),
        Cell(fixed(story.ambient_c), story.ambient_c, clean(story.ambient_source, 200))
        if story.ambient_c is not None
        else absent(clean(story.ambient_source, 200) or "not known"),
        _probe_cell(story),
        _load_cell(story),
    )


def _no_onset(story: ThermalStory) -> Cell:
    if story.throttled is False:
        return Cell("did not", None, clean(story.throttle_words, 300))
    return absent(clean(story.throttle_words, 300) or "not known")


def _scalar(story: ThermalStory, name: str, decimals: int) -> Cell:
    metric = story.scalar(name)
    if metric is None or metric.value is None:
        return absent(clean(metric.cause, 300) if metric is not None and metric.cause else "not computed")
    return Cell(fixed(metric.value, decimals), metric.value)


def _probe_cell(story: ThermalStory) -> Cell:
    probe = story.probe
    small = f"{len(probe.changes)} of {counted(probe.samples, 'sample')}" if probe.changes else ""
    return Cell(probe.verdict, probe.verdict, clean(probe.words, 300) or numbers(story), _PROBE_KINDS[probe.verdict], small)


def _load_cell(story: ThermalStory) -> Cell:
    words = seconds(story.steady_secs)
    if story.stopped:
        return Cell(words, story.steady_secs, STOPPED.get(story.stopped, clean(story.stopped, 60)), "warn", "ended itself")
    if not story.complete:
        return Cell(words, story.steady_secs, f"of {seconds(story.planned_secs)} planned", "warn", "incomplete")
    return Cell(words, story.steady_secs)
