"""Figure: what reading the sensors ten times a second does to the latency of the run beside it."""

from __future__ import annotations

import dataclasses
from statistics import median

from agent.protocol import LoadSettings, RunOutcome
from benchmarks.agent_runs import AgentRuns
from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio
from benchmarks.plan import AGENT_PYTHON, DIGITS, Figure, Plan, Row, versions
from benchmarks.requests import latency_request, random_inputs

BAR = Bar(1.01)
HERTZ = 10.0
LOAD = LoadSettings(warmup_min_secs=0.2, warmup_runs=10, min_duration_secs=1.0, min_query_count=100, max_duration_secs=30.0)


def measure(plan: Plan) -> Figure:
    """Run the real supervisor and runner with ``telemetry_hz`` 10 and 0 in turn.

    Judged by the median and by the mean: a pause in one query of a thousand shows in the mean alone.
    """
    facts = versions(AGENT_PYTHON, ("numpy", "onnxruntime", "psutil"))
    runs = AgentRuns(AGENT_PYTHON, plan.scratch / "telemetry")
    inputs_file = plan.scratch / "telemetry.npy"
    inputs = random_inputs(inputs_file, (8, 8, 1), "float32", 64, plan.seed)
    model = DIGITS / "onnx_fp32.onnx"
    off_request = latency_request("bench", model, "onnx", inputs, LOAD, [], 0.0, [str(AGENT_PYTHON)])
    on_request = dataclasses.replace(off_request, telemetry_hz=HERTZ)
    runs.push(model, off_request.model)
    runs.push(inputs_file, inputs.content)
    outcomes: list[RunOutcome] = []

    def off() -> Measurement:
        return runs.latency(off_request)[0]

    def on() -> Measurement:
        measured, outcome = runs.latency(on_request)
        outcomes.append(outcome)
        return measured

    rounds = interleave(off, on, plan.pairs, plan.seed)
    rows = tuple(
        Row(
            what=f"{value} invoke of {model.name}, {HERTZ:g} Hz telemetry over none",
            unit="µs",
            judgement=judge_ratio(rounds, value, BAR),
            baseline=median(item.baseline[value] for item in rounds) / 1e3,
            candidate=median(item.candidate[value] for item in rounds) / 1e3,
        )
        for value in ("median", "mean")
    )
    sensors = [sensor.name for sensor in outcomes[-1].sensors]
    return Figure("telemetry", "Does sampling disturb what it watches?", rows, {"agent": facts, "sensors": sensors})
