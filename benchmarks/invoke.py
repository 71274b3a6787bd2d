"""Figure: what the harness adds to a query — invoke latency over a bare loop, and the time it spends outside pre, invoke and post."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pairs import Bar, Round, judge_ratio, judge_value
from benchmarks.plan import AGENT_PYTHON, DIGITS, LITERT_PYTHON, REPOSITORY, Figure, Plan, Row, versions

INVOKE_BAR = Bar(1.01)
OWN_COST_BAR_US = Bar(2.0)
#: The bar on invoke latency is for models that take at least this long.
LEAST_NS = 50_000
BLOCK_SECS = 0.25


@dataclass(frozen=True)
class Case:
    """One model in one environment."""

    environment: str
    python: Path
    file: str
    runtime: str
    dtype: str = "float32"


CASES = (
    Case("agent", AGENT_PYTHON, "onnx_fp32.onnx", "onnx"),
    Case("agent", AGENT_PYTHON, "onnx_dynamic.onnx", "onnx"),
    Case("agent", AGENT_PYTHON, "tflite_fp32.tflite", "tflite"),
    Case("agent", AGENT_PYTHON, "tflite_w8a8.tflite", "tflite", "int8"),
    Case("agent-litert", LITERT_PYTHON, "tflite_fp32.tflite", "tflite"),
    Case("agent-litert", LITERT_PYTHON, "tflite_dynamic.tflite", "tflite"),
)


def measure(plan: Plan) -> Figure:
    """Measure every case in its own environment."""
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    for case in CASES:
        facts[case.environment] = versions(case.python, ("numpy", "onnxruntime", "tflite-runtime", "ai-edge-litert"))
        found = _run(case, plan)
        rounds = [Round(**item) for item in found["rounds"]]
        name = f"{case.file} on {found['runtime']['package']} {found['runtime']['version']}"
        baseline = median(item.baseline["median"] for item in rounds)
        applies = baseline >= LEAST_NS
        rows.append(
            Row(
                what=f"median invoke, harness over bare loop: {name}",
                unit="µs",
                judgement=judge_ratio(rounds, "median", INVOKE_BAR),
                baseline=baseline / 1e3,
                candidate=median(item.candidate["median"] for item in rounds) / 1e3,
                applies=applies,
                note="" if applies else "under 50 µs: the bar does not apply",
            )
        )
        costs = [value / 1e3 for value in found["own_cost_ns"]]
        rows.append(Row(f"own cost per query outside pre, invoke and post: {name}", "µs", judge_value(costs, OWN_COST_BAR_US)))
    return Figure("invoke", "Does the harness leave the query alone?", tuple(rows), facts)


def _run(case: Case, plan: Plan) -> dict[str, Any]:
    arguments = {
        "model": str(DIGITS / case.file),
        "runtime": case.runtime,
        "shape": [8, 8, 1],
        "dtype": case.dtype,
        "steps": [],
        "secs": BLOCK_SECS,
        "pairs": plan.pairs,
        "seed": plan.seed,
    }
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [str(case.python), "-m", "benchmarks.invoke_loops", json.dumps(arguments)]
    output = subprocess.run(command, env=environment, cwd=plan.scratch, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
