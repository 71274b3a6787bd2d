"""How much units of one kind differ from one another, beside how much one unit differs from itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.analysis.expectations import CHANGED, TOLERANCES, UNITS, value_of
from orchestrator.domain.recipe import UnitSpread
from orchestrator.domain.thermal import ThermalStory


def unit_spread(stories: Mapping[str, Sequence[ThermalStory]]) -> tuple[UnitSpread, ...]:
    """Return how much each quantity differs between units of one profile, and how much one unit differs from itself.

    ``stories`` maps a device to its soaks by one protocol. Both spreads are standard deviations in percent of the mean: of the units'
    means, and pooled within units. A quantity that fewer than two units have is left out.
    """
    spreads = []
    for name in TOLERANCES:
        values = {device: [value for story in told if (value := value_of(story, name)) is not None] for device, told in stories.items()}
        values = {device: found for device, found in values.items() if found}
        means = {device: float(np.mean(found)) for device, found in values.items()}
        center = float(np.mean(list(means.values()))) if means else 0.0
        if len(means) < 2 or name == CHANGED or center == 0:
            continue
        between = 100 * float(np.std(list(means.values()), ddof=1)) / abs(center)
        freedom = sum(len(found) - 1 for found in values.values())
        squares = sum(float(np.sum((np.array(found) - means[device]) ** 2)) for device, found in values.items())
        within = 100 * math.sqrt(squares / freedom) / abs(center) if freedom > 0 else None
        spreads.append(
            UnitSpread(
                name=name,
                unit=UNITS[name],
                units=means,
                between_percent=between,
                within_percent=within,
                words=_spread_words(between, within),
            )
        )
    return tuple(spreads)


def _spread_words(between: float, within: float | None) -> str:
    if within is None:
        return f"units differ by {between:.1f} %; each ran once, so its own spread is unknown"
    clear = "more than a unit differs from itself" if between > 2 * within else "no more than what one unit's repeats would explain"
    return f"units differ by {between:.1f} %, repeats of one by {within:.1f} %: {clear}"
