"""Writes what chaos found as a dated page for people and the same as JSON for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import summary
from benchmarks.chaos_evidence import Found
from benchmarks.chaos_faults import KINDS, Struck

_PROBLEMS_SHOWN = 50


@dataclass(frozen=True)
class ChaosRun:
    """One run: its faults, what was found, and ``problems``, empty when everything holds. ``looks``: at the process table."""

    seed: int
    database: str
    boards: int
    struck: list[Struck]
    found: Found
    looks: int
    seconds: float
    problems: list[str]


def write(run: ChaosRun, folder: Path, now: datetime) -> Path:
    """Write both files into ``folder``, named by the time; return the Markdown one."""
    return summary.write_proof(to_markdown(run, now), asdict(run), folder, now, "chaos")


def to_markdown(run: ChaosRun, now: datetime) -> str:
    """Return the page: the verdict, what became of the jobs, the faults by kind, and every problem."""
    found = run.found
    done, hits = Counter(item.kind for item in run.struck), Counter(item.kind for item in run.struck if item.hit)
    cpu = summary.machine().get("cpu", {})
    lines = [
        f"# Chaos, {now:%Y-%m-%d %H:%M} UTC: {'holds' if not run.problems else 'FAILS'}",
        "",
        f"Seed {run.seed}, {len(run.struck)} faults ({sum(hits.values())} hit something), commit {summary.commit()}.",
        f"{run.boards} boards behind SSH, 2 gateways with 2 workers each, 2 schedulers, Redis, {run.database}; {run.seconds:.0f} s"
        f" on two CPUs ({cpu.get('model', 'unknown CPU')}).",
        "",
        f"- {found.jobs} jobs, each ended once: {_words(found.outcomes)}",
        f"- {found.attempts} attempts; {found.retried} jobs were tried more than once, for: {_words(found.errors)}",
        f"- {len(found.picked_up)} runs were cut off from their orchestrator ({sum(found.picked_up.values())} faults), survived,"
        " and were picked up and not run again",
        f"- {found.adopted} runs were completed under a newer fence than they were started under",
        f"- no board held twice: by its own record, by the database, and by {run.looks} looks at the process table"
        if not run.problems
        else f"- {run.looks} looks at the process table",
        "",
        "| fault | what | drawn | hit |",
        "|---|---|---|---|",
        *(f"| {name} | {kind.what} | {done[name]} | {hits[name]} |" for name, kind in KINDS.items()),
        "",
    ]
    if run.problems:
        lines += ["## Problems", "", *(f"- {problem}" for problem in run.problems[:_PROBLEMS_SHOWN]), ""]
        lines += [f"and {len(run.problems) - _PROBLEMS_SHOWN} more", ""] if len(run.problems) > _PROBLEMS_SHOWN else []
    return "\n".join(lines)


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"
