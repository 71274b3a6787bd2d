"""Figure: the same model, environment and thread count, measured by edgematrix and by ai_edge_litert's own ``litert-benchmark``."""

from __future__ import annotations

import json
import subprocess
from statistics import median

from agent.protocol import LoadSettings
from benchmarks.agent_runs import AgentRuns
from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio
from benchmarks.plan import HEAVY_MODEL, LITERT_PYTHON, Figure, Plan, Row, versions
from benchmarks.requests import latency_request, random_inputs

BAR = Bar(1.05, 0.95)
#: The comparison is for models that take at least this long.
LEAST_NS = 5_000_000
WARMUP_RUNS, RUNS = 10, 100
LOAD = LoadSettings(warmup_min_secs=0.0, warmup_runs=WARMUP_RUNS, min_duration_secs=0.0, min_query_count=RUNS, max_duration_secs=60.0)


def measure(plan: Plan) -> Figure:
    """Alternate whole runs of the two: as many warm-ups and queries each, medians compared. The peer tells times to 0.01 ms."""
    facts = versions(LITERT_PYTHON, ("numpy", "ai-edge-litert"))
    runs = AgentRuns(LITERT_PYTHON, plan.scratch / "peer")
    inputs_file = plan.scratch / "peer.npy"
    inputs = random_inputs(inputs_file, (192, 192, 8), "int8", 4, plan.seed)
    request = latency_request("bench", HEAVY_MODEL, "tflite", inputs, LOAD, [], 10.0, [str(LITERT_PYTHON)])
    runs.push(HEAVY_MODEL, request.model)
    runs.push(inputs_file, inputs.content)
    result_file = plan.scratch / "peer.json"

    def peer() -> Measurement:
        command = [str(LITERT_PYTHON), "-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={HEAVY_MODEL}"]
        command += [f"--num_runs={RUNS}", f"--warmup_runs={WARMUP_RUNS}", "--num_threads=1", f"--result_json={result_file}"]
        subprocess.run(command, capture_output=True, check=True)
        told = json.loads(result_file.read_text(encoding="utf-8"))["latency"]
        return {"median": told["median_ms"] * 1e6, "mean": told["avg_ms"] * 1e6}

    rounds = interleave(peer, lambda: runs.latency(request)[0], plan.pairs, plan.seed)
    baseline = median(item.baseline["median"] for item in rounds)
    row = Row(
        what=f"median invoke of {HEAVY_MODEL.name}, edgematrix over litert-benchmark",
        unit="ms",
        judgement=judge_ratio(rounds, "median", BAR),
        baseline=baseline / 1e6,
        candidate=median(item.candidate["median"] for item in rounds) / 1e6,
        applies=baseline >= LEAST_NS,
        note="" if baseline >= LEAST_NS else "under 5 ms here: the bar does not apply",
    )
    return Figure("peer", "Do we measure what the runtime's own tool measures?", (row,), {"agent-litert": facts})
