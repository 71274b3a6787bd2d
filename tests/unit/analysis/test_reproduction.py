import dataclasses
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from orchestrator.analysis.reproduction import Repeat, expectations, judge, unit_spread
from orchestrator.analysis.thermal_predict import heating_of
from orchestrator.domain.recipe import QuantityVerdict, Recipe, RecipeConditions, Reproduction
from orchestrator.domain.soak import SoakScenario, StartGate
from orchestrator.domain.thermal import ThermalStory
from tests.unit.analysis.soaks import Bench, Board, make_soak

CONDITIONS = RecipeConditions(
    device="pi-1", profile="pi4", ambient_c=25.0, start_c=37.0, fan="standing still", power_mode=None, firmware="7a"
)


@cache
def _story(trip_c: float = 85.0, ambient_c: float = 25.0, seed: int = 0, base_ms: float = 5.0, changed: bool = False) -> ThermalStory:
    soak = make_soak(Bench(board=Board(trip_c=trip_c, ambient_c=ambient_c), duration=200.0, noise_c=0.1, seed=seed, base_ms=base_ms))
    if changed:
        probes = soak.streams["probes"]
        probes["digest"][(probes["sample"] == 1) & (probes["round"] > 10)] ^= np.uint64(1)
    return soak.tell()


def _recipe(story: ThermalStory | None = None) -> Recipe:
    story = story or _story()
    fit, limit_c = heating_of(story)
    return Recipe(
        from_job="j",
        made_utc="2026-01-01T00:00:00Z",
        edgematrix_version="0",
        spec="",
        files=(),
        soak=SoakScenario(),
        conditions=CONDITIONS,
        throttled=story.throttled,
        expectations=expectations(story),
        heating=fit,
        limit_c=limit_c,
    )


def _repeats(stories: Sequence[ThermalStory], **conditions: object) -> list[Repeat]:
    there = CONDITIONS.model_copy(update=conditions)
    return [Repeat(f"job-{index}", story, there) for index, story in enumerate(stories)]


def _again(count: int = 5, **board: float) -> list[ThermalStory]:
    """The same soak on other days: no two are alike to the last digit."""
    return [
        _story(trip_c=board.get("trip_c", 85.0) + 0.05 * seed, ambient_c=board.get("ambient_c", 25.0), seed=seed) for seed in range(count)
    ]


def _quantity(found: Reproduction, name: str) -> QuantityVerdict:
    return next(quantity for quantity in found.quantities if quantity.name == name)


def test_the_same_soak_five_times_more_is_reproduced_in_every_quantity() -> None:
    found = judge(_recipe(), _repeats(_again()))
    assert found.verdict == "reproduced"
    assert {quantity.verdict for quantity in found.quantities} == {"reproduced"}
    assert [repeat.verdict for repeat in found.repeats] == ["reproduced"] * 5
    assert (found.reasons, found.predictions) == ((), ())


def test_the_interval_is_that_of_the_mean_over_jobs() -> None:
    quantity = _quantity(judge(_recipe(), _repeats(_again())), "time_to_throttle_secs")
    values = [story.onset.at_secs for story in _again() if story.onset]
    assert quantity.observed is not None
    assert quantity.observed.value == pytest.approx(np.mean(values))
    # t(0.975, 4 degrees of freedom) = 2.776
    assert quantity.observed.high == pytest.approx(np.mean(values) + 2.776 * np.std(values, ddof=1) / 5**0.5, rel=1e-3)


def test_at_another_ambient_it_is_not_reproduced_and_ambient_is_the_reason() -> None:
    found = judge(_recipe(), _repeats(_again(ambient_c=35.0), ambient_c=35.0, start_c=47.0))
    assert found.verdict == "not reproduced"
    assert _quantity(found, "time_to_throttle_secs").verdict == "not reproduced"
    assert found.reasons[0] == "ambient: 35.0 °C instead of 25.0 °C"
    assert all("ambient: 35.0 °C instead of 25.0 °C" in repeat.differences for repeat in found.repeats)


def test_at_another_ambient_the_first_runs_fit_is_held_against_what_was_measured() -> None:
    (check,) = judge(_recipe(), _repeats(_again(ambient_c=35.0), ambient_c=35.0)).predictions
    assert check.quantity == "time_to_throttle_secs"
    assert check.error_percent is not None
    assert abs(check.error_percent) < 3
    assert check.words.startswith("at 35 °C ambient: predicted ")


def test_an_ambient_at_which_the_limit_is_passed_from_the_beginning_has_no_error_in_percent() -> None:
    recipe = _recipe()
    assert recipe.heating is not None
    early = recipe.model_copy(update={"heating": recipe.heating.model_copy(update={"start_secs": -0.1})})
    (check,) = judge(early, _repeats(_again(3, ambient_c=35.0), ambient_c=120.0)).predictions
    assert (check.predicted, check.error_percent) == (0.0, None)
    assert check.words.startswith("at 120 °C ambient: predicted 0.0 s, ")


def test_a_prediction_held_against_some_of_the_repeats_says_against_how_many() -> None:
    mixed = [*_again(2, ambient_c=35.0), _story(trip_c=float("inf"), ambient_c=35.0, seed=7)]
    (check,) = judge(_recipe(), _repeats(mixed, ambient_c=35.0)).predictions
    assert check.words.endswith("the mean of the 2 of 3 repeats that throttled")


def test_a_start_gate_that_forbids_a_start_at_rest_in_the_other_room_makes_the_prediction_void() -> None:
    recipe = _recipe().model_copy(update={"soak": SoakScenario(start_gate=StartGate(temperature_c=37))})
    (check,) = judge(recipe, _repeats(_again(3, ambient_c=35.0), ambient_c=35.0)).predictions
    assert (check.predicted, check.error_percent) == (None, None)
    assert "void" in check.words


def test_a_recipe_without_a_heating_fit_says_that_nothing_can_be_predicted() -> None:
    recipe = _recipe().model_copy(update={"heating": None, "limit_c": None})
    (check,) = judge(recipe, _repeats(_again(ambient_c=35.0), ambient_c=35.0)).predictions
    assert (check.predicted, check.error_percent) == (None, None)
    assert "no heating fit" in check.words


def test_fewer_than_three_repeats_are_undetermined() -> None:
    for count in (0, 1, 2):
        found = judge(_recipe(), _repeats(_again(count)))
        assert found.verdict == "undetermined"
        assert found.reasons == (f"{count} repeats were measured; 3 are needed",)


def test_repeats_that_do_not_throttle_do_not_reproduce_one_that_does() -> None:
    cool = [_story(trip_c=float("inf"), seed=seed) for seed in range(3)]
    found = judge(_recipe(), _repeats(cool, fan="running"))
    assert found.verdict == "not reproduced"
    assert _quantity(found, "time_to_throttle_secs").words == "all 3 repeats did not throttle"
    assert found.reasons == ("fan: running instead of standing still",)
    assert "did not throttle" in found.repeats[0].words


def test_a_soak_that_did_not_throttle_is_reproduced_by_ones_that_do_not_either() -> None:
    cool = [_story(trip_c=float("inf"), seed=seed) for seed in range(4)]
    found = judge(_recipe(cool[0]), _repeats(cool[1:]))
    assert found.verdict == "reproduced"
    assert _quantity(found, "time_to_throttle_secs").words == "all 3 repeats did not throttle, as the first"
    hot = judge(_recipe(cool[0]), _repeats(_again(3)))
    assert _quantity(hot, "time_to_throttle_secs").verdict == "not reproduced"


def test_repeats_of_which_some_throttle_are_undetermined() -> None:
    mixed = [_story(), _story(seed=1), _story(trip_c=float("inf"), seed=2)]
    quantity = _quantity(judge(_recipe(), _repeats(mixed)), "time_to_throttle_secs")
    assert (quantity.verdict, quantity.words) == ("undetermined", "1 of 3 repeats did not throttle")


def test_repeats_that_could_not_tell_whether_they_throttled_do_not_count_against_the_first() -> None:
    unknown = [_story(trip_c=float("inf"), seed=seed).model_copy(update={"throttled": None}) for seed in range(3)]
    quantity = _quantity(judge(_recipe(), _repeats(unknown)), "time_to_throttle_secs")
    assert (quantity.verdict, quantity.words) == ("undetermined", "3 of 3 repeats could not tell whether they throttled")


def test_repeats_that_scatter_across_the_tolerance_are_undetermined() -> None:
    scattered = [_story(trip_c=85.0), _story(trip_c=82.0), _story(trip_c=88.0)]
    quantity = _quantity(judge(_recipe(), _repeats(scattered)), "time_to_throttle_secs")
    assert quantity.verdict == "undetermined"
    assert "more repeats would tell" in quantity.words


def test_changed_numbers_must_change_again() -> None:
    recipe = _recipe(_story(changed=True))
    assert (
        _quantity(judge(recipe, _repeats([_story(changed=True, seed=seed) for seed in range(3)])), "probe_changed_samples").verdict
        == "reproduced"
    )
    found = judge(recipe, _repeats(_again(3)))
    assert _quantity(found, "probe_changed_samples").verdict == "not reproduced"
    assert found.verdict == "not reproduced"


def test_numbers_that_change_now_and_did_not_then_are_not_a_reproduction() -> None:
    found = judge(_recipe(), _repeats([_story(changed=True, seed=seed) for seed in range(3)]))
    assert _quantity(found, "probe_changed_samples").verdict == "not reproduced"


def test_a_slower_device_is_not_reproduced_and_without_a_known_difference_that_is_said() -> None:
    slower = [_story(base_ms=7.0, seed=seed) for seed in range(3)]
    found = judge(_recipe(), _repeats(slower))
    assert found.verdict == "not reproduced"
    assert found.reasons == ("no condition that is known of both differs; what does: burst_qps, energy_gross_mj",)


def test_a_quantity_that_another_device_cannot_tell_does_not_spoil_the_verdict() -> None:
    blind = [story.model_copy(update={"scalars": tuple(m for m in story.scalars if m.name != "energy_gross_mj")}) for story in _again(3)]
    found = judge(_recipe(), _repeats(blind))
    assert _quantity(found, "energy_gross_mj").verdict == "undetermined"
    assert found.verdict == "reproduced"


def test_conditions_that_are_unknown_on_one_side_are_no_difference() -> None:
    found = judge(_recipe(), _repeats(_again(3, ambient_c=35.0), ambient_c=35.0, start_c=None, power_mode="MAXN", firmware=None))
    assert found.reasons == ("ambient: 35.0 °C instead of 25.0 °C",)


def test_a_difference_of_some_repeats_is_told_with_their_number() -> None:
    repeats = _repeats(_again(3, ambient_c=35.0), ambient_c=35.0)
    repeats[0] = dataclasses.replace(repeats[0], conditions=repeats[0].conditions.model_copy(update={"governor": "powersave"}))
    recipe = _recipe().model_copy(update={"conditions": CONDITIONS.model_copy(update={"governor": "performance"})})
    assert "governor: powersave instead of performance (in 1 of 3 repeats)" in [
        *judge(recipe, [repeats[0], *_repeats(_again(3, ambient_c=35.0), ambient_c=35.0, governor="performance")[1:]]).reasons
    ]


def test_expectations_leave_out_what_the_first_run_could_not_tell() -> None:
    story = _story()
    blind = story.model_copy(update={"scalars": tuple(m for m in story.scalars if not m.name.startswith("energy"))})
    assert {item.name for item in expectations(story)} - {item.name for item in expectations(blind)} == {"energy_gross_mj"}
    assert all(item.relative is not None or item.absolute is not None for item in expectations(story))


def test_the_spread_between_units_stands_beside_that_of_one_units_repeats() -> None:
    units = {"pi-1": [_story(seed=0), _story(seed=1)], "pi-2": [_story(seed=2, base_ms=6.0), _story(seed=3, base_ms=6.0)]}
    spread = {item.name: item for item in unit_spread(units)}
    speed = spread["burst_qps"]
    assert speed.units == pytest.approx({"pi-1": 200, "pi-2": 1000 / 6}, rel=0.01)
    assert speed.between_percent == pytest.approx(100 * np.std([200, 1000 / 6], ddof=1) / np.mean([200, 1000 / 6]), rel=0.01)
    assert speed.within_percent is not None
    assert speed.within_percent < 0.5
    assert "more than a unit differs from itself" in speed.words


def test_one_run_of_each_unit_leaves_a_units_own_spread_unknown() -> None:
    spread = unit_spread({"pi-1": [_story(seed=0)], "pi-2": [_story(seed=1)]})
    assert spread
    assert all(item.within_percent is None and "its own spread is unknown" in item.words for item in spread)
    assert unit_spread({"pi-1": [_story(seed=0)]}) == ()


def test_a_governor_that_goes_to_and_fro_widens_what_is_expected_of_the_last_window() -> None:
    swinging = make_soak(Bench(board=Board(trip_c=85.0, die_tau=1.0, hysteresis_c=6.0), duration=200.0, window=2.0)).tell()
    steady = make_soak(Bench(board=Board(trip_c=85.0, hysteresis_c=30.0), duration=200.0, window=10.0)).tell()
    width = {name: _expected(story, "sustained_burst") for name, story in (("swinging", swinging), ("steady", steady))}
    assert swinging.onset is not None
    rates = [window.rate_qps / 200 for window in swinging.windows if window.start_secs >= swinging.onset.at_secs]
    assert width["swinging"] == pytest.approx(2 * np.std(rates[-(len(rates) // 2) :], ddof=1), rel=0.01)
    assert width["swinging"] > 0.1
    assert width["steady"] < 0.01


def test_the_way_down_to_the_sustained_rate_widens_nothing() -> None:
    story = make_soak(Bench(board=Board(trip_c=85.0, hysteresis_c=30.0), duration=200.0, window=10.0)).tell()
    assert story.onset is not None
    rates = [window.rate_qps for window in story.windows if window.start_secs >= story.onset.at_secs]
    falling = [value * factor for value, factor in zip(rates, [1.9, 1.5, 1.2, *[1.0] * len(rates)], strict=False)]
    changed = dict(zip([window.start_secs for window in story.windows][-len(rates) :], falling, strict=True))
    windows = tuple(window.model_copy(update={"rate_qps": changed.get(window.start_secs, window.rate_qps)}) for window in story.windows)
    slower = story.model_copy(update={"windows": windows})
    assert _expected(slower, "sustained_burst") == pytest.approx(_expected(story, "sustained_burst"))


def _expected(story: ThermalStory, name: str) -> float:
    found = next(item for item in expectations(story) if item.name == name)
    return found.absolute or 0.0
