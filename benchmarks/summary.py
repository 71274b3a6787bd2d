"""Writes what was measured as a dated Markdown page for people and the same as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agent import conditions
from agent.host import HostFiles
from benchmarks.pairs import FAIL, Interval
from benchmarks.plan import REPOSITORY, Figure, Row

FORMAT = 1
#: Of the conditions that the agent can find, those that a timing depends on; none of them holds a path.
_MACHINE = ("board", "cpu", "memory_bytes", "kernel", "os", "virtualization", "frequency")


@dataclass(frozen=True)
class Summary:
    """One run of the benchmarks. ``not_measured`` gives the cause for each figure that could not be."""

    measured_utc: str
    seed: int
    pairs: int
    commit: str
    machine: dict[str, Any]
    load_average: dict[str, tuple[float, ...]]
    figures: tuple[Figure, ...]
    not_measured: dict[str, str] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        """Whether a bar that applies was missed, or a figure could not be measured."""
        rows = [row for figure in self.figures for row in figure.rows]
        return bool(self.not_measured) or any(row.applies and row.judgement.verdict == FAIL for row in rows)


def machine() -> dict[str, Any]:
    """Return what this machine is, as a run of the agent records it."""
    found = conditions.collect(HostFiles(), {})
    return {name: found[name] for name in _MACHINE if name in found}


def commit() -> str:
    """Return the commit of the checkout, marked when files differ from it; ``unknown`` outside of a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with uncommitted changes" if changed.strip() else head


def load_average() -> tuple[float, ...]:
    """Return the load averages of 1, 5 and 15 minutes: what else this machine was doing."""
    return tuple(round(value, 2) for value in os.getloadavg())


def write(summary: Summary, folder: Path, now: datetime, kind: str = "performance") -> Path:
    """Write both files into ``folder``, named by the time and ``kind``; return the Markdown one."""
    return write_pair(to_markdown(summary), {"format": FORMAT, **dataclasses.asdict(summary)}, folder, now, kind)


def write_proof(page: str, facts: Mapping[str, Any], folder: Path, now: datetime, kind: str) -> Path:
    """Write a proof's page, and its facts with time, commit and machine; return the Markdown file."""
    record = {"format": FORMAT, "at_utc": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine(), **facts}
    return write_pair(page, record, folder, now, kind)


def write_pair(page: str, record: Mapping[str, Any], folder: Path, now: datetime, kind: str) -> Path:
    """Write a page and the JSON beside it into ``folder``, named by the time and ``kind``; return the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d-%H%M%S}-{kind}.md"
    path.write_text(page, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def to_markdown(summary: Summary) -> str:
    """Return the summary as a page: one table for each figure, with the A/A interval beside every ratio."""
    cpu = summary.machine.get("cpu", {})
    lines = [
        "# Performance",
        "",
        f"Measured {summary.measured_utc} with seed {summary.seed} and {summary.pairs} interleaved pairs per ratio.",
        f"Commit {summary.commit}.",
        "",
        f"Machine: {cpu.get('model', 'unknown CPU')}, {cpu.get('usable_count', '?')} CPUs, "
        f"{summary.machine.get('memory_bytes', 0) / 1e9:.0f} GB, kernel {summary.machine.get('kernel', {}).get('release', '?')}; "
        f"load average before {_words(summary.load_average['before'])}, after {_words(summary.load_average['after'])}.",
        "",
        "A ratio is the median over pairs with its 95 % interval. A/A is the same for the baseline against itself, measured in the same",
        "rounds. `pass` and `fail` need the whole interval on one side of the bar; everything else, and every bar inside the A/A interval,",
        "is `undetermined`.",
    ]
    for figure in summary.figures:
        lines += [
            "",
            f"## {figure.question}",
            "",
            "| what | baseline | candidate | result | A/A | bar | verdict |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_table_row(row) for row in figure.rows]
        lines += ["", f"Found: `{json.dumps(figure.facts)}`"]
    if summary.not_measured:
        lines += ["", "## Not measured", "", *(f"- {name}: {cause}" for name, cause in summary.not_measured.items())]
    return "\n".join(lines) + "\n"


def _table_row(row: Row) -> str:
    judgement = row.judgement
    if judgement.same is None:
        result, same, bar = f"{_interval(judgement.estimate)} {row.unit}", "", f"{judgement.bar} {row.unit}"
    else:
        result, same, bar = _interval(judgement.estimate), _interval(judgement.same), str(judgement.bar)
    sides = ["" if value is None else f"{value:.4g} {row.unit}" for value in (row.baseline, row.candidate)]
    verdict = judgement.verdict if row.applies else row.note
    return f"| {row.what} (n = {judgement.pairs}) | {sides[0]} | {sides[1]} | {result} | {same} | {bar} | {verdict} |"


def _interval(interval: Interval) -> str:
    return f"{interval.median:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def _words(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
