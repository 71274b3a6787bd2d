"""Writes what the soaks of the evidence came to as a dated page for people and the same as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import summary
from benchmarks.heat_judge import Held
from benchmarks.heat_lab import AMBIENT_C, OTHER_AMBIENT_C


@dataclass(frozen=True)
class Run:
    """One run: its constants and cores in words, the load averages of the machine, and every comparison."""

    pace: str
    how: str
    load_before: tuple[float, ...]
    load_after: tuple[float, ...]
    seconds: int
    rows: list[Held]


def write(run: Run, folder: Path, now: datetime) -> Path:
    """Write both files into ``folder``, named by the time; return the Markdown one."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{now:%Y-%m-%d-%H%M%S}-heat.md"
    page.write_text(to_markdown(run, now), encoding="utf-8")
    record = {
        "format": 1,
        "at_utc": now.isoformat(timespec="seconds"),
        "commit": summary.commit(),
        "machine": summary.machine(),
        **asdict(run),
    }
    page.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return page


def to_markdown(run: Run, now: datetime) -> str:
    """Return the page: the verdict, how it was measured, and a table of all comparisons."""
    machine = summary.machine()
    rows = [
        f"| {row.number} | {row.what} | {row.told} | {row.truth} | {row.bar} | {'yes' if row.holds else '**NO**'} |" for row in run.rows
    ]
    return "\n".join(
        [
            f"# Heat, {now:%Y-%m-%d %H:%M} UTC: {'holds' if all(row.holds for row in run.rows) else 'FAILS'}",
            "",
            f"Commit {summary.commit()}; {run.seconds} s on {machine.get('cpu', {}).get('model', 'an unknown CPU')}.",
            f"Plants with {run.pace}, in air of {AMBIENT_C:g} °C, once of {OTHER_AMBIENT_C:g} °C. The only random numbers are the heavy"
            " model's inputs (seed 1).",
            f"{run.how}; everything else on the first core. Load average before {run.load_before}, after {run.load_after}.",
            "",
            "| proof | what | told | truth | bar | holds |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
