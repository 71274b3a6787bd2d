"""Which power rails make up the power of a whole board."""

from __future__ import annotations

from typing import List, Optional, Tuple

#: Rails that measure what the whole board draws.
BOARD_RAILS = ("vdd_in", "pom_5v_in")
SUM_CAUTION = "the sum of the rails that are measured; this board does not measure its input"


def board_rails(names: List[str]) -> Tuple[List[str], Optional[str]]:
    """Return the rails whose sum is the board's power, with a caution where that is not measured as such."""
    for name in BOARD_RAILS:
        if name in names:
            return [name], None
    return list(dict.fromkeys(names)), SUM_CAUTION if names else None
