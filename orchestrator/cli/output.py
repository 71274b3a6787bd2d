"""Where output goes: results on standard output (a table, or one JSON document), messages and progress on standard error."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Width of tables where there is no terminal to measure: wide enough that no cell of ours wraps in a log file.
PLAIN_WIDTH = 200


def result_console() -> Console:
    """The console of standard output. ``NO_COLOR`` and a terminal's width are honoured; without a terminal lines are wide and plain."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, emoji=False, width=_width(sys.stdout), soft_wrap=False)


def message_console() -> Console:
    """The console of standard error."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, emoji=False, width=_width(sys.stderr))


def _width(stream: Any) -> int | None:
    return None if stream.isatty() or os.environ.get("COLUMNS") else PLAIN_WIDTH


def message(text: str) -> None:
    """Print one line for a person on standard error."""
    message_console().print(text, markup=False)


def print_result(renderable: RenderableType) -> None:
    result_console().print(renderable)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output: dataclasses, pydantic models and collections of them."""
    json.dump(plain(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """Turn a record into what JSON can hold; a float that JSON has no word for becomes null."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Path):
        return str(value)
    return value


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a plain table on standard output; a name that ends in ``>`` aligns its column right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text("–" if cell is None else str(cell)) for cell in row))
    print_result(table)


def print_checks(checks: Iterable[Any]) -> None:
    """Print check lines (``service.views.Check``): what was found, and the command that mends what is not ok."""
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    console = result_console()
    for check in checks:
        line = Text(f"{check.status:8}", style=style.get(check.status, ""))
        line.append(f"{check.name}: ", style="bold")
        line.append(check.found, style="")
        console.print(line)
        if check.remedy and check.status != "ok":
            console.print(Text(f"        {check.remedy}"))
