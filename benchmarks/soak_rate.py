"""``python -m benchmarks.soak_rate``: a soak at 10,000 queries a second and more, through the whole embedded stack, and what it cost.

Proves, or says what fails: every query is kept (the trace's rows, the runner's count, and the samples' own order agree), the agent's memory
is flat, disk and transfer stay within their stated bounds, and the report of all of it draws at most a megabyte. Writes a dated summary;
exit code 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from plotly.offline import get_plotlyjs
from sqlmodel import select

from agent import protocol
from benchmarks import summary
from benchmarks.homes import open_home
from benchmarks.plan import AGENT_PYTHON, DIGITS, ORCHESTRATOR_PYTHON, REPOSITORY
from benchmarks.process_memory import Growth, HomeMemory, growth
from orchestrator.store.database import read_session
from orchestrator.store.tables import Attempt, Result
from orchestrator.store.traces import read_trace

RATE_QPS = 10_000.0
#: Of the agent's memory, from the first steady minute to the last: the noise of an allocator, far below what a list of queries would take.
GROWTH_BYTES = 4_000_000
REPORT_DATA_BYTES = 1_000_000
#: A query takes four stamps of four bytes, a sample of four and a phase of one; blocks and probes add little.
BYTES_PER_QUERY = 22.0
_MODEL = "onnx_fp32.onnx"


@dataclass
class Proof:
    """What was found; ``problems`` is empty when everything holds. Sizes in bytes."""

    minutes: float
    outcome: str = ""
    steady_secs: float = 0.0
    runner_count: int = 0
    trace_count: int = 0
    rate_qps: float = 0.0
    sample_breaks: int = 0
    overlaps: int = 0
    longest_gap_ms: float = 0.0
    flushes: dict[str, float] = field(default_factory=dict)
    probes: dict[str, float] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    runner_memory: Growth | None = None
    supervisor_memory: Growth | None = None
    spools: dict[str, int] = field(default_factory=dict)
    bytes_per_query: float = 0.0
    bound_bytes: int = 0
    traces: dict[str, int] = field(default_factory=dict)
    after_the_run_secs: float = 0.0
    orchestrator_peaks: dict[str, int] = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def hold(self, is_true: bool, words: str) -> None:
        if not is_true:
            self.problems.append(words)


def main() -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_rate", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    parser.add_argument("--keep", type=Path, help="a new folder for the home, which then stays; it holds the spec and the report, too")
    asked = parser.parse_args()
    now = datetime.now(UTC)
    if asked.keep is not None:
        asked.keep.mkdir(parents=True)
        proof = prove(asked.keep, asked.minutes)
    else:
        with tempfile.TemporaryDirectory(prefix="edgematrix-soak-rate-") as scratch:
            proof = prove(Path(scratch), asked.minutes)
    path = summary.write_proof(_to_markdown(proof, now), asdict(proof), asked.output, now, "soak-rate")
    print(path.read_text(encoding="utf-8"))
    print(f"written to {path}", file=sys.stderr)
    return int(bool(proof.problems))


def prove(scratch: Path, minutes: float) -> Proof:
    """Run one soak below ``scratch`` and check everything about it."""
    proof = Proof(minutes)
    home, spec = scratch / "home", scratch / "soak.yaml"
    spec.write_text(yaml.safe_dump(_spec(minutes)), encoding="utf-8")
    memory = HomeMemory(home)
    with (scratch / "run.log").open("w") as log:
        command = subprocess.Popen(_edgematrix("run", str(spec), "--no-report"), env=_environment(home), stdout=log, stderr=log)
        memory.watch(command)
    proof.outcome = f"exit code {command.returncode}"
    proof.hold(command.returncode == 0, f"edgematrix run ended with {command.returncode}: {(scratch / 'run.log').read_text()[-2000:]}")
    proof.after_the_run_secs = round(memory.after_agent_secs, 1)
    proof.orchestrator_peaks = memory.orchestrator_peaks
    for name in ("runner", "supervisor"):
        found = growth(memory.of(name))
        setattr(proof, f"{name}_memory", found)
        proof.hold(found is not None, f"the {name}'s memory was not seen often enough")
        if found is not None:
            proof.hold(found.grown_bytes <= GROWTH_BYTES, f"the {name}'s memory grew by {found.grown_bytes} bytes in {found.secs:.0f} s")
    if command.returncode == 0:
        _check_traces(proof, home)
        _check_report(proof, home, scratch / "report.html")
    return proof


def _check_traces(proof: Proof, home: Path) -> None:
    context = open_home(home)
    with read_session(context.engine) as session:
        result, attempt = session.exec(select(Result)).one(), session.exec(select(Attempt)).one()
    outcome = protocol.from_json(protocol.RunOutcome, json.dumps(attempt.outcome_message))
    runner = outcome.runner
    assert runner is not None
    assert runner.soak is not None
    proof.steady_secs, proof.runner_count = runner.steady_ns / 1e9, runner.steady_count
    proof.rate_qps = runner.steady_count / proof.steady_secs
    proof.spools = {name: content.size_bytes for name, content in outcome.streams.items()}
    proof.traces = {name: int(trace["size_bytes"]) for name, trace in result.traces.items()}
    proof.bound_bytes = protocol.SoakSettings(1.0).max_queries_bytes
    proof.flushes = {
        "count": runner.flush_count,
        "share_percent": 100 * runner.flush_total_ns / runner.steady_ns,
        "longest_ms": runner.flush_longest_ns / 1e6,
    }
    proof.probes = {"rounds": runner.soak.probe_rounds, "share_percent": 100 * runner.soak.probe_ns / runner.steady_ns}
    queries = read_trace(context.artifacts, result.traces[protocol.QUERIES]["sha256"])
    context.engine.dispose()
    proof.bytes_per_query = proof.spools[protocol.QUERIES] / len(queries["phase"])
    steady = queries["phase"] == protocol.PHASES.index("steady")
    proof.trace_count = int(steady.sum())
    # The samples were asked in turn: one query that is missing, or is there twice, breaks their order.
    samples = queries["sample"][steady].astype(np.int64)
    count = int(samples.max()) + 1
    proof.sample_breaks = int(((samples[1:] - samples[:-1]) % count != 1).sum())
    ends = queries["start_ns"] + queries["pre_ns"] + queries["invoke_ns"] + queries["post_ns"]
    gaps_ns = (queries["start_ns"][1:].astype(np.int64) - ends[:-1].astype(np.int64))[steady[:-1]]
    proof.overlaps, proof.longest_gap_ms = int((gaps_ns < 0).sum()), float(gaps_ns.max()) / 1e6
    rows = {name: int((queries["phase"] == protocol.PHASES.index(name)).sum()) for name in ("warmup", "probe", "precondition")}
    proof.hold(runner.soak.stopped is None, f"the soak stopped early: {runner.soak.stopped}")
    proof.hold(proof.steady_secs >= 60 * proof.minutes, f"it lasted {proof.steady_secs:.1f} s only")
    proof.hold(proof.rate_qps >= RATE_QPS, f"{proof.rate_qps:.0f} queries a second; {RATE_QPS:.0f} are wanted")
    proof.hold(
        proof.trace_count == proof.runner_count, f"the trace has {proof.trace_count} steady queries, the runner {proof.runner_count}"
    )
    proof.hold(rows["warmup"] == runner.warmup_count and rows["probe"] == runner.soak.probe_count, f"other phases differ: {rows}")
    proof.hold(proof.sample_breaks == 0, f"the order of samples breaks {proof.sample_breaks} times")
    proof.hold(proof.overlaps == 0, f"{proof.overlaps} queries begin before the one before them ended")
    proof.hold(proof.bytes_per_query <= BYTES_PER_QUERY, f"a query takes {proof.bytes_per_query:.2f} bytes")
    proof.hold(proof.spools[protocol.QUERIES] <= proof.bound_bytes, "the queries spool is beyond its bound")
    _check_story(proof, home, (ends[steady] - queries["start_ns"][steady][0]) / 1e9)


def _check_story(proof: Proof, home: Path, end_secs: np.ndarray[Any, Any]) -> None:
    """What the report draws is told from every query: the windows' completions are counted again from the stamps."""
    done = subprocess.run(_edgematrix("thermal", "show", "last", "--json"), env=_environment(home), capture_output=True, check=False)
    proof.hold(done.returncode == 0, f"edgematrix thermal show ended with {done.returncode}: {done.stderr.decode()[-1000:]}")
    if done.returncode:
        return
    windows = json.loads(done.stdout)["story"]["windows"]
    told = sum(window["completions"] for window in windows)
    counted = int((end_secs <= windows[-1]["end_secs"]).sum()) if windows else 0
    proof.windows = {"count": len(windows), "completions": told, "counted_again": counted}
    # A query may end on the very border of the last window.
    proof.hold(bool(windows) and abs(told - counted) <= 1, f"the windows hold {told} queries, the stamps {counted}")


def _check_report(proof: Proof, home: Path, path: Path) -> None:
    started = time.monotonic()
    process = subprocess.Popen(_edgematrix("report", "last", "--output", str(path)), env=_environment(home), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    proof.hold(process.returncode == 0, f"edgematrix report ended with {process.returncode}")
    if process.returncode:
        return
    page = path.read_text(encoding="utf-8")
    data_bytes = len(page.encode()) - len(get_plotlyjs().encode())
    proof.report = {
        "secs": round(time.monotonic() - started, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
        "file_bytes": path.stat().st_size,
        "data_bytes": data_bytes,
    }
    proof.hold(data_bytes <= REPORT_DATA_BYTES, f"the report holds {data_bytes} bytes beside its script")


def _spec(minutes: float) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "soak-rate",
        "models": [
            {
                "name": "digits",
                "task": {"kind": "classification", "scores": "logits"},
                "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x", "labels": "y"},
                "reference": "small",
                "variants": [{"name": "small", "file": str(DIGITS / _MODEL), "runtime": "onnx", "precision": "fp32"}],
            }
        ],
        "scenarios": {"soak": {"duration_secs": 60 * minutes, "idle_secs": 2, "cooldown": {"secs": 5}}},
        "limits": {"timeout_secs": 120, "max_attempts": 1},
    }


def _edgematrix(*arguments: str) -> list[str]:
    return [str(ORCHESTRATOR_PYTHON), "-m", "orchestrator.cli", *arguments]


def _environment(home: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
    ours = {"EDGEMATRIX_HOME": str(home), "EDGEMATRIX_AGENT_PYTHON": str(AGENT_PYTHON), "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    return environment | ours


def _to_markdown(proof: Proof, now: datetime) -> str:
    cpu = summary.machine().get("cpu", {})
    report, spools = proof.report, proof.spools
    peaks = ", ".join(f"{name} {_mb(size)}" for name, size in proof.orchestrator_peaks.items())
    drawn = [_mb(report.get(name, 0)) for name in ("data_bytes", "file_bytes", "peak_bytes")]
    lines = [
        f"# A soak at a high rate, {now:%Y-%m-%d %H:%M} UTC: {'holds' if not proof.problems else 'FAILS'}",
        "",
        f"{_MODEL}, one thread, {proof.minutes:g} minutes flat out with probes, through the whole embedded stack.",
        f"Commit {summary.commit()}. Machine: {cpu.get('model', 'unknown CPU')}, {cpu.get('usable_count', '?')} CPUs.",
        "",
        "| what | found | bar |",
        "|---|---|---|",
        f"| queries a second over {proof.steady_secs:.1f} s | {proof.rate_qps:.0f} | ≥ {RATE_QPS:.0f} |",
        f"| steady queries counted by the runner; in the trace | {proof.runner_count}; {proof.trace_count} | equal |",
        f"| breaks in the order of samples; queries that overlap | {proof.sample_breaks}; {proof.overlaps} | 0; 0 |",
        f"| longest time between two queries | {proof.longest_gap_ms:.1f} ms | |",
        f"| completions in {proof.windows.get('count', 0)} windows of the story; counted from the stamps |"
        f" {proof.windows.get('completions', 0)}; {proof.windows.get('counted_again', 0)} | equal |",
        f"| memory of the runner | {_words(proof.runner_memory)} | growth ≤ {_mb(GROWTH_BYTES)} |",
        f"| memory of the supervisor | {_words(proof.supervisor_memory)} | growth ≤ {_mb(GROWTH_BYTES)} |",
        f"| the queries spool | {_mb(spools.get('queries', 0))} | ≤ {_mb(proof.bound_bytes)} |",
        f"| bytes per query | {proof.bytes_per_query:.2f} | ≤ {BYTES_PER_QUERY:g} |",
        f"| all spools, each sent once; as traces | {_mb(sum(spools.values()))}; {_mb(sum(proof.traces.values()))} | |",
        f"| highest memory of the orchestrator's processes | {peaks} | |",
        f"| from the agent's end to the end of the command | {proof.after_the_run_secs} s | |",
        f"| the report's data beside its script | {drawn[0]} | ≤ {_mb(REPORT_DATA_BYTES)} |",
        f"| the report: file; time; memory | {drawn[1]}; {report.get('secs', 0)} s; {drawn[2]} | |",
        f"| pauses for writing: share; longest | {proof.flushes['share_percent']:.3f} %; {proof.flushes['longest_ms']:.1f} ms | |"
        if proof.flushes
        else "",
        f"| probes: rounds; share of the time | {proof.probes['rounds']:.0f}; {proof.probes['share_percent']:.3f} % | |"
        if proof.probes
        else "",
        "",
    ]
    if proof.problems:
        lines += ["## Problems", "", *(f"- {problem}" for problem in proof.problems), ""]
    return "\n".join(lines)


def _words(found: Growth | None) -> str:
    if found is None:
        return "unknown"
    slope = f"{found.slope_bytes_per_min / 1e3:+.1f} kB/min"
    return f"{_mb(found.first_bytes)} → {_mb(found.last_bytes)}, highest {_mb(found.highest_bytes)}, {slope}"


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
