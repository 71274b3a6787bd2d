"""The table of soaks: one line for each attempt, what is left of its speed, when it throttled, and whether its numbers changed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.thermal import Estimate, ProbeChange, ThermalStory
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.table import Cell, Column, Table, TableRow, absent
from orchestrator.report.thermal_words import STOPPED, headline, numbers, seconds
from orchestrator.report.words import clean, counted, fixed, number, whole

#: Samples of one soak that are named.
MOST_CHANGES = 24

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


def changes_table(panels: Sequence[ThermalPanel]) -> Table:
    """Return the probe samples whose outputs changed with heat, in the order in which they did."""
    columns = (
        Column("Soak"),
        Column("Sample", "its number in the data", True),
        Column("First changed after", "from the first steady query", True),
        Column("At °C", "control temperature then", True),
        Column("Rounds", "rounds of probes in which it gave other outputs", True),
        Column("Class cold → hot"),
    )
    rows = []
    for panel in panels:
        for change in sorted(panel.story.probe.changes, key=lambda change: change.first_at_secs)[:MOST_CHANGES]:
            known = change.temperature_c is not None
            cells = (
                Cell(headline(panel), headline(panel), panel.story.job_id, "name"),
                Cell(whole(change.sample), float(change.sample)),
                Cell(seconds(change.first_at_secs), change.first_at_secs),
                Cell(fixed(change.temperature_c), change.temperature_c) if known else absent("not known"),
                Cell(whole(change.rounds), float(change.rounds)),
                _class_cell(change),
            )
            rows.append(TableRow(cells))
    return Table("changes", columns, tuple(rows))


def fits_table(panels: Sequence[ThermalPanel]) -> Table:
    """Return how each soak heated and cooled, where a fit is offered; elsewhere why there is none."""
    columns = (
        Column("Soak"),
        Column("Segment"),
        Column("Time constants [95 %]", "of one or two thermal bodies, fastest first", True),
        Column("Ends at °C [95 %]", "where the temperature was heading", True),
        Column("RMSE °C", "of the fit", True),
    )
    rows = []
    for panel in panels:
        for fit in panel.story.fits:
            why = "" if fit.offered else clean(fit.cause or "not told", 300)
            cells = (
                Cell(headline(panel), headline(panel), panel.story.job_id, "name"),
                Cell(fit.segment, fit.segment, "", "", f"no fit: {why}" if why else ""),
                absent(why) if why else Cell(" and ".join(_estimate(item, " s") for item in fit.tau_secs)),
                absent(why) if why or fit.steady_c is None else Cell(_estimate(fit.steady_c), fit.steady_c.value),
                absent(why) if why else Cell(fixed(fit.rmse_c, 2), fit.rmse_c),
            )
            rows.append(TableRow(cells))
    return Table("fits", columns, tuple(rows))


def _estimate(found: Estimate, unit: str = "") -> str:
    interval = f" [{number(found.low)}, {number(found.high)}]" if found.low is not None and found.high is not None else ""
    return f"{number(found.value)}{unit}{interval}"


def _class_cell(change: ProbeChange) -> Cell:
    if change.class_before is None or change.class_after is None:
        return absent("the task has no classes, or the same class came with other scores")
    words = f"{change.class_before} → {change.class_after}"
    if change.class_before == change.class_after:
        return Cell(words, words, "", "", "the same, with other scores")
    return Cell(words, words, "", "bad")


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
