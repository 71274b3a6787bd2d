"""The tables of measurements: the matrix, the times, where accuracy is lost, and the same file in different places."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.analysis.metric_names import METRICS
from orchestrator.domain.results import Metric
from orchestrator.domain.states import Scenario, Validity
from orchestrator.report.judgement import Change, change_of, compared_row, why_undetermined
from orchestrator.report.reading import Matrix, Row
from orchestrator.report.table import Cell, Column, Table, TableRow, absent, latency_cell, name_cell, place_cell
from orchestrator.report.words import clean, counted, fixed, listed, number, p_value, whole

#: Rows of the table of worst classes and slices, and how many of them one variant in one place may take.
WORST_SLICES = 12
WORST_SLICES_EACH = 3
#: Places that fit side by side into one line of the page.
MOST_PLACES = 8

_LOOK = {Change.COLLAPSED: "bad", Change.WORSE: "warn"}


def matrix_table(matrix: Matrix, model: str) -> Table:
    """Variant × place: is it right, what changed, how fast, and may it be trusted."""
    accuracy = (
        Column(f"{matrix.of(model)[0].quality.title} [95 %]", "with its 95 % interval", True),
        Column("Δ reference", "difference to the reference variant in the same place, 95 % interval paired by sample", True),
        Column("Flips lost / won", "samples that went from right to wrong / from wrong to right", True),
    )
    columns = (
        Column("Variant"),
        Column("Place", "device, and what else varies"),
        *(accuracy if asks_for(matrix, model, Scenario.ACCURACY) else ()),
        *(Column(f"{name} ms", METRICS[f"latency_ms.{name}"].meaning, True) for name in _percentiles(matrix, model)),
        *((Column("Sustained/burst", METRICS["sustained_burst"].meaning, True),) if asks_for(matrix, model, Scenario.SOAK) else ()),
        Column("Validity", "the worst level among the jobs of the cell"),
    )
    return Table(f"matrix-{model}", columns, tuple(_matrix_row(matrix, row) for row in matrix.of(model)))


def places_table(matrix: Matrix, model: str) -> Table | None:
    """One line for each variant with its accuracy in every place side by side.

    None where there is one place, or too many for a line, or where no accuracy was asked for.
    """
    rows = matrix.of(model)
    places = {row.place.key: row.place for row in rows}
    if not 2 <= len(places) <= MOST_PLACES or not asks_for(matrix, model, Scenario.ACCURACY):
        return None
    found = {(row.variant.name, key): row for row in rows for key in [row.place.key]}
    variants = {row.variant.name: row for row in reversed(rows)}
    columns = (Column("Variant"), *(Column(place.label, "", True) for place in places.values()))
    lines = []
    for name in reversed(variants):
        cells = [_place_accuracy_cell(found.get((name, key))) for key in places]
        lines.append(TableRow((name_cell(variants[name]), *cells)))
    return Table(f"places-{model}", columns, tuple(lines))


def asks_for(matrix: Matrix, model: str, scenario: Scenario) -> bool:
    """Whether any job of the model was of that scenario, whatever became of it."""
    return any(job.job.scenario is scenario for row in matrix.of(model) for job in row.jobs)


def timing_table(matrix: Matrix, model: str) -> Table:
    """Load, first query, warm-up and steady state apart, and what they cost in memory."""
    names = (
        ("init_ms", "Load ms"),
        ("first_ms", "First ms"),
        ("warmup_ms.mean", "Warm-up ms"),
        ("latency_ms.mean", "Steady ms"),
        ("throughput_qps", "Queries/s"),
        ("cv_percent", "CV %"),
        ("peak_rss_mb", "Peak MB"),
    )
    columns = (Column("Variant"), Column("Place"), *(Column(title, METRICS[name].meaning, True) for name, title in names))
    rows = [row for row in matrix.of(model) if row.measured(Scenario.LATENCY)]
    return Table(
        f"timing-{model}",
        columns,
        tuple(TableRow((name_cell(row), place_cell(row), *(latency_cell(row.latency(name)) for name, _ in names))) for row in rows),
    )


def slices_table(matrix: Matrix, model: str) -> Table:
    """The classes and slices that lost most against the reference's same group in the same place."""
    columns = (
        Column("Variant"),
        Column("Place"),
        Column("Class or slice"),
        Column("Accuracy [95 %]", "of the samples of this group", True),
        Column("Reference", "the reference variant on the same samples", True),
        Column("Δ", "difference of the two, not paired", True),
        Column("Samples", "", True),
    )
    found = []
    for row in matrix.of(model):
        reference = matrix.reference_of(row)
        if row.variant.reference or reference is None:
            continue
        pairs = []
        for name in (*row.metric_names("accuracy.class."), *row.metric_names("accuracy.slice."), *row.metric_names("auc.slice.")):
            here, there = row.slice_metric(name), reference.slice_metric(name)
            if here is not None and there is not None and here.value is not None and there.value is not None and here.value < there.value:
                pairs.append((here.value - there.value, name, here, there))
        found += [(row, *pair) for pair in sorted(pairs, key=lambda pair: pair[:2])[:WORST_SLICES_EACH]]
    worst = sorted(found, key=lambda item: item[1])[:WORST_SLICES]
    return Table(f"slices-{model}", columns, tuple(_slice_row(*item) for item in worst))


def elsewhere_table(matrix: Matrix) -> Table:
    """The same file in two places: does it answer the same?"""
    columns = (
        Column("Variant"),
        Column("Here"),
        Column("Against"),
        Column("Bit-exact", "share of samples whose outputs are equal to the last bit", True),
        Column("Same class", "share of samples with the same top class", True),
        Column("Flips lost / won", "samples right there and wrong here / wrong there and right here", True),
        Column("Δ", "here minus there, 95 % interval", True),
    )
    rows = []
    for row, other, item in matrix.elsewhere:
        difference, low, high = row.quality.difference(item)
        cause = clean(item.cause or "not known")
        share = [
            Cell(f"{fixed(100 * value)} %", value, f"of {counted(item.sample_count, 'sample')}") if value is not None else absent(cause)
            for value in (item.bit_exact_share, item.agreement)
        ]
        flips = (
            absent(cause)
            if item.flips_to_wrong is None or item.flips_to_right is None
            else Cell(f"{whole(item.flips_to_wrong)} / {whole(item.flips_to_right)}", float(item.flips_to_wrong))
        )
        change = (
            absent(cause)
            if difference is None
            else Cell(
                row.quality.signed(difference),
                difference,
                "",
                "bad" if high is not None and high < 0 else "",
                f"[{row.quality.signed(low)}, {row.quality.signed(high)}]",
            )
        )
        rows.append(TableRow((name_cell(row), place_cell(row), Cell(other.place.label, other.place.label), *share, flips, change)))
    return Table("elsewhere", columns, tuple(rows))


def _percentiles(matrix: Matrix, model: str) -> tuple[str, ...]:
    return ("p50", "p90", "p99") if asks_for(matrix, model, Scenario.LATENCY) else ()


def _place_accuracy_cell(row: Row | None) -> Cell:
    if row is None:
        return absent("not in the matrix")
    cell = _accuracy_cell(row)
    return cell if cell.sort is None else replace(cell, kind=_LOOK.get(change_of(row), ""), small="")


def _matrix_row(matrix: Matrix, row: Row) -> TableRow:
    change = change_of(row)
    bad = _LOOK.get(change, "")
    small = " · ".join(
        word
        for word in (clean(row.variant.runtime, 20), clean(row.variant.precision, 30), "reference" if row.variant.reference else "")
        if word
    )
    accuracy = (_accuracy_cell(row), _difference_cell(matrix, row, bad), _flips_cell(row))
    cells = (
        Cell(row.name, row.name, clean(row.variant.quantization, 200), "name", small),
        place_cell(row),
        *(accuracy if asks_for(matrix, row.model, Scenario.ACCURACY) else ()),
        *(latency_cell(row.latency(f"latency_ms.{name}")) for name in _percentiles(matrix, row.model)),
        *((_sustained_cell(row),) if asks_for(matrix, row.model, Scenario.SOAK) else ()),
        _validity_cell(row),
    )
    return TableRow(cells, f"{bad} reference".strip() if row.variant.reference else bad)


def _accuracy_cell(row: Row) -> Cell:
    metric = row.accuracy
    if metric is None:
        return absent("the accuracy of this variant was not measured here")
    if metric.value is None:
        return absent(clean(metric.cause or "not computed"))
    quality = row.quality
    interval = f"[{quality.text(metric.low)}, {quality.text(metric.high)}]" if metric.low is not None and metric.high is not None else ""
    title = f"{counted(metric.count, 'sample')}" if metric.count is not None else ""
    return Cell(f"{quality.text(metric.value)} {quality.unit}".strip(), metric.value, title, "", interval)


def _difference_cell(matrix: Matrix, row: Row, bad: str) -> Cell:
    change = change_of(row)
    if change is Change.REFERENCE:
        return Cell("reference", 0.0, "", "absent")
    if change is Change.UNDETERMINED or row.comparison is None:
        return Cell("undetermined", None, why_undetermined(matrix, row), "absent")
    comparison, quality = row.comparison, row.quality
    difference, low, high = quality.difference(comparison)
    extras = []
    reference = compared_row(matrix, row)
    if reference is not None and not reference.place.matches(row.place):
        extras.append(f"against the reference on {reference.place.label}: it was not measured here")
    if comparison.mcnemar_p is not None:
        extras.append(f"McNemar p {p_value(comparison.mcnemar_p)}")
    if comparison.agreement is not None:
        extras.append(f"same top class in {fixed(100 * comparison.agreement)} %")
    if comparison.bit_exact_share is not None:
        extras.append(f"bit-exact in {fixed(100 * comparison.bit_exact_share)} %")
    return Cell(quality.signed(difference), difference, ", ".join(extras), bad, f"[{quality.signed(low)}, {quality.signed(high)}]")


def _flips_cell(row: Row) -> Cell:
    comparison = row.comparison
    if row.variant.reference:
        return absent("the reference is not compared with itself")
    if comparison is None or comparison.flips_to_wrong is None or comparison.flips_to_right is None:
        return absent("not known: no comparison sample by sample with labels")
    worse, better = comparison.flips_to_wrong, comparison.flips_to_right
    return Cell(f"{whole(worse)} / {whole(better)}", float(worse), f"of {counted(comparison.sample_count, 'sample')}")


def _sustained_cell(row: Row) -> Cell:
    """What is left of the speed under sustained load, and when the device began to throttle."""
    kept, onset = row.soak("sustained_burst"), row.soak("time_to_throttle_secs")
    small = f"throttled after {number(onset.value)} s" if onset.value is not None else ""
    return replace(latency_cell(kept), text=fixed(kept.value, 2), small=small)


def _validity_cell(row: Row) -> Cell:
    if row.level is None:
        return absent("nothing was measured")
    kind = {Validity.VALID: "", Validity.SEMIVALID: "warn", Validity.INVALID: "bad"}[row.level]
    words = listed([clean(reason.code, 60).replace("_", " ") for reason in row.reasons], 3)
    return Cell(str(row.level), str(row.level), "; ".join(clean(reason.message, 300) for reason in row.reasons), kind, words)


def _slice_row(row: Row, difference: float, name: str, here: Metric, there: Metric) -> TableRow:
    quality = row.quality
    kind, _, group = name.partition(".")[2].partition(".")
    interval = f"[{quality.text(here.low)}, {quality.text(here.high)}]" if here.low is not None and here.high is not None else ""
    clear = here.high is not None and there.low is not None and here.high < there.low
    return TableRow(
        (
            name_cell(row),
            place_cell(row),
            Cell(clean(group, 80), clean(group, 80), "", "", clean(kind, 20)),
            Cell(f"{quality.text(here.value)} {quality.unit}".strip(), here.value, "", "", interval),
            Cell(f"{quality.text(there.value)} {quality.unit}".strip(), there.value),
            Cell(
                quality.signed(difference * quality.factor),
                difference,
                "the two intervals do not overlap" if clear else "",
                "bad" if clear else "",
            ),
            Cell(whole(here.count), float(here.count)) if here.count is not None else absent("not recorded"),
        )
    )
