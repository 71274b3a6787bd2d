"""Two thermal bodies, the die and the board it sits on, solved exactly for a constant power: how long a step is does not matter.

C_die·dT_die/dt = P − (T_die − T_board)/R_die and C_board·dT_board/dt = (T_die − T_board)/R_die − (T_board − T_ambient)/R_board.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bodies:
    """Heat capacities in J/°C; ``die_c_per_watt`` is the resistance from die to board. That from board to air changes with the fan."""

    die_joules_per_c: float
    board_joules_per_c: float
    die_c_per_watt: float

    def steady(self, watts: float, ambient_c: float, board_c_per_watt: float) -> tuple[float, float]:
        """Return die and board, °C, after ever so long a time."""
        board = ambient_c + watts * board_c_per_watt
        return board + watts * self.die_c_per_watt, board

    def time_constants(self, board_c_per_watt: float) -> tuple[float, float]:
        """Return both time constants of the whole, in seconds, the faster first: what a fit of the die's temperature can find."""
        fast, slow = self._rates(board_c_per_watt)
        return -1.0 / fast, -1.0 / slow

    def after(
        self, die_c: float, board_c: float, secs: float, watts: float, ambient_c: float, board_c_per_watt: float
    ) -> tuple[float, float]:
        """Return die and board, °C, ``secs`` later at a constant power."""
        die_end, board_end = self.steady(watts, ambient_c, board_c_per_watt)
        die, board = die_c - die_end, board_c - board_end
        fast, slow = self._rates(board_c_per_watt)
        (a, b), (c, d) = self._matrix(board_c_per_watt)
        # e^(At) of a 2×2 matrix with two real rates, after Sylvester.
        left, right = math.exp(fast * secs) / (fast - slow), math.exp(slow * secs) / (fast - slow)
        die_now = left * ((a - slow) * die + b * board) - right * ((a - fast) * die + b * board)
        board_now = left * (c * die + (d - slow) * board) - right * (c * die + (d - fast) * board)
        return die_end + die_now, board_end + board_now

    def _matrix(self, board_c_per_watt: float) -> tuple[tuple[float, float], tuple[float, float]]:
        across, out = 1.0 / self.die_c_per_watt, 1.0 / board_c_per_watt
        die, board = self.die_joules_per_c, self.board_joules_per_c
        return (-across / die, across / die), (across / board, -(across + out) / board)

    def _rates(self, board_c_per_watt: float) -> tuple[float, float]:
        """Both eigenvalues, per second; real and negative for any two bodies."""
        (a, b), (c, d) = self._matrix(board_c_per_watt)
        half, root = (a + d) / 2, math.sqrt(((a - d) / 2) ** 2 + b * c)
        return half - root, half + root
