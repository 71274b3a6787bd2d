"""Where the names of points go so that they cover neither each other nor the points: a greedy search over positions around each point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.figure import Axis, Figure, Point


@dataclass(frozen=True)
class Placed:
    """A label's near edge relative to its point, in pixels, y downward; ``anchor`` is the edge of the text that lies there."""

    dx: float
    dy: float
    anchor: str


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    width: float,
    height: float,
    character_px: float = 6.2,
    line_px: float = 14.0,
    marker_px: float = 6.0,
) -> list[Placed]:
    """Place one label for each point of a plot of ``width`` × ``height`` pixels; a point with an empty text only takes room.

    Points are taken from the right to the left; each label takes the nearest position with the least overlap. Deterministic.
    """
    taken = [_Box(x - marker_px, y - marker_px, x + marker_px, y + marker_px) for x, y in points]
    placed = [Placed(0.0, 0.0, "left")] * len(points)
    for index in sorted(range(len(points)), key=lambda index: (-points[index][0], points[index][1])):
        if not texts[index]:
            continue
        x, y = points[index]
        text_px = len(texts[index]) * character_px
        best: tuple[float, Placed, _Box] | None = None
        for distance in range(14):
            for dx, dy, anchor in _positions(distance, line_px, marker_px):
                left = x + dx if anchor == "left" else x + dx - text_px
                box = _Box(left, y + dy - line_px / 2, left + text_px, y + dy + line_px / 2)
                outside = max(0.0, -box.left) + max(0.0, box.right - width) + max(0.0, -box.top) + max(0.0, box.bottom - height)
                cost = sum(box.overlap(other) for other in taken) + outside * 40 + distance * 9
                if best is None or cost < best[0]:
                    best = (cost, Placed(dx, dy, anchor), box)
            if best is not None and best[0] <= distance * 9:
                break
        if best is not None:
            placed[index] = best[1]
            taken.append(best[2])
    return placed


def _positions(distance: int, line_px: float, marker_px: float) -> list[tuple[float, float, str]]:
    side = marker_px + 3 + (6 if distance else 0)
    drop = distance * line_px * 0.75
    found = []
    for dy in (-drop, drop) if distance else (0.0,):
        found += [(side, dy, "left"), (-side, dy, "right")]
    return found


def pixel(figure: Figure, point: Point, width: float, height: float) -> tuple[float, float]:
    """Return where a point lies in a plot area of that size, y downward."""
    return width * _share(figure.x, point.x), height * (1 - _share(figure.y, point.y))


def _share(axis: Axis, value: float) -> float:
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)
