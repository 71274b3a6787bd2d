"""The part of the invoke figure that runs in a device's environment: the agent's query loop against a bare loop, in one process.

``python -m benchmarks.invoke_loops JSON`` prints one JSON document. Both loops use the same loaded model, the same prepared inputs in the
same turn and one thread, so that what differs is the harness alone. The bare loop is the least a person would write: hand over the
input, read ``perf_counter_ns``, invoke, read it again. It fetches no TFLite output, keeps no stamps but the difference, writes no file.
The harness is the agent's own: the runner's pipeline, :func:`agent.loadgen.run_latency`, a real spool and a real progress file.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent import protocol, runner
from agent.loadgen import run_latency
from agent.recorder import ProgressFile, QueryRecorder
from agent.runtimes import create
from agent.spool import SpoolWriter, read_spool
from benchmarks.pairs import Measurement, interleave
from benchmarks.requests import latency_request, random_inputs

WARMUP_SECS = 0.05
SAMPLES = 64


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure one model; returns the rounds and what was found about the runtime."""
    with tempfile.TemporaryDirectory() as scratch:
        return _measure(arguments, Path(scratch))


def _measure(arguments: dict[str, Any], scratch: Path) -> dict[str, Any]:
    model = Path(arguments["model"])
    inputs_ref = random_inputs(scratch / "inputs.npy", tuple(arguments["shape"]), arguments["dtype"], SAMPLES, arguments["seed"])
    load = protocol.LoadSettings(
        warmup_min_secs=WARMUP_SECS, warmup_runs=3, min_duration_secs=arguments["secs"], min_query_count=10, max_duration_secs=60.0
    )
    request = latency_request("bench", model, arguments["runtime"], inputs_ref, load, arguments["steps"], 0.0, [sys.executable])
    runtime = create(request.runtime, request.settings)
    runtime.load(model)
    samples = list(np.load(scratch / "inputs.npy"))
    pipeline = runner._pipeline(runtime, request, samples[0])
    batches = [pipeline.prepare(sample).copy() for sample in samples]
    bare = _bare_loop(runtime, batches, arguments["secs"])
    number = iter(range(10**6))
    own_cost_ns: list[float] = []

    def harness() -> Measurement:
        path = scratch / f"queries{next(number)}.spool"
        progress = ProgressFile(scratch / "progress")
        with SpoolWriter(path, protocol.QUERIES, protocol.QUERY_COLUMNS) as writer:
            recorder = QueryRecorder(writer, len(samples), time.monotonic_ns(), time.monotonic_ns)
            result = run_latency(pipeline, samples, request.load, recorder, time.monotonic_ns, lambda: False, progress.write)
        progress.close()
        columns = read_spool(path).columns
        path.unlink()
        steady = columns["phase"] == protocol.PHASES.index("steady")
        busy_ns = sum(int(columns[name][steady].sum(dtype=np.uint64)) for name in ("pre_ns", "invoke_ns", "post_ns"))
        own_cost_ns.append((result.steady_ns - busy_ns) / result.steady_count)
        return _summary(columns["invoke_ns"][steady])

    rounds = interleave(bare, harness, arguments["pairs"], arguments["seed"])
    return {"rounds": [dataclasses.asdict(item) for item in rounds], "own_cost_ns": own_cost_ns, "runtime": runtime.facts()}


def _bare_loop(runtime: Any, batches: list[np.ndarray[Any, Any]], secs: float) -> Callable[[], Measurement]:
    """Return the bare measurement. It reaches into the adapter for the runtime's own objects: a second copy of the model in memory would
    differ by more than what is to be measured."""
    if runtime.name == "tflite":
        interpreter = runtime._interpreter
        index = interpreter.get_input_details()[0]["index"]

        def loop(until_ns: int, durations: list[int]) -> None:
            position = 0
            after = 0
            while after < until_ns:
                interpreter.set_tensor(index, batches[position])
                before = time.perf_counter_ns()
                interpreter.invoke()
                after = time.perf_counter_ns()
                durations.append(after - before)
                position = (position + 1) % len(batches)

    else:
        session = runtime._session
        name = runtime.inputs[0].name

        def loop(until_ns: int, durations: list[int]) -> None:
            position = 0
            after = 0
            while after < until_ns:
                feed = {name: batches[position]}
                before = time.perf_counter_ns()
                session.run(None, feed)
                after = time.perf_counter_ns()
                durations.append(after - before)
                position = (position + 1) % len(batches)

    def bare() -> Measurement:
        durations: list[int] = []
        gc.collect()
        gc.disable()
        try:
            loop(time.perf_counter_ns() + int(WARMUP_SECS * 1e9), [])
            loop(time.perf_counter_ns() + int(secs * 1e9), durations)
        finally:
            gc.enable()
        return _summary(np.array(durations))

    return bare


def _summary(invoke_ns: np.ndarray[Any, Any]) -> Measurement:
    return {"median": float(np.median(invoke_ns)), "mean": float(np.mean(invoke_ns)), "p90": float(np.percentile(invoke_ns, 90))}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
