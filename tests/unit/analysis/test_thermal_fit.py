import dataclasses

import numpy as np
import pytest

from orchestrator.analysis.thermal import predict
from orchestrator.analysis.thermal_predict import heating_of, predict_from
from orchestrator.analysis.thermal_run import Series
from orchestrator.analysis.thermal_segments import fit_part
from orchestrator.domain.soak import Pattern
from orchestrator.domain.thermal import ThermalFit, ThermalStory
from tests.unit.analysis.soaks import Bench, Board, Soak, make_soak, replace_soak

BOARD = Board()
#: How near an offered time constant must be to the true one.
NEAR = 0.10


def _fit(story: ThermalStory, segment: str) -> ThermalFit:
    return next(fit for fit in story.fits if fit.segment == segment)


def _heating(board: Board, span: float, hertz: float, quantum_c: float, noise_c: float, seed: int) -> Series:
    """Readings of a board from rest under constant load, with a phase of the sensor's steps that the seed decides."""
    rng = np.random.default_rng(seed)
    board = dataclasses.replace(board, ambient_c=board.ambient_c + rng.uniform(0, quantum_c), load_w=rng.uniform(3, 6))
    rates, modes = np.linalg.eig(board.matrix)
    rest, hot = board.at_rest(board.idle_w), board.at_rest(board.idle_w + board.load_w)
    secs = np.arange(0, span, 1 / hertz)
    celsius = hot[0] + (modes[0] * np.linalg.solve(modes, rest - hot) * np.exp(np.outer(secs, rates))).sum(axis=1)
    return Series(secs, np.round((celsius + rng.normal(0, noise_c, secs.size)) / quantum_c) * quantum_c)


@pytest.mark.parametrize(("quantum_c", "noise_c"), [(0.1, 0.0), (0.1, 0.3), (0.5, 0.05), (1.0, 0.0), (1.0, 0.2)])
@pytest.mark.parametrize("span", [70, 120, 250])
def test_what_a_fit_offers_is_near_the_truth_however_coarse_and_noisy_the_sensor(span: float, quantum_c: float, noise_c: float) -> None:
    offered = 0
    for seed in range(6):
        fit, doubt, _ = fit_part(_heating(BOARD, span, 10, quantum_c, noise_c, seed))
        if doubt is None:
            assert fit is not None
            offered += 1
            assert fit.taus[-1] == pytest.approx(BOARD.taus[1], rel=NEAR)
            if fit.bodies == 2:
                assert fit.taus[0] == pytest.approx(BOARD.taus[0], rel=NEAR)
    # A rule that refuses everything would be near the truth, too.
    assert offered >= 4


@pytest.mark.parametrize("span", [10, 20, 40])
def test_a_segment_shorter_than_its_slowest_time_constant_is_refused(span: float) -> None:
    for seed in range(6):
        _, doubt, _ = fit_part(_heating(BOARD, span, 10, 0.1, 0.1, seed), "before it throttled")
        assert doubt is not None
    assert "before it throttled" in doubt


def test_a_fast_body_that_the_sampling_cannot_follow_is_left_out_and_the_slow_one_is_still_told() -> None:
    told = 0
    for seed in range(6):
        fit, doubt, part = fit_part(_heating(BOARD, 250, 1, 0.1, 0.1, seed))
        if doubt is None:
            assert fit is not None
            told += 1
            assert fit.bodies == 1
            assert part.secs[0] > 3 * BOARD.taus[0]
            assert fit.taus[0] == pytest.approx(BOARD.taus[1], rel=NEAR)
    assert told >= 4


def test_a_fast_body_that_is_not_known_and_has_not_died_away_by_the_end_is_refused() -> None:
    secs = np.arange(0, 120, 0.5)
    noise = np.random.default_rng(0).normal(0, 0.03, secs.size)
    celsius = 80 - 5 * np.exp(-secs / 22) - 30 * np.exp(-secs / 90) + noise
    fit, doubt, part = fit_part(Series(secs, np.round(celsius, 1)))
    assert fit is not None
    assert doubt is not None
    assert "faster time constant" in doubt
    assert part.secs.size == secs.size


def test_one_body_is_not_taken_for_two() -> None:
    secs = np.arange(0, 200, 0.1)
    celsius = 90 - 50 * np.exp(-secs / 40) + np.random.default_rng(5).normal(0, 0.1, secs.size)
    fit, doubt, _ = fit_part(Series(secs, np.round(celsius, 1)))
    assert doubt is None
    assert fit is not None
    assert fit.bodies == 1
    assert fit.taus[0] == pytest.approx(40, rel=0.02)
    assert fit.steady == pytest.approx(90, abs=0.2)


def test_a_load_that_wavers_is_allowed_for_where_it_was_measured_and_refused_where_it_was_not() -> None:
    rng, step = np.random.default_rng(3), 0.1
    secs = np.arange(0, 200, step)
    load = np.clip(1 - 0.5 * (np.sin(secs / 3) > 0.6) - np.abs(rng.normal(0, 0.05, secs.size)), 0, 1)
    celsius = np.zeros(secs.size)
    for tau, gain in ((2.0, 12.0), (60.0, 45.0)):
        body = 0.0
        for index in range(1, secs.size):
            body += (gain * load[index - 1] - body) * (1 - np.exp(-step / tau))
            celsius[index] += body
    readings = Series(secs, np.round(35 + celsius, 1))
    worked = Series(secs, np.concatenate([[0.0], np.cumsum(load * step)])[:-1])
    fit, doubt, _ = fit_part(readings, loads=[worked])
    assert doubt is None
    assert fit is not None
    assert fit.taus == pytest.approx([2, 60], rel=0.03)
    _, doubt, _ = fit_part(readings)
    assert doubt is not None


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        (np.full(500, 40.0), "changed by 0.0 °C"),
        (np.linspace(40, 60, 20), "there are 20 readings"),
        (np.repeat([40.0, 45.0, 50.0, 52.0], 100), "too coarse"),
        (50 + 10 * np.sin(np.arange(500) / 20), "explains"),
    ],
)
def test_readings_that_are_no_heating_are_refused_in_words(readings: np.ndarray, words: str) -> None:
    _, doubt, _ = fit_part(Series(np.arange(readings.size) * 0.1, readings))
    assert doubt is not None
    assert words in doubt


def test_a_soak_that_throttles_is_fitted_before_it_does_and_in_its_cool_down() -> None:
    soak = make_soak(Bench(board=Board(trip_c=85.0), duration=200.0))
    story = soak.tell()
    assert soak.trip_secs is not None
    heating, cooling = _fit(story, "heating"), _fit(story, "cooling")
    assert heating.offered
    assert cooling.offered
    assert heating.end_secs < soak.trip_secs
    assert cooling.start_secs >= 200
    for fit in (heating, cooling):
        assert fit.bodies == 2
        assert [tau.value for tau in fit.tau_secs] == pytest.approx(BOARD.taus, rel=0.03)
    assert heating.steady_c is not None
    assert heating.steady_c.value == pytest.approx(BOARD.steady_c(), abs=0.5)
    metric = story.scalar("heating_tau_secs")
    assert metric is not None
    assert metric.value == heating.tau_secs[1].value


def test_a_soak_that_throttled_too_soon_offers_no_heating_and_predicts_nothing() -> None:
    story = make_soak(Bench(board=Board(trip_c=60.0), duration=120.0)).tell(limit_c=60.0)
    heating = _fit(story, "heating")
    assert not heating.offered
    assert heating.cause is not None
    assert story.predictions == ()
    assert predict(story, 30.0) is None
    metric = story.scalar("heating_tau_secs")
    assert metric is not None
    assert (metric.value, metric.cause) == (None, heating.cause)


@pytest.mark.parametrize("pattern", [{"duty_cycle": {"on_secs": 5, "off_secs": 5}}, {"thermal_cycle": {"low_c": 40, "high_c": 60}}])
def test_a_load_that_rests_in_between_is_not_fitted(pattern: dict) -> None:
    soak = make_soak(Bench(duration=150, cooldown=100))
    settings = soak.settings.model_copy(update={"pattern": Pattern.model_validate(pattern)})
    heating = _fit(replace_soak(soak, settings=settings).tell(), "heating")
    assert (heating.offered, heating.bodies, heating.tau_secs) == (False, None, ())
    assert "rests in between" in (heating.cause or "")


def test_a_fan_that_changes_its_step_cuts_the_segment() -> None:
    soak = make_soak(Bench(duration=200, cooldown=100))
    soak.change_channel("cooling.pwm_fan_level", 20, 999, lambda value: value + 1)
    heating = _fit(soak.tell(), "heating")
    assert heating.start_secs == pytest.approx(20, abs=0.2)
    assert heating.tau_secs[-1].value == pytest.approx(BOARD.taus[1], rel=NEAR)


@pytest.fixture(scope="module")
def hot() -> tuple[Soak, ThermalStory]:
    soak = make_soak(Bench(board=Board(trip_c=85.0), duration=200.0))
    return soak, soak.tell()


@pytest.mark.parametrize("ambient_c", [20.0, 30.0, 40.0])
def test_the_time_to_throttle_at_another_ambient_is_predicted_within_some_percent(hot: tuple[Soak, ThermalStory], ambient_c: float) -> None:
    prediction = predict(hot[1], ambient_c)
    truth = make_soak(Bench(board=Board(trip_c=85.0, ambient_c=ambient_c), duration=300.0)).trip_secs
    assert prediction is not None
    assert truth is not None
    assert prediction.at_secs is not None
    assert prediction.at_secs.value == pytest.approx(truth, rel=0.02)
    assert prediction.at_secs.low is not None
    assert prediction.at_secs.high is not None
    assert prediction.at_secs.low <= prediction.at_secs.value <= prediction.at_secs.high


def test_at_its_own_ambient_the_prediction_is_what_was_measured(hot: tuple[Soak, ThermalStory]) -> None:
    story = hot[1]
    assert story.onset is not None
    assert story.predictions[0].ambient_c == 25
    assert story.predictions[0].at_secs is not None
    assert story.predictions[0].at_secs.value == pytest.approx(story.onset.at_secs, abs=0.2)


def test_a_limit_above_where_the_heating_ends_is_never_reached(hot: tuple[Soak, ThermalStory]) -> None:
    prediction = predict(hot[1], 25.0, limit_c=BOARD.steady_c() + 1)
    assert prediction is not None
    assert (prediction.reaches, prediction.at_secs) == (False, None)
    assert "does not reach" in prediction.words
    warmer = predict(hot[1], 27.0, limit_c=BOARD.steady_c() + 1)
    assert warmer is not None
    assert warmer.reaches


def test_a_recipes_fit_predicts_the_same_as_the_story_it_came_from(hot: tuple[Soak, ThermalStory]) -> None:
    fit, limit_c = heating_of(hot[1])
    assert fit is not None
    assert limit_c == pytest.approx(85, abs=0.3)
    told, again = predict(hot[1], 33.0), predict_from(fit, 25.0, 33.0, limit_c or 0)
    assert told is not None
    assert again is not None
    assert told.at_secs is not None
    assert again.at_secs is not None
    assert again.at_secs.value == pytest.approx(told.at_secs.value)


def test_without_a_known_ambient_nothing_is_predicted(hot: tuple[Soak, ThermalStory]) -> None:
    soak = hot[0]
    story = replace_soak(soak, settings=soak.settings.model_copy(update={"ambient": None})).tell()
    assert predict(story, 30.0) is None


def test_a_limit_that_was_passed_before_the_fit_begins_is_known_to_that_time_only() -> None:
    story = make_soak(Bench(duration=200.0, hertz=1.0)).tell()
    heating = _fit(story, "heating")
    assert heating.offered
    assert heating.start_secs > 5
    prediction = predict(story, 25.0, limit_c=38.0)
    assert prediction is not None
    assert prediction.at_secs is not None
    assert (prediction.at_secs.low, prediction.at_secs.high) == (0, heating.start_secs)
