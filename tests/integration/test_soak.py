"""A short soak of this computer through the whole stack, as a user runs it."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.traces import read_trace
from tests.integration.running import GOOD, Home, write_spec

SOAK: dict[str, Any] = {
    "duration_secs": 7,
    "window_secs": 1,
    "idle_secs": 1,
    "precondition": {"secs": 1},
    "probe": {"samples": 8, "every_secs": 1, "cold_rounds": 3},
    "cooldown": {"secs": 1},
}


def test_a_soak_keeps_every_query_and_says_what_was_left_of_the_speed_and_that_the_numbers_stayed(home: Home) -> None:
    ended = home.run_spec(write_spec(home.specs, [GOOD], scenarios={"soak": SOAK}))
    assert ended.code == 0, ended.stderr
    (job,) = home.jobs()
    assert (job.outcome, job.scenario, job.attempts, job.results) == ("completed", "soak", 1, 1)
    ((message,),) = home.query("SELECT outcome_message FROM attempt WHERE job_id = ?", job.id)
    runner = json.loads(message)["runner"]
    ((traces,),) = home.query("SELECT traces FROM result WHERE job_id = ?", job.id)
    found = {name: trace["rows"] for name, trace in json.loads(traces).items()}
    soak = runner["soak"]
    asked = 1 + soak["precondition_count"] + runner["warmup_count"] + runner["steady_count"] + soak["probe_count"]
    assert found["queries"] == asked
    assert found["probes"] == soak["probe_count"] == 8 * soak["probe_rounds"]
    assert soak["probe_rounds"] >= 6
    assert home.metric(job, "query_count") == runner["steady_count"]
    assert home.metric(job, "probe_changed_samples") == 0.0
    burst, sustained, share = (home.metric(job, name) for name in ("burst_qps", "sustained_qps", "sustained_burst"))
    assert burst is not None
    assert sustained is not None
    assert share is not None
    assert abs(share - sustained / burst) < 1e-9
    events = read_trace(ArtifactStore(str(home.path / "artifacts")), json.loads(traces)["events"]["sha256"])
    assert len(events["code"]) >= 4, "start, end, and the cool-down from beginning to end"


def test_a_recorded_pattern_is_read_when_it_is_submitted_and_its_mistakes_are_told_with_their_lines(home: Home) -> None:
    (home.specs / "camera.csv").write_text("arrival_secs\n0.0\n0.2\n0.1\n")
    pattern = {"recorded": {"file": "camera.csv", "cycle_secs": 1}}
    spec = write_spec(home.specs, [GOOD], scenarios={"soak": SOAK | {"duration_secs": 3, "pattern": pattern, "cooldown": {"secs": 0}}})
    refused = home.run("spec", "check", spec)
    assert refused.code == 2
    assert "camera.csv, line 4: 0.1 s is before the 0.2 s above it" in refused.stderr
    (home.specs / "camera.csv").write_text("arrival_secs\n0.0\n0.1\n0.2\n")
    planned = home.run("run", spec, "--dry-run")
    assert planned.code == 0
    assert "about 9 queries" in planned.stderr
    assert home.run_spec(spec).code == 0
    (job,) = home.jobs()
    count = home.metric(job, "query_count")
    dropped = home.metric(job, "dropped_count")
    assert count is not None
    assert dropped is not None
    assert count + dropped <= 9.0
    assert count >= 1.0
