"""Was it reproduced? The verdict on the repeats of a soak, quantity by quantity.

Repeats are compared between jobs: one value for each, and the t interval of their mean. A quantity is *reproduced* when that interval lies
inside of the tolerance around the first run's value, *not reproduced* when it lies outside, *undetermined* otherwise or with fewer than
three repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from orchestrator.analysis.conditions_compared import differences, shared_differences
from orchestrator.analysis.expectations import CHANGED, THROTTLE_TIME, value_of
from orchestrator.analysis.expectations import expectations as expectations
from orchestrator.analysis.thermal_predict import predict_from
from orchestrator.analysis.unit_spread import unit_spread as unit_spread
from orchestrator.domain.recipe import (
    Expectation,
    PredictionCheck,
    QuantityVerdict,
    Recipe,
    RecipeConditions,
    RepeatOutcome,
    Reproduction,
    Verdict,
)
from orchestrator.domain.thermal import Estimate, ThermalStory

#: Repeats that an interval needs: two values tell hardly anything of their spread.
FEWEST_REPEATS = 3
#: The recipe's ambient and a repeat's differ when they are further apart than this, °C: then a prediction is held against the repeat.
AMBIENT_DIFFERS_C = 1.0

#: Without these there is no verdict; the others may be missing on another device.
_DECISIVE = (THROTTLE_TIME, "sustained_burst", CHANGED)

_WORST: tuple[Verdict, ...] = ("not reproduced", "undetermined", "reproduced")


@dataclass(frozen=True)
class Repeat:
    """One more soak by the same protocol: its job, what it told, and its conditions."""

    job_id: str
    story: ThermalStory
    conditions: RecipeConditions


def judge(recipe: Recipe, repeats: Sequence[Repeat]) -> Reproduction:
    """Judge the repeats of a recipe; without any, everything is undetermined.

    The verdict is *not reproduced* when one quantity is, *undetermined* when a decisive one is (time to throttle, sustained/burst, changed
    numbers), else *reproduced*. Conditions that differ are the reasons of anything else than *reproduced*.
    """
    quantities = tuple(_judge_quantity(expected, repeats) for expected in recipe.expectations)
    verdict = _overall(quantities)
    outcomes = tuple(_repeat_outcome(recipe, repeat) for repeat in repeats)
    return Reproduction(
        verdict=verdict,
        reasons=() if verdict == "reproduced" else _reasons(verdict, recipe, repeats, quantities),
        quantities=quantities,
        repeats=outcomes,
        predictions=_prediction_checks(recipe, repeats),
    )


# --- one quantity ---------------------------------------------------------------------------------------------


def _judge_quantity(expected: Expectation, repeats: Sequence[Repeat]) -> QuantityVerdict:
    values = [value_of(repeat.story, expected.name) for repeat in repeats]
    known = [value for value in values if value is not None]
    low, high = _band(expected)
    observed = _mean(known)
    verdict, words = _verdict(expected, repeats, known, observed, low, high)
    return QuantityVerdict(
        name=expected.name,
        unit=expected.unit,
        expected=expected.value,
        tolerance_low=low,
        tolerance_high=high,
        observed=observed,
        repeats=len(known),
        verdict=verdict,
        words=words,
    )


def _verdict(
    expected: Expectation, repeats: Sequence[Repeat], known: list[float], observed: Estimate | None, low: float | None, high: float | None
) -> tuple[Verdict, str]:
    count = len(repeats)
    if count < FEWEST_REPEATS:
        return "undetermined", f"{count} repeats were measured; {FEWEST_REPEATS} are needed"
    if expected.name == THROTTLE_TIME:
        throttled = [repeat.story.throttled for repeat in repeats]
        if expected.value is None:
            return _as_rare(throttled.count(True), throttled.count(None), count, "throttled", "did not throttle, as the first")
        if throttled.count(True) < count:
            return _as_rare(throttled.count(False), throttled.count(None), count, "did not throttle", "throttled, as the first")
    if expected.name == CHANGED and expected.value is not None:
        return _numbers_verdict(expected.value, known, count)
    if len(known) < FEWEST_REPEATS or observed is None or observed.low is None or observed.high is None or low is None or high is None:
        return "undetermined", f"{len(known)} of {count} repeats tell it; {FEWEST_REPEATS} are needed"
    told = f"{observed.value:.4g} ({observed.low:.4g} to {observed.high:.4g}) {expected.unit}"
    band = f"{low:.4g} to {high:.4g}"
    if low <= observed.low and observed.high <= high:
        return "reproduced", f"{told} lies within {band}"
    if observed.high < low or observed.low > high:
        return "not reproduced", f"{told} lies outside of {band}"
    return "undetermined", f"{told} reaches beyond {band} on one side: more repeats would tell"


def _as_rare(against: int, unknown: int, count: int, against_words: str, for_words: str) -> tuple[Verdict, str]:
    if against == count:
        return "not reproduced", f"all {count} repeats {against_words}"
    if against:
        return "undetermined", f"{against} of {count} repeats {against_words}"
    if unknown:
        return "undetermined", f"{unknown} of {count} repeats could not tell whether they throttled"
    return "reproduced", f"all {count} repeats {for_words}"


def _numbers_verdict(expected: float, known: list[float], count: int) -> tuple[Verdict, str]:
    changed = sum(1 for value in known if value > 0)
    if len(known) < count:
        return "undetermined", f"{count - len(known)} of {count} repeats could not tell whether their numbers changed"
    if expected > 0:
        return _as_rare(count - changed, 0, count, "kept their numbers", "changed their numbers, as the first")
    return _as_rare(changed, 0, count, "changed their numbers", "kept their numbers, as the first")


def _band(expected: Expectation) -> tuple[float | None, float | None]:
    if expected.value is None:
        return None, None
    if expected.name == CHANGED and expected.value > 0:
        return 1.0, None
    width = max((expected.relative or 0.0) * abs(expected.value), expected.absolute or 0.0)
    return expected.value - width, expected.value + width


def _mean(values: list[float]) -> Estimate | None:
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < FEWEST_REPEATS:
        return Estimate(value=mean)
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(value=mean, low=mean - half, high=mean + half)


# --- all of it ------------------------------------------------------------------------------------------------


def _overall(quantities: Sequence[QuantityVerdict]) -> Verdict:
    if any(quantity.verdict == "not reproduced" for quantity in quantities):
        return "not reproduced"
    decisive = [quantity for quantity in quantities if quantity.name in _DECISIVE]
    if not decisive or any(quantity.verdict == "undetermined" for quantity in decisive):
        return "undetermined"
    return "reproduced"


def _reasons(verdict: Verdict, recipe: Recipe, repeats: Sequence[Repeat], quantities: Sequence[QuantityVerdict]) -> tuple[str, ...]:
    if len(repeats) < FEWEST_REPEATS:
        return (f"{len(repeats)} repeats were measured; {FEWEST_REPEATS} are needed",)
    found = shared_differences(recipe.conditions, [repeat.conditions for repeat in repeats])
    if found or verdict == "undetermined":
        return found
    named = ", ".join(quantity.name for quantity in quantities if quantity.verdict == "not reproduced")
    return (f"no condition that is known of both differs; what does: {named}",)


def _repeat_outcome(recipe: Recipe, repeat: Repeat) -> RepeatOutcome:
    values = {expected.name: value_of(repeat.story, expected.name) for expected in recipe.expectations}
    outside, inside = [], 0
    for expected in recipe.expectations:
        value, (low, high) = values[expected.name], _band(expected)
        if expected.name == THROTTLE_TIME and repeat.story.throttled is not None and (value is None) != (expected.value is None):
            outside.append("did not throttle" if value is None else f"throttled after {value:.1f} s")
        elif value is not None and low is not None:
            if value < low or (high is not None and value > high):
                outside.append(f"{expected.name} {value:.4g} {expected.unit}".rstrip())
            else:
                inside += 1
        elif expected.name == THROTTLE_TIME and value is None and repeat.story.throttled is False:
            inside += 1
    verdict: Verdict = "not reproduced" if outside else "reproduced" if inside else "undetermined"
    words = f"outside of the tolerance: {', '.join(outside)}" if outside else f"{inside} quantities within their tolerance"
    return RepeatOutcome(
        job_id=repeat.job_id, verdict=verdict, values=values, differences=differences(recipe.conditions, repeat.conditions), words=words
    )


def _prediction_checks(recipe: Recipe, repeats: Sequence[Repeat]) -> tuple[PredictionCheck, ...]:
    """Hold the recipe's fit against repeats at another ambient, which must all have been at the same one."""
    own = recipe.conditions.ambient_c
    ambients = [repeat.conditions.ambient_c for repeat in repeats if repeat.conditions.ambient_c is not None]
    if own is None or not ambients or len(ambients) < len(repeats) or np.ptp(ambients) > AMBIENT_DIFFERS_C:
        return ()
    ambient = float(np.mean(ambients))
    if abs(ambient - own) <= AMBIENT_DIFFERS_C:
        return ()
    if recipe.heating is None or recipe.limit_c is None:
        return (_check(THROTTLE_TIME, None, None, ambient, "the recipe has no heating fit to predict from"),)
    gate = recipe.soak.start_gate
    if gate is not None and abs(ambient - own) > gate.tolerance_c:
        void = f"the start gate makes every run begin at {gate.temperature_c:g} °C, and the prediction is from rest there: void"
        return (_check(THROTTLE_TIME, None, None, ambient, void),)
    found = predict_from(recipe.heating, own, ambient, recipe.limit_c)
    times = [value for repeat in repeats if (value := value_of(repeat.story, THROTTLE_TIME)) is not None]
    observed = float(np.mean(times)) if times else None
    if found is None or not found.reaches or found.at_secs is None:
        never = f"predicted not to reach {recipe.limit_c:.1f} °C; "
        came = f"throttled after {observed:.1f} s" if observed else "it did not"
        return (_check(THROTTLE_TIME, None, observed, ambient, never + came),)
    check = _check(THROTTLE_TIME, found.at_secs.value, observed, ambient, None)
    if times and len(times) < len(repeats):
        check = check.model_copy(update={"words": f"{check.words}: the mean of the {len(times)} of {len(repeats)} repeats that throttled"})
    return (check,)


def _check(quantity: str, predicted: float | None, observed: float | None, ambient_c: float, words: str | None) -> PredictionCheck:
    error = 100 * (observed / predicted - 1) if predicted is not None and predicted > 0 and observed is not None else None
    if words is None:
        share = "" if error is None else f" ({error:+.1f} %)"
        measured = "it did not throttle" if observed is None else f"{observed:.1f} s were measured{share}"
        words = f"predicted {predicted:.1f} s, {measured}"
    return PredictionCheck(
        quantity=quantity, predicted=predicted, observed=observed, error_percent=error, words=f"at {ambient_c:g} °C ambient: {words}"
    )
