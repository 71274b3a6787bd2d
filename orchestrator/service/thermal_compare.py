"""Soaks beside one another: every quantity of each, the difference to the first, and what their conditions differ in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.analysis.reproduction import unit_spread
from orchestrator.domain.recipe import RecipeConditions, UnitSpread
from orchestrator.domain.results import Metric
from orchestrator.domain.thermal import ThermalStory
from orchestrator.service.context import Context
from orchestrator.service.selection import SelectionInvalid
from orchestrator.service.thermal import NoTrace, find_soaks, load_soak, tell_soak
from orchestrator.service.thermal_conditions import conditions_of, differing

#: More side by side could not be read.
MOST_SOAKS = 64


@dataclass(frozen=True)
class ComparedSoak:
    """One soak of a comparison; ``label`` is unique among them."""

    label: str
    job_id: str
    experiment_id: str
    variant: str
    repeat: int
    story: ThermalStory
    conditions: RecipeConditions


@dataclass(frozen=True)
class Difference:
    """One soak's value against the first one's: in the quantity's unit and in percent. None where a value is missing or the first is 0."""

    absolute: float | None
    percent: float | None


@dataclass(frozen=True)
class ComparedQuantity:
    """One quantity, in the order of the soaks: the values and their differences to the first."""

    name: str
    unit: str
    values: tuple[Metric | None, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class ThermalComparison:
    """``conditions`` are those in which the soaks differ: field → label → value. ``spreads`` are per profile that has several units here.

    ``left_out`` names jobs that left nothing, with the reason.
    """

    soaks: tuple[ComparedSoak, ...]
    quantities: tuple[ComparedQuantity, ...]
    conditions: dict[str, dict[str, str]]
    spreads: dict[str, tuple[UnitSpread, ...]]
    left_out: tuple[str, ...]


def compare_soaks(context: Context, texts: Sequence[str]) -> ThermalComparison:
    """Compare the soaks that the texts mean, the first one being the base.

    Raises :class:`~orchestrator.service.selection.SelectionInvalid` for fewer than two soaks, or too many.
    """
    jobs = list(dict.fromkeys(item.job.id for text in texts for item in find_soaks(context, text)))
    if not 2 <= len(jobs) <= MOST_SOAKS:
        raise SelectionInvalid(
            f"{', '.join(texts)} means {len(jobs)} soak{'s' if len(jobs) != 1 else ''}; 2 to {MOST_SOAKS} can be compared",
            "name two jobs, or experiments with several soaks",
        )
    soaks, left_out = [], []
    for job_id in jobs:
        try:
            run = load_soak(context, job_id)
        except NoTrace as error:
            left_out.append(error.message)
            continue
        story = tell_soak(run)
        envelope = run.envelope
        whose = (job_id, envelope.experiment.id, envelope.variant.name, envelope.job.repeat)
        soaks.append(ComparedSoak("", *whose, story, conditions_of(run, story)))
    if len(soaks) < 2:
        raise SelectionInvalid(f"fewer than two of these soaks left anything: {'; '.join(left_out)}", "edgematrix show JOB says why")
    labelled = _labelled(soaks)
    return ThermalComparison(
        labelled,
        tuple(_quantities([item.story for item in labelled])),
        differing({item.label: item.conditions for item in labelled}),
        unit_spreads(labelled),
        tuple(left_out),
    )


def unit_spreads(soaks: Sequence[ComparedSoak]) -> dict[str, tuple[UnitSpread, ...]]:
    """Return the unit-to-unit spread of every profile and variant that was measured on several units."""
    groups: dict[str, dict[str, list[ThermalStory]]] = defaultdict(lambda: defaultdict(list))
    variants = {item.variant for item in soaks}
    for item in soaks:
        name = item.conditions.profile if len(variants) == 1 else f"{item.conditions.profile}, {item.variant}"
        groups[name][item.conditions.device].append(item.story)
    return {name: unit_spread(stories) for name, stories in groups.items() if len(stories) > 1}


def _quantities(stories: Sequence[ThermalStory]) -> list[ComparedQuantity]:
    names = {metric.name: metric.unit for story in stories for metric in story.scalars}
    found = []
    for name, unit in names.items():
        values = tuple(story.scalar(name) for story in stories)
        if any(metric is not None and metric.value is not None for metric in values):
            base = values[0].value if values[0] else None
            found.append(ComparedQuantity(name, unit, values, tuple(_difference(base, metric) for metric in values)))
    return found


def _difference(base: float | None, metric: Metric | None) -> Difference:
    value = metric.value if metric else None
    if base is None or value is None:
        return Difference(None, None)
    return Difference(value - base, 100 * (value - base) / abs(base) if base else None)


def _labelled(soaks: Sequence[ComparedSoak]) -> tuple[ComparedSoak, ...]:
    """Name each by what tells them apart: device, variant, the repeat within one experiment; by its job where that is not enough."""
    tells: tuple[Callable[[ComparedSoak], str], ...] = (
        lambda item: item.conditions.device,
        lambda item: item.variant,
        lambda item: f"repeat {item.repeat + 1}" if one_experiment else "",
    )
    one_experiment = len({item.experiment_id for item in soaks}) == 1
    varying = [tell for tell in tells if len({tell(item) for item in soaks}) > 1]
    labels = [" ".join(filter(None, (tell(item) for tell in varying))) for item in soaks]
    return tuple(
        replace(item, label=label if label and labels.count(label) == 1 else f"{label} {item.job_id}".strip())
        for item, label in zip(soaks, labels, strict=True)
    )
