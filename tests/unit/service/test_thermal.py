"""A soak is found by whatever a user types, and told from what its attempts left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.service import thermal
from orchestrator.service.experiments import UnknownExperiment
from orchestrator.service.thermal_conditions import conditions_of, differing
from tests.unit.analysis.soaks import Board
from tests.unit.service.soak_lab import HOT, SoakLab, make_soak_lab

LOST = {"class": "infrastructure", "code": "run_lost", "message": "the run is gone", "remedy": "run it again"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SoakLab]:
    made = make_soak_lab(tmp_path / "home", tmp_path)
    made.add_device("bench")
    yield made
    made.context.engine.dispose()


def test_a_soak_is_found_by_its_id_its_beginning_and_its_experiment(lab: SoakLab) -> None:
    experiment = lab.submit(lab.write_spec())
    (job,) = lab.jobs(experiment)
    assert {thermal.find_soak(lab.context, text) for text in (job, experiment, experiment[:9], "last", "last:onnx-fp32")} == {job}


def test_what_means_several_soaks_or_none_says_so(lab: SoakLab) -> None:
    experiment = lab.submit(lab.write_spec(repeats=2))
    with pytest.raises(thermal.NoSoak, match="means 2 soaks"):
        thermal.find_soak(lab.context, experiment)
    with pytest.raises(UnknownExperiment, match="no job and no experiment begins with 'nothing'"):
        thermal.find_soak(lab.context, "nothing")


def test_the_story_is_told_from_the_traces(lab: SoakLab) -> None:
    (job,) = lab.jobs(lab.submit(lab.write_spec()))
    truth = lab.measure(job)
    story = thermal.story(lab.context, job)
    assert story.complete
    assert story.throttled
    assert truth.trip_secs is not None
    assert story.onset is not None
    assert abs(story.onset.at_secs - truth.trip_secs) <= 0.2
    assert story.ambient_c == 25


def test_a_soak_that_has_not_run_has_nothing_to_tell(lab: SoakLab) -> None:
    (job,) = lab.jobs(lab.submit(lab.write_spec()))
    with pytest.raises(thermal.NoTrace, match="left nothing"):
        thermal.load_soak(lab.context, job)


def test_a_lost_run_is_told_as_far_as_it_came_and_marked(lab: SoakLab) -> None:
    (job,) = lab.jobs(lab.submit(lab.write_spec()))
    lab.lose(job, LOST, until_secs=40.0)
    loaded = thermal.load_soak(lab.context, job)
    story = thermal.tell_soak(loaded)
    assert not story.complete
    assert story.steady_secs == pytest.approx(40.0, abs=1.0)
    (line,) = loaded.attempts
    assert (line.status, line.kept, line.complete) == ("lost", True, False)
    with pytest.raises(thermal.NoTrace, match="no attempt 7"):
        thermal.load_soak(lab.context, job, 7)


def test_conditions_are_read_out_of_the_attempt(lab: SoakLab) -> None:
    jobs = lab.jobs(lab.submit(lab.write_spec(repeats=2)))
    lab.conditions = {"kernel": {"release": "6.6.1"}, "environment_digest": "e" * 64, "power_mode": "MODE_15W"}
    lab.measure(jobs[0], start={"frequency": {"policy0": {"governor": "performance"}, "policy4": {"governor": "performance"}}})
    lab.measure(jobs[1], Board(trip_c=60.0, ambient_c=30.0), power_mode={"name": "MODE_30W", "id": 2})
    found = {}
    for job in jobs:
        loaded = thermal.load_soak(lab.context, job)
        found[job] = conditions_of(loaded, thermal.tell_soak(loaded))
    first = found[jobs[0]]
    assert (first.device, first.kernel, first.governor, first.power_mode) == ("bench", "6.6.1", "performance", "MODE_15W")
    assert first.fan == "running"
    assert first.supply_under_voltage is None
    assert first.start_c == pytest.approx(HOT.ambient_c + 12, abs=1)
    apart = differing(found)
    assert apart["power_mode"] == {jobs[0]: "MODE_15W", jobs[1]: "id 2, name MODE_30W"}
    assert "kernel" not in apart
    assert "governor" not in apart, "it is known of one run only"
