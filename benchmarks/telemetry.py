"""Figure: what sampling the sensors does to the latency of the run beside it, and what it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from agent.protocol import LoadSettings, RunOutcome, RunRequest, SamplingCost
from benchmarks import board_files
from benchmarks.agent_runs import AgentRuns
from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio, judge_value
from benchmarks.plan import AGENT_PYTHON, DIGITS, HEAVY_MODEL, LITERT_PYTHON, Figure, Plan, Row, versions
from benchmarks.requests import latency_request, random_inputs

#: Faster counts as well: it would mean that the sampled run is another than the one in question.
RATIO_BAR = Bar(1.01, 0.99)
#: Percent of one core, by sampling rate in Hz.
COST_BARS = {10.0: Bar(1.0), 50.0: Bar(3.0)}
PAIRED_HZ = 10.0
#: Runs per model at the other rates, where only the cost has a bar.
COST_RUNS = 6
VALUE = "windowed mean"
LOAD = LoadSettings(warmup_min_secs=0.3, warmup_runs=10, min_duration_secs=2.05, min_query_count=20, max_duration_secs=30.0)


@dataclass(frozen=True)
class Case:
    """One model of some size, its runtime, the interpreter of its runner, and what it takes."""

    model: Path
    runtime: str
    python: Path
    shape: tuple[int, ...]
    dtype: str


#: About 60 µs, 0.9 ms and 10 ms a query.
CASES = (
    Case(DIGITS / "onnx_fp32.onnx", "onnx", AGENT_PYTHON, (8, 8, 1), "float32"),
    Case(DIGITS / "tflite_dynamic.tflite", "tflite", AGENT_PYTHON, (8, 8, 1), "float32"),
    Case(HEAVY_MODEL, "tflite", LITERT_PYTHON, (192, 192, 8), "int8"),
)


def measure(plan: Plan) -> Figure:
    """Run the real supervisor and runner with sampling and without in turn, on a board of thirty channels; then at the other rates."""
    packages = ("numpy", "onnxruntime", "tflite-runtime", "ai-edge-litert")
    facts: dict[str, Any] = {"agent": versions(AGENT_PYTHON, packages), "agent-litert": versions(LITERT_PYTHON, packages)}
    board = plan.scratch / "sys"
    board_files.write(board)
    runs = AgentRuns(AGENT_PYTHON, plan.scratch / "telemetry", board)
    rows: list[Row] = []
    for case in CASES:
        rows += _measure(case, runs, plan, facts)
    return Figure("telemetry", "Does sampling disturb what it watches, and what does it cost?", tuple(rows), facts)


def _measure(case: Case, runs: AgentRuns, plan: Plan, facts: dict[str, Any]) -> list[Row]:
    off_request = _request(case, runs, plan)
    outcomes: dict[float, list[RunOutcome]] = {hertz: [] for hertz in COST_BARS}

    def off() -> Measurement:
        return runs.latency(off_request)[0]

    def on(hertz: float = PAIRED_HZ) -> Measurement:
        measured, outcome = runs.latency(dataclasses.replace(off_request, telemetry_hz=hertz))
        outcomes[hertz].append(outcome)
        return measured

    rounds = interleave(off, on, plan.pairs, plan.seed)
    rows = [
        Row(
            what=f"{VALUE} invoke of {case.model.name}, {PAIRED_HZ:g} Hz sampling over none",
            unit="µs",
            judgement=judge_ratio(rounds, VALUE, RATIO_BAR),
            baseline=median(item.baseline[VALUE] for item in rounds) / 1e3,
            candidate=median(item.candidate[VALUE] for item in rounds) / 1e3,
        )
    ]
    for hertz, bar in COST_BARS.items():
        if hertz != PAIRED_HZ:
            for _ in range(COST_RUNS):
                on(hertz)
        costs = [_percent_of_core(_cost(outcome)) for outcome in outcomes[hertz]]
        rows.append(Row(f"the supervisor's CPU time beside {case.model.name} at {hertz:g} Hz", "% of one core", judge_value(costs, bar)))
        facts[f"{case.model.name} at {hertz:g} Hz"] = _facts(outcomes[hertz])
    return rows


def _request(case: Case, runs: AgentRuns, plan: Plan) -> RunRequest:
    inputs_file = plan.scratch / f"{case.model.name}.npy"
    inputs = random_inputs(inputs_file, case.shape, case.dtype, 16, plan.seed)
    request = latency_request("bench", case.model, case.runtime, inputs, LOAD, [], 0.0, [str(case.python)])
    runs.push(case.model, request.model)
    runs.push(inputs_file, inputs.content)
    return request


def _cost(outcome: RunOutcome) -> SamplingCost:
    assert outcome.sampling is not None, "a run that samples tells its cost"
    return outcome.sampling


def _percent_of_core(cost: SamplingCost) -> float:
    return 100 * cost.cpu_secs / cost.wall_secs


def _facts(outcomes: list[RunOutcome]) -> dict[str, Any]:
    costs = [_cost(outcome) for outcome in outcomes]
    return {
        "channels": sum(sensor.error is None for sensor in outcomes[-1].sensors),
        "rounds": sum(cost.rounds for cost in costs),
        "late_rounds": sum(cost.late_rounds for cost in costs),
        "longest_late_secs": round(max(cost.longest_late_secs for cost in costs), 4),
        "shares_core": sorted({bool(cost.shares_core) for cost in costs}),
    }
