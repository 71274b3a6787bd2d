"""Figures: one description, two drawings; labels that can be read; ticks that mean what they say."""

from __future__ import annotations

import re

import pytest

from orchestrator.report.accuracy_charts import forest, glance
from orchestrator.report.figure import Axis, Figure, Line, Point, linear_axis, log_axis, row_axis
from orchestrator.report.labels import place_labels
from orchestrator.report.latency_charts import distributions, stages
from orchestrator.report.panels import Look
from orchestrator.report.plotly_figure import plotly_json
from orchestrator.report.reading import Matrix, read_matrix
from orchestrator.report.svg_figure import svg_text
from tests.unit.report.builders import VARIANTS, experiment


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return read_matrix(experiment())


def test_a_collapse_is_drawn_at_the_edge_with_its_numbers_so_that_the_others_stay_readable(matrix: Matrix) -> None:
    group = forest(matrix, Look(matrix), "digits-cnn")
    assert group is not None
    figure = group.figures[1]
    collapsed = next(point for point in figure.points if point.shape == "triangle-left")
    assert collapsed.text == "−88.3 [−90.4, −86.2]"
    assert collapsed.color == "bad"
    assert figure.x.low > -20
    assert [point for point in figure.points if point.x < figure.x.low] == []


def test_an_interval_that_holds_zero_is_hollow_and_one_that_does_not_is_filled(matrix: Matrix) -> None:
    group = forest(matrix, Look(matrix), "digits-cnn")
    assert group is not None
    for point in group.figures[0].points:
        assert point.x_interval is not None
        assert point.filled == (point.x_interval[1] < 0 or point.x_interval[0] > 0)


def test_the_scatter_draws_every_variant_of_a_place_at_its_median_latency(matrix: Matrix) -> None:
    group = glance(matrix, Look(matrix), "digits-cnn")
    assert group is not None
    assert [len(figure.points) for figure in group.figures] == [len(VARIANTS), len(VARIANTS)]
    reference = next(point for point in group.figures[0].points if point.text == "onnx-fp32")
    assert reference.color == "ink"
    assert reference.x == matrix.rows[0].latency("latency_ms.p50").value


def test_stage_bars_add_up_to_the_mean_of_a_query(matrix: Matrix) -> None:
    group = stages(matrix, Look(matrix), "digits-cnn")
    assert group is not None
    ends: dict[float, float] = {}
    for bar in group.figures[0].bars:
        ends[bar.y] = max(ends.get(bar.y, 0.0), bar.end)
    totals = sorted(row.latency("latency_ms.mean").value or 0.0 for row in matrix.rows if row.place.device.name == "bench-a")
    assert list(ends.values()) == pytest.approx(totals, rel=0.02)


def test_each_repeat_has_its_own_outline(matrix: Matrix) -> None:
    group = distributions(matrix, Look(matrix), "digits-cnn")
    assert group is not None
    assert sum(line.fill for line in group.figures[0].lines) == 3 * len(VARIANTS)


def test_both_drawings_show_the_same_ticks_names_and_texts() -> None:
    x = log_axis("time (ms)", 0.04, 3.0)
    figure = Figure("f", "t", "s", x, row_axis(["first", "second"]), 160, (Point(0.1, 0, "c0", text="near"), Point(1.0, 1, "bad")))
    told = plotly_json(figure)["layout"]
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", svg_text(figure))
    assert set(told["xaxis"]["ticktext"]) | set(told["yaxis"]["ticktext"]) | {"near", "time (ms)"} == set(drawn)


def test_static_drawings_use_colours_shapes_and_text_and_carry_no_identifier_that_could_clash() -> None:
    lines = (Line((1.0, 2.0, 3.0), (0.2, 0.6, 0.2), "c2", fill=True),)
    text = svg_text(Figure("f", "t", "s", linear_axis("x", 0, 4), linear_axis("y", 0, 1), 200, (Point(2.0, 0.5, "c0"),), lines))
    assert set(re.findall(r'id="([^"]*)"', text)) == set(re.findall(r'href="#([^"]*)"', text))
    assert "#009e73" in text
    assert "http" not in text
    assert len(text) < 4000


def test_labels_of_twenty_crowded_points_do_not_cover_each_other() -> None:
    points = [(300.0 + 9 * index, 150.0 + 5 * (index % 4)) for index in range(20)]
    texts = [f"variant-{index:02d}" for index in range(20)]
    placed = place_labels(points, texts, 820, 300)
    boxes = []
    for (x, y), label in zip(points, placed, strict=True):
        left = x + label.dx if label.anchor == "left" else x + label.dx - 10 * 6.2
        boxes.append((left, y + label.dy - 6, left + 10 * 6.2, y + label.dy + 6))
    covered = sum(
        1
        for index, a in enumerate(boxes)
        for b in boxes[index + 1 :]
        if min(a[2], b[2]) - max(a[0], b[0]) > 2 and min(a[3], b[3]) - max(a[1], b[1]) > 2
    )
    assert covered == 0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-88.3, 2.1), (92.0, 100.0), (0.0, 0.00043), (0.0, 1234567.0), (5.0, 5.0), (-0.03, 0.011)]
)
def test_linear_ticks_are_inside_the_axis_increase_and_print_their_value(low: float, high: float) -> None:
    _check_ticks(linear_axis("x", low, high))


@pytest.mark.parametrize(("low", "high"), [(0.04, 0.2), (0.9, 1.1), (0.001, 900.0), (1e-4, 1e6), (2.0, 2.0)])
def test_logarithmic_ticks_are_inside_the_axis_increase_and_print_their_value(low: float, high: float) -> None:
    _check_ticks(log_axis("x", low, high))


def _check_ticks(axis: Axis) -> None:
    values = [value for value, _ in axis.ticks]
    assert values == sorted(set(values))
    assert 1 <= len(values) <= 16
    assert all(axis.low - 1e-9 <= value <= axis.high * (1 + 1e-9) + 1e-9 for value in values)
    for value, text in axis.ticks:
        assert float(text.replace("\u2212", "-").replace("\u202f", "")) == pytest.approx(value, rel=1e-6, abs=1e-12)
