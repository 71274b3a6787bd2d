"""Figure: how soon the command answers, against an interpreter that does nothing but import typer."""

from __future__ import annotations

import subprocess
import time
from statistics import median

from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio
from benchmarks.plan import ORCHESTRATOR_PYTHON, Figure, Plan, Row, versions

BAR = Bar(2.0)


def measure(plan: Plan) -> Figure:
    """Time whole processes, from spawn to end."""
    facts = versions(ORCHESTRATOR_PYTHON, ("typer", "rich", "click"))
    bare = [str(ORCHESTRATOR_PYTHON), "-c", "import typer"]
    ours = [str(ORCHESTRATOR_PYTHON.with_name("edgematrix")), "--help"]
    for command in (bare, ours):  # fills the caches of files and of byte code
        _process(command)
    rounds = interleave(lambda: _process(bare), lambda: _process(ours), plan.pairs, plan.seed)
    row = Row(
        what="edgematrix --help over python -c 'import typer'",
        unit="ms",
        judgement=judge_ratio(rounds, "secs", BAR),
        baseline=median(item.baseline["secs"] for item in rounds) * 1e3,
        candidate=median(item.candidate["secs"] for item in rounds) * 1e3,
    )
    return Figure("start", "Does the command start fast?", (row,), {"orchestrator": facts})


def _process(command: list[str]) -> Measurement:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return {"secs": time.perf_counter() - started}
