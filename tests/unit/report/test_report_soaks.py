"""Figures of soaks: what they show, what they leave out, and that nothing recorded is lost from them unseen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from agent.protocol import PHASES, QUERIES
from orchestrator.analysis.thermal_run import Series, lay_out
from orchestrator.domain.recipe import QuantityVerdict, RepeatOutcome, Reproduction
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import Estimate, ProbeChange, ProbeRecord, ThermalFit
from orchestrator.report.figure import Figure, Stack
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.plotly_figure import plotly_json
from orchestrator.report.reduce_thermal import CHANNEL_POINTS, LATENCY_BINS, bin_latency, thin
from orchestrator.report.reproduction_chart import reproduction_group
from orchestrator.report.svg_figure import svg_text
from orchestrator.report.thermal_axis import pieces, time_axis
from orchestrator.report.thermal_charts import soak_group, soak_stack
from orchestrator.report.thermal_overlay import MOST_OVERLAID, overlay_group, scatter_group
from orchestrator.report.thermal_page import MOST_DRAWN, left_out_words, render_thermal_page
from orchestrator.report.thermal_picture import NothingToDraw, render_thermal_png
from orchestrator.report.thermal_states import MOST_STRETCHES, states_of
from orchestrator.report.thermal_words import finding, seconds
from tests.unit.report.soaks import SoakCase, laid_out, planned, soak_panel, soak_streams
from tests.unit.report.test_report_page import Page, own_part

CASE = SoakCase(steady_secs=120.0, rise_c=90.0, cooldown_secs=30.0)


@pytest.fixture(scope="module")
def panel() -> ThermalPanel:
    return soak_panel(CASE)


def strip(stack: Stack, key: str) -> Figure:
    return next(figure for figure in stack.figures if figure.key == key)


def test_one_axis_of_time_carries_temperature_clock_power_signs_latency_and_throughput(panel: ThermalPanel) -> None:
    stack = soak_stack(panel)
    assert [figure.key for figure in stack.figures] == ["events", "temperature", "clock", "power", "states", "latency", "rate"]
    assert {figure.x for figure in stack.figures} == {stack.figures[0].x}
    assert stack.figures[0].x.title == "seconds from the first steady query"


def test_the_onset_runs_through_every_figure_and_is_named_with_its_time(panel: ThermalPanel) -> None:
    onset = panel.story.onset
    assert onset is not None
    stack = soak_stack(panel)
    assert all(any(rule.at == onset.at_secs and rule.color == "bad" for rule in figure.rules) for figure in stack.figures)
    assert f"throttled {seconds(onset.at_secs)}" in [note.text for note in stack.figures[0].notes]


def test_limit_and_stated_ambient_are_drawn_beside_the_temperature(panel: ThermalPanel) -> None:
    figure = strip(soak_stack(panel), "temperature")
    assert {note.text for note in figure.notes} == {"limit 80.0 °C", "ambient 23.0 °C"}
    assert {rule.at for rule in figure.rules if rule.axis == "y"} == {80.0, 23.0}


def test_a_limit_far_above_every_reading_does_not_flatten_the_line() -> None:
    figure = strip(soak_stack(soak_panel(replace(CASE, rise_c=10.0, trip_c=110.0))), "temperature")
    assert figure.y.high < 60


def test_a_slow_query_among_thousands_is_in_the_area_of_its_bin() -> None:
    spiked = soak_panel(replace(CASE, rise_c=30.0, spike_at=(50.0,)))
    bins = spiked.series.latency
    assert bins is not None
    highs = [value for value in bins.high_ms if value is not None]
    assert max(highs) == pytest.approx(40, rel=0.1)
    assert bins.time_s[int(np.argmax(highs))] == pytest.approx(50.0, abs=bins.width_s)
    assert max(value for value in bins.mean_ms if value is not None) < 5
    assert "logarithmic" in strip(soak_stack(spiked), "latency").title


def test_every_query_counts_in_the_means_of_the_bins() -> None:
    run = laid_out(CASE)
    bins = bin_latency(run, None, None)
    assert bins is not None
    assert bins.count == run.steady_end.size
    assert len(bins.time_s) <= LATENCY_BINS
    edges = np.linspace(0, run.steady_secs, len(bins.time_s) + 1)
    index = len(bins.time_s) // 2
    inside = (run.steady_end > edges[index]) & (run.steady_end <= edges[index + 1])
    assert bins.mean_ms[index] == pytest.approx(run.steady_invoke_ns[inside].mean() / 1e6, rel=1e-4)
    assert bins.low_ms[index] == pytest.approx(run.steady_invoke_ns[inside].min() / 1e6, rel=1e-4)
    assert bins.high_ms[index] == pytest.approx(run.steady_invoke_ns[inside].max() / 1e6, rel=1e-4)


def test_a_bin_in_which_no_query_ended_is_a_gap_and_not_a_zero() -> None:
    streams, outcome = soak_streams(replace(CASE, rise_c=30.0))
    queries = streams[QUERIES]
    start_s = queries["start_ns"] / 1e9 - CASE.idle_secs
    kept = (start_s < 40) | (start_s > 60)
    streams[QUERIES] = {name: column[kept] for name, column in queries.items()}
    run = lay_out(streams=streams, outcome=outcome, soak=planned(CASE), emulated=Emulation.NONE, complete=True, telemetry_hz=CASE.hertz)
    bins = bin_latency(run, None, None)
    assert bins is not None
    silent = [mean for at, mean in zip(bins.time_s, bins.mean_ms, strict=True) if 42 < at < 58]
    assert silent
    assert set(silent) == {None}
    assert len(pieces(bins.time_s, bins.mean_ms)) == 2


def test_silence_of_the_sensors_breaks_every_line_and_is_shaded_and_named() -> None:
    stack = soak_stack(soak_panel(replace(CASE, silent=((40.0, 55.0),))))
    for key in ("temperature", "clock", "power"):
        for line in strip(stack, key).lines:
            assert not [at for at in line.x if 40.05 < at < 54.95]
            assert not any(a < 41 and b > 54 for a, b in pairwise(line.x))
    assert all(any(band.start == pytest.approx(40, abs=0.2) for band in figure.bands) for figure in stack.figures)
    assert any(note.text.startswith("gap of 15") for note in stack.figures[0].notes)


def test_thinning_keeps_the_extremes_of_each_stretch_and_breaks_between_them() -> None:
    secs = np.concatenate([np.arange(0, 500, 0.1), np.arange(600, 1000, 0.1)])
    value = 50 + np.sin(secs / 40)
    value[1234], value[7000] = 93.5, 11.25
    times, values = thin(Series(secs, value), gap_secs=1.0)
    known = [item for item in values if item is not None]
    assert (max(known), min(known)) == (93.5, 11.25)
    assert values.count(None) == 1
    assert 500 < times[values.index(None)] < 600
    assert len(times) <= CHANNEL_POINTS + 8
    assert list(times) == sorted(times)


def test_hundreds_of_gaps_do_not_turn_a_channel_into_dust() -> None:
    secs = np.concatenate([np.arange(10 * index, 10 * index + 5, 0.1) for index in range(400)])
    times, _ = thin(Series(secs, np.sin(secs)), gap_secs=1.0)
    assert len(times) < 2 * CHANNEL_POINTS


def test_a_flag_that_was_set_for_one_reading_among_many_stays_to_be_seen() -> None:
    secs = np.arange(0, 3600, 0.1)
    rng = np.random.default_rng(3)
    value = (rng.random(secs.size) < 0.3).astype(float)
    value[20_000:30_000] = 0.0
    value[25_000] = 1.0
    (state,) = states_of({"throttled.firmware": Series(secs, value)}, withheld=False)
    assert len(state.stretches) <= MOST_STRETCHES
    assert any(start <= 2500.0 <= end for start, end, _ in state.stretches)


def test_a_device_that_throttles_half_of_the_time_is_not_drawn_as_one_that_always_does() -> None:
    secs = np.arange(0, 600, 0.1)
    value = (np.floor(secs) % 2 == 0).astype(float)
    value[(secs > 200) & (secs < 300)] = 0.0
    kept = (secs < 400) | (secs > 500)
    (state,) = states_of({"throttled.firmware": Series(secs[kept], value[kept])}, withheld=False)
    assert sum(end - start for start, end, share in state.stretches if share == 1.0) < 0.05 * 400
    assert not [start for start, end, _ in state.stretches if start < 280 and end > 220]
    assert not [start for start, end, _ in state.stretches if start < 485 and end > 415]


def test_a_row_of_many_stretches_begins_and_ends_with_its_first_and_last_reading() -> None:
    secs = np.arange(0, 600, 0.1)
    value = ((np.floor(secs) % 2 == 0) & (secs > 83.3) & (secs < 500)).astype(float)
    (state,) = states_of({"throttled.firmware": Series(secs, value)}, withheld=False)
    assert state.stretches[0][0] == pytest.approx(84.0, abs=0.11)
    assert state.stretches[-1][1] == pytest.approx(499.0, abs=0.11)


def test_what_stuck_in_the_flags_since_boot_is_no_sign_of_throttling() -> None:
    secs = np.arange(0, 10, 0.1)
    assert states_of({"sticky.throttled": Series(secs, np.ones(secs.size))}, withheld=False) == ()


def test_a_counter_of_held_back_time_is_drawn_where_it_grows() -> None:
    secs = np.arange(0, 100, 0.1)
    counter = np.maximum(0.0, secs - 60.0) * 0.4
    (state,) = states_of({"cgroup.throttled_secs": Series(secs, counter)}, withheld=False)
    assert state.words == "CPU quota"
    assert state.highest == pytest.approx(0.4)
    assert state.stretches[0][0] == pytest.approx(60.0, abs=0.2)


def test_an_attempt_cut_short_is_marked_and_its_missing_part_shown() -> None:
    cut = soak_panel(replace(CASE, steady_secs=70.0, planned_secs=120.0, complete=False))
    group = soak_group(cut)
    (stack,) = group.figures
    assert isinstance(stack, Stack)
    assert "(incomplete)" in group.heading
    assert "cut short after 70.0\u00a0s of 120\u00a0s" in group.caption
    assert stack.figures[0].x.high == 120.0
    assert "attempt cut short" in [note.text for note in stack.figures[0].notes]
    assert all(any(band.start == pytest.approx(70, abs=0.1) and band.end == 120 for band in figure.bands) for figure in stack.figures)


def test_a_soak_that_ended_itself_says_which_rule_did_it_and_is_not_called_incomplete() -> None:
    stopped = soak_panel(CASE, stopped="safety_temperature")
    group = soak_group(stopped)
    assert "The soak ended itself after 120\u00a0s: the limit for safety was reached, or nobody could read it" in group.caption
    assert "incomplete" not in group.heading + group.caption.lower()


def test_the_finding_names_time_temperature_sign_and_what_was_left_of_the_speed(panel: ThermalPanel) -> None:
    words = finding(panel.story)
    assert words.startswith("Throttled after ")
    assert "°C, shown by the firmware flag; sustained/burst 0." in words
    assert finding(soak_panel(replace(CASE, rise_c=30.0)).story).startswith("Did not throttle in 120\u00a0s; sustained/burst 1.00.")


def test_changed_numbers_are_told_and_marked(panel: ThermalPanel) -> None:
    changes = (ProbeChange(sample=3, first_at_secs=80.0, temperature_c=81.0, rounds=4),)
    probe = ProbeRecord(verdict="changed", samples=16, cold_rounds=5, hot_rounds=20, changes=changes, words="")
    changed = replace(panel, story=panel.story.model_copy(update={"probe": probe}))
    group = soak_group(changed)
    assert "The numbers changed with heat: 1 of 16 probe samples, first after 80.0\u00a0s." in group.caption
    (stack,) = group.figures
    assert isinstance(stack, Stack)
    assert "numbers changed" in [note.text for note in stack.figures[0].notes]
    page = Page(own_part(render_thermal_page([changed], "Heat")))
    assert "changed 1 of 16 samples" in page.rows(0)[0]
    assert page.rows(1)[0][1:5] == ["3", "80.0 s", "81.0", "4"]


def test_a_fit_is_shown_with_its_interval_and_a_refused_one_with_its_cause(panel: ThermalPanel) -> None:
    fit = ThermalFit(
        segment="cooling",
        channel="thermal.cpu-thermal_c",
        start_secs=120.0,
        end_secs=150.0,
        bodies=2,
        tau_secs=(Estimate(value=2.0, low=1.9, high=2.1), Estimate(value=60.0, low=57.0, high=63.0)),
        amplitude_c=(-10.0, -40.0),
        steady_c=Estimate(value=23.4, low=22.9, high=23.9),
        rmse_c=0.11,
        r_squared=0.999,
        offered=True,
    )
    refused = fit.model_copy(update={"segment": "heating", "offered": False, "cause": "the residuals are structured"})
    told = replace(panel, story=panel.story.model_copy(update={"fits": (fit, refused)}))
    drawn = [line for line in strip(soak_stack(told), "temperature").lines if line.hover.startswith("fit")]
    assert [(line.x[0], line.x[-1]) for line in drawn] == [(120.0, 150.0)]
    assert drawn[0].y[0] == pytest.approx(23.4 + 10 + 40)
    offered_row, refused_row = Page(own_part(render_thermal_page([told], "Heat"))).rows(1)
    assert offered_row[1:] == ["cooling", "2.00 s [1.90, 2.10] and 60.0 s [57.0, 63.0]", "23.4 [22.9, 23.9]", "0.11"]
    assert refused_row[1:] == ["heating no fit: the residuals are structured", "–", "–", "–"]


def test_an_emulated_cpu_shows_no_time_clock_or_rate_anywhere() -> None:
    emulated = soak_panel(replace(CASE, emulated=Emulation.CPU))
    keys = {figure.key for figure in soak_stack(emulated).figures}
    assert keys.isdisjoint({"clock", "latency", "rate"})
    assert scatter_group(emulated) is None
    assert "EMULATED" in render_thermal_page([emulated], "Heat")
    assert "withheld" in soak_group(emulated).caption


def test_simulated_surroundings_are_named_in_heading_caption_and_banner() -> None:
    simulated = soak_panel(replace(CASE, emulated=Emulation.ENVIRONMENT))
    group = soak_group(simulated)
    assert "(emulated: environment)" in group.heading
    assert "its surroundings are simulated" in group.caption
    assert "EMULATED" in render_thermal_page([simulated], "Heat")


def test_latency_is_drawn_against_temperature_and_clock_and_turns_where_it_throttled(panel: ThermalPanel) -> None:
    group = scatter_group(panel)
    assert group is not None
    temperature, clock = group.figures
    assert isinstance(temperature, Figure)
    assert isinstance(clock, Figure)
    hot = [point for point in temperature.points if point.color == "bad"]
    assert hot
    assert min(point.x for point in hot) > 70
    assert min(point.x for point in clock.points) < 90


def test_soaks_overlaid_have_a_colour_each_and_the_finding_counts_those_that_throttled() -> None:
    panels = [soak_panel(CASE, "car-7"), soak_panel(replace(CASE, rise_c=40.0), "car-8")]
    group = overlay_group(panels)
    assert group is not None
    assert group.caption.startswith("1 of 2 soaks throttled: onnx-u8s8 on car-7 after ")
    assert [color for color, _ in group.legend] == ["c0", "c1"]
    (stack,) = group.figures
    assert isinstance(stack, Stack)
    for figure in stack.figures:
        assert {line.color for line in figure.lines} == {"c0", "c1"}
    assert overlay_group(panels[:1]) is None


def test_soaks_beyond_what_one_figure_holds_are_counted(panel: ThermalPanel) -> None:
    many = [panel] * (MOST_OVERLAID + 2)
    group = overlay_group(many)
    assert group is not None
    assert "2 further soaks are not drawn." in group.caption
    assert left_out_words(many) == f"{len(many) - MOST_DRAWN} further soaks without a figure of their own."


def test_both_drawings_of_a_stack_show_the_same_ticks_titles_legends_and_notes(panel: ThermalPanel) -> None:
    stack = soak_stack(panel)
    drawn = svg_text(stack)
    layout = plotly_json(stack)["layout"]
    for text in [note["text"] for note in layout["annotations"]]:
        assert f">{text}</text>" in drawn, text
    for name, axis in layout.items():
        if name.startswith("yaxis"):
            assert all(f">{text}</text>" in drawn for text in axis["ticktext"]), name
    assert [f">{text}</text>" in drawn for text in layout["xaxis"]["ticktext"]].count(False) == 0


def test_the_strips_of_a_stack_do_not_overlap_and_fill_the_height(panel: ThermalPanel) -> None:
    stack = soak_stack(panel)
    layout = plotly_json(stack)["layout"]
    domains = [layout["yaxis" if index == 0 else f"yaxis{index + 1}"]["domain"] for index in range(len(stack.figures))]
    for above, below in pairwise(domains):
        assert below[1] < above[0]
    assert domains[-1][0] < 0.02
    assert layout["height"] == stack.height_px


def test_a_figure_of_a_soak_takes_no_more_than_its_share_of_a_report() -> None:
    long = soak_panel(replace(CASE, steady_secs=600.0, silent=((100.0, 130.0),)))
    group, scattered = soak_group(long), scatter_group(long)
    assert scattered is not None
    figures = [*group.figures, *scattered.figures]
    size = sum(len(json.dumps(plotly_json(figure))) + len(svg_text(figure)) for figure in figures)
    assert size < 120_000


def test_a_picture_is_a_png_of_twice_the_density(panel: ThermalPanel) -> None:
    picture = render_thermal_png([panel], "Heat")
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") == 2400
    assert render_thermal_png([panel], "Heat") == picture
    with pytest.raises(NothingToDraw):
        render_thermal_png([])


def test_a_channel_with_a_hostile_name_stays_text() -> None:
    hostile = "thermal.<b>%{x}$x^2$_c"
    streams, outcome = soak_streams(CASE)
    outcome.sensors[0] = replace(outcome.sensors[0], name=hostile)
    run = lay_out(streams=streams, outcome=outcome, soak=planned(CASE), emulated=Emulation.NONE, complete=True, telemetry_hz=CASE.hertz)
    told = soak_panel(CASE)
    line = replace(told.series.temperatures[0], name=hostile)
    text = render_thermal_page([replace(told, series=replace(told.series, temperatures=(line,)))], "<script>alert(1)</script>")
    assert run.channels[hostile].secs.size
    assert "<b>%" not in text
    assert "<script>alert(1)" not in text
    hovers = re.findall(r'"hovertemplate":"([^"]*)"', text)
    assert any("x^2" in hover for hover in hovers)
    assert not any("%{x}$" in hover for hover in hovers)


@pytest.mark.parametrize(("length", "unit"), [(90.0, "seconds"), (900.0, "minutes"), (200_000.0, "hours")])
def test_time_is_told_in_the_unit_its_length_asks_for(length: float, unit: str) -> None:
    axis = time_axis(-10.0, length)
    assert axis.title.startswith(unit)
    assert (axis.low, axis.high) == (pytest.approx(-10.0), pytest.approx(length))
    assert 3 <= len(axis.ticks) <= 12


def test_a_soak_without_any_sensor_still_shows_its_latency() -> None:
    streams, outcome = soak_streams(CASE)
    blind = {QUERIES: streams[QUERIES]}
    run = lay_out(
        streams=blind, outcome=replace(outcome, sensors=[]), soak=planned(CASE), emulated=Emulation.NONE, complete=True, telemetry_hz=0.0
    )
    bins = bin_latency(run, None, None)
    assert bins is not None
    assert set(bins.temperature_c) == {None}


def test_a_run_lost_before_its_first_steady_query_has_no_bins() -> None:
    streams, outcome = soak_streams(CASE)
    before = streams[QUERIES]["phase"] != PHASES.index("steady")
    none = {QUERIES: {name: column[before] for name, column in streams[QUERIES].items()}}
    run = lay_out(streams=none, outcome=outcome, soak=planned(CASE), emulated=Emulation.NONE, complete=False, telemetry_hz=CASE.hertz)
    assert bin_latency(run, None, None) is None


def reproduction(verdict: str = "not reproduced") -> Reproduction:
    values = [{"time_to_throttle_secs": 93.0, "sustained_burst": 0.61}, {"time_to_throttle_secs": 150.0, "sustained_burst": 0.62}]
    return Reproduction.model_validate(
        {
            "verdict": verdict,
            "reasons": ("ambient 33.0 °C instead of 23.0 °C",),
            "quantities": (
                QuantityVerdict(
                    name="time_to_throttle_secs",
                    unit="s",
                    expected=94.0,
                    tolerance_low=84.0,
                    tolerance_high=104.0,
                    observed=Estimate(value=121.5, low=60.0, high=180.0),
                    repeats=2,
                    verdict="not reproduced",
                    words="outside",
                ),
                QuantityVerdict(
                    name="sustained_burst",
                    unit="",
                    expected=0.61,
                    tolerance_low=0.58,
                    tolerance_high=0.64,
                    observed=Estimate(value=0.615, low=0.6, high=0.63),
                    repeats=2,
                    verdict="reproduced",
                    words="inside",
                ),
                QuantityVerdict(
                    name="heating_tau_secs",
                    unit="s",
                    expected=None,
                    tolerance_low=None,
                    tolerance_high=None,
                    observed=None,
                    repeats=0,
                    verdict="undetermined",
                    words="no fit",
                ),
            ),
            "repeats": tuple(
                RepeatOutcome(job_id=f"job-{index}", verdict="undetermined", values=item) for index, item in enumerate(values)
            ),
        }
    )


def test_repeats_stand_in_units_of_their_tolerance_and_those_far_out_stand_at_the_edge() -> None:
    group = reproduction_group(reproduction())
    assert group is not None
    (figure,) = group.figures
    assert isinstance(figure, Figure)
    assert [text for _, text in figure.y.ticks] == ["time to throttle (94.0 s)", "sustained burst (0.610)"]
    assert {(bar.start, bar.end) for bar in figure.bars} == {(-1.0, 1.0)}
    near = next(point for point in figure.points if point.shape == "circle" and point.y < 0.5)
    assert near.x == pytest.approx(-0.1)
    far = next(point for point in figure.points if point.shape == "triangle-right")
    assert "150.0 s" in far.hover
    assert far.text == "150 s"
    assert far.color == "bad"


def test_a_mean_far_outside_is_not_left_out_but_stands_at_the_edge() -> None:
    found = reproduction()
    first = found.quantities[0].model_copy(update={"observed": Estimate(value=190.0, low=180.0, high=200.0)})
    group = reproduction_group(found.model_copy(update={"quantities": (first, *found.quantities[1:])}))
    assert group is not None
    (figure,) = group.figures
    assert isinstance(figure, Figure)
    assert "mean 190 s" in [point.text for point in figure.points]


def test_the_caption_of_a_reproduction_gives_verdict_quantities_and_reasons() -> None:
    group = reproduction_group(reproduction())
    assert group is not None
    assert group.caption.startswith("Not reproduced in 2 repeats: time to throttle outside the tolerance.")
    assert "ambient 33.0 °C instead of 23.0 °C" in group.caption
    assert "time to throttle" in render_thermal_page([], "Repeats", reproduction())
