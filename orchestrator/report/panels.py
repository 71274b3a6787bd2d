"""What all figures of a page share: panels (one for each place), colours (precision of a variant) and shapes (device)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.report.figure import DEVICE_SHAPES, SERIES_COLORS, Color, Shape
from orchestrator.report.judgement import Change, change_of
from orchestrator.report.reading import Matrix, Place, Row
from orchestrator.report.words import clean, counted, listed

#: More panels than this make a page nobody reads; the tables hold every place, and the caption says what is left out.
MAX_PANELS = 8


class Look:
    """Which colour a variant and which shape a device has, the same in every figure of a page."""

    def __init__(self, matrix: Matrix) -> None:
        precisions = list(dict.fromkeys(row.variant.precision for row in matrix.rows if not row.variant.reference))
        self._colors: dict[str, Color] = {name: SERIES_COLORS[index % len(SERIES_COLORS)] for index, name in enumerate(precisions)}
        devices = list(dict.fromkeys(place.device.name for place in matrix.places))
        self._shapes = {name: DEVICE_SHAPES[index % len(DEVICE_SHAPES)] for index, name in enumerate(devices)}

    def color(self, row: Row) -> Color:
        return "ink" if row.variant.reference else self._colors.get(row.variant.precision, "c0")

    def shape(self, place: Place) -> Shape:
        return self._shapes[place.device.name][0]

    def title(self, place: Place) -> str:
        return f"{self._shapes[place.device.name][1]} {place.label}"

    def legend(self, rows: Sequence[Row], marks_loss: bool = False) -> tuple[tuple[Color, str], ...]:
        """Colours with their meaning; ``marks_loss``: these figures paint in vermilion what lost accuracy."""
        entries: dict[str, Color] = {}
        if any(row.variant.reference for row in rows):
            entries["reference"] = "ink"
        entries.update({clean(row.variant.precision, 30): self.color(row) for row in rows if not row.variant.reference})
        if marks_loss and any(change_of(row) in (Change.WORSE, Change.COLLAPSED) for row in rows):
            entries["accuracy lost"] = "bad"
        return tuple((color, name) for name, color in entries.items())


def panels_of(matrix: Matrix, model: str, wanted: Callable[[Row], bool]) -> tuple[list[tuple[Place, list[Row]]], int]:
    """Return the wanted rows of a model by place, and how many places were left out."""
    panels = [(place, rows) for place in matrix.places if (rows := [row for row in matrix.of(model, place) if wanted(row)])]
    return panels[:MAX_PANELS], max(0, len(panels) - MAX_PANELS)


def all_rows(panels: Sequence[tuple[Place, list[Row]]]) -> list[Row]:
    return [row for _, rows in panels for row in rows]


def left_out_words(count: int) -> str:
    return f" {counted(count, 'further place')} {'is' if count == 1 else 'are'} in the tables." if count else ""


def panel_summary(what: str, place: Place, rows: Sequence[Row]) -> str:
    return f"{what} on {place.label}: {listed([row.name for row in rows], 12)}"


def rounded(values: Sequence[float], digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]
