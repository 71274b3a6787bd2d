"""Steps with hysteresis: what a governor does about heat, and a fan's controller, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class _Step(Protocol):
    @property
    def at_c(self) -> float: ...

    @property
    def hysteresis_c(self) -> float: ...


class Steps:
    """``level`` is how many of the steps, ascending in ``at_c``, the temperature has passed and not yet left again."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._steps = steps
        self.level = 0

    def follow(self, celsius: float) -> int:
        """Take note of a temperature; return the level it leads to."""
        while self.level < len(self._steps) and celsius >= self._steps[self.level].at_c:
            self.level += 1
        while self.level > 0 and celsius < self._steps[self.level - 1].at_c - self._steps[self.level - 1].hysteresis_c:
            self.level -= 1
        return self.level
