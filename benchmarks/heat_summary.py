"""Writes what the soaks of the evidence came to as a dated page for people and the same as JSON for programs."""

from __future__ import annotations

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
    return summary.write_proof(to_markdown(run, now), asdict(run), folder, now, "heat")


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
