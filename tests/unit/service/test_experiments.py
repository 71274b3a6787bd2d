"""Experiments as a user asks for them: by name, how far they are, what they wait for, and to stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.service.experiments import UnknownExperiment, cancel, find_experiment, list_experiments, progress, unfinished
from orchestrator.store.database import read_session, session
from orchestrator.store.locks import hold_lock
from orchestrator.store.tables import Device, Experiment, Job, StateChange
from orchestrator.worker.presence import presence_name
from tests.unit.service.lab import Cell, Lab, predictions


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """Two finished experiments, the newer one called as the older one, and a gateway that is served."""
    lab.add_experiment("aa11", [Cell("fp32", predictions())], name="digits", age_secs=100.0)
    lab.add_experiment("aa22", [Cell("fp32", predictions())], name="digits")
    assert hold_lock(lab.context.engine, presence_name("local"), "a worker", lab.context.clock(), 3600.0)
    return lab


def change(lab: Lab, table: Any, *where: Any, **values: Any) -> None:
    with session(lab.context.engine) as opened:
        opened.execute(update(table).where(*where).values(**values))


def reopen(lab: Lab, experiment_id: str = "aa22") -> None:
    """Let an experiment be as before its first job."""
    change(lab, Experiment, col(Experiment.id) == experiment_id, finished_at=None)
    change(
        lab, Job, col(Job.experiment_id) == experiment_id, state=JobState.SUBMITTED, outcome=None, finished_at=None, fence=None, attempts=0
    )


def jobs(lab: Lab, experiment_id: str = "aa22") -> list[Job]:
    with read_session(lab.context.engine) as opened:
        return list(opened.exec(select(Job).where(col(Job.experiment_id) == experiment_id).order_by(col(Job.id))).all())


@pytest.mark.parametrize(("wanted", "found"), [("aa11", "aa11"), ("aa2", "aa22"), ("digits", "aa22"), ("last", "aa22")])
def test_an_experiment_is_found_by_its_id_its_beginning_its_name_or_as_the_last(lab: Lab, wanted: str, found: str) -> None:
    assert find_experiment(lab.context, wanted) == found


@pytest.mark.parametrize(("wanted", "said"), [("aa", "aa11, aa22"), ("zz", "no experiment"), ("a%", "no experiment"), ("", "several")])
def test_what_names_none_or_several_is_refused(lab: Lab, wanted: str, said: str) -> None:
    with pytest.raises(UnknownExperiment, match=said):
        find_experiment(lab.context, wanted)


def test_an_id_that_begins_another_is_itself(lab: Lab) -> None:
    lab.add_experiment("aa1", [Cell("fp32", predictions())], name="other")
    assert find_experiment(lab.context, "aa1") == "aa1"


def test_the_list_begins_with_the_newest_and_counts_outcomes(lab: Lab) -> None:
    newest, older = list_experiments(lab.context)
    assert (newest.id, older.id) == ("aa22", "aa11")
    assert newest.counts == {"completed": newest.job_count}
    assert newest.state == "finished"
    assert [item.id for item in list_experiments(lab.context, limit=1)] == ["aa22"]
    assert unfinished(lab.context) == []


def test_cancel_ends_what_waits_tells_what_runs_to_stop_and_says_who_asked(lab: Lab) -> None:
    reopen(lab)
    first, *rest = jobs(lab)
    change(lab, Job, col(Job.id) == first.id, state=JobState.RUNNING, fence=3)
    assert unfinished(lab.context) == ["aa22"]
    context = replace(lab.context, actor="ann")
    assert cancel(context, "digits") == 1 + len(rest)
    after = {job.id: (job.state, job.outcome) for job in jobs(lab)}
    assert after.pop(first.id) == (JobState.CANCELING, None)
    assert set(after.values()) == {(JobState.FINISHED, JobOutcome.CANCELED)}
    assert list_experiments(lab.context)[0].state == "canceling"
    with read_session(lab.context.engine) as opened:
        asked = opened.exec(select(StateChange).where(col(StateChange.actor) == "ann")).all()
    assert {change.subject for change in asked} == {"experiment", "job"}
    # Asking again does no harm, and a finished one is left as it is.
    assert cancel(context, "aa22") == 0
    assert cancel(context, "aa11") == 0
    assert {job.outcome for job in jobs(lab, "aa11")} == {JobOutcome.COMPLETED}


def test_one_job_is_canceled_alone(lab: Lab) -> None:
    reopen(lab)
    chosen = jobs(lab)[1]
    assert cancel(lab.context, chosen.id) == 1
    assert [job.outcome for job in jobs(lab) if job.id != chosen.id] == [None] * (len(jobs(lab)) - 1)
    assert list_experiments(lab.context)[0].state == "running"


def test_progress_is_told_device_by_device_with_what_runs_there(lab: Lab) -> None:
    reopen(lab)
    first = jobs(lab)[0]
    seen = {"phase": "steady", "done": 10, "total": 40, "seconds_left": 3.0}
    change(lab, Job, col(Job.id) == first.id, state=JobState.RUNNING, fence=3, progress=seen)
    change(lab, Device, lease_job_id=first.id)
    told = progress(lab.context, "aa22")
    (line,) = told.devices
    assert (line.device, line.done, line.total, line.waiting_for) == ("bench", 0, len(jobs(lab)), None)
    assert line.running is not None
    assert (line.running.phase, line.running.done, line.running.total, line.running.seconds_left) == ("steady", 10, 40, 3.0)
    assert "fp32" in line.running.label
    assert (told.finished, told.blocked) == (False, None)


def test_an_experiment_is_over_only_when_its_device_is_clean(lab: Lab) -> None:
    change(lab, Device, lease_job_id=jobs(lab)[0].id)
    assert not progress(lab.context, "aa22").finished
    change(lab, Device, lease_job_id=None)
    assert progress(lab.context, "aa22").finished


def test_a_wait_that_no_person_can_end_by_waiting_is_told_as_blocked(lab: Lab) -> None:
    reopen(lab)
    change(lab, Device, health=DeviceHealth.UNKNOWN, health_reason="the link was cut")
    told = progress(lab.context, "aa22")
    assert told.blocked is None
    assert "the link was cut" in str(told.devices[0].waiting_for)
    change(lab, Device, health=DeviceHealth.BAD, health_reason="clock: 1970")
    told = progress(lab.context, "aa22")
    assert told.blocked == "bench is bad: clock: 1970"
    change(lab, Device, health=DeviceHealth.GOOD, lease_job_id="other-000001")
    assert progress(lab.context, "aa22").devices[0].waiting_for == "bench measures other-000001"


def test_a_wait_for_another_job_says_how_long_and_one_for_the_own_cap_says_so(lab: Lab) -> None:
    reopen(lab)
    other, own = jobs(lab, "aa11")[0], jobs(lab)[0]
    change(lab, Job, col(Job.id) == other.id, state=JobState.RUNNING, progress={"seconds_left": 100.0})
    change(lab, Device, lease_job_id=other.id)
    assert progress(lab.context, "aa22").devices[0].waiting_for == f"bench measures {other.id} (about 2 min left)"
    change(lab, Job, col(Job.experiment_id) == "aa22", device_id=None, device_query="all")
    change(lab, Device, lease_job_id=own.id)
    change(lab, Experiment, col(Experiment.id) == "aa22", max_devices=1)
    (line,) = progress(lab.context, "aa22").devices
    assert line.waiting_for == "one of its own devices to become free: the experiment holds 1, and its max_devices is 1"


def test_a_wait_for_a_gateway_that_nobody_serves_names_the_command(lab: Lab) -> None:
    reopen(lab)
    change(lab, Device, gateway="north")
    change(lab, Experiment, submitted_at=lab.context.clock() - 3600)
    (line,) = progress(lab.context, "aa22").devices
    assert line.waiting_for == "the gateway north, which nobody serves (edgematrix worker --gateway north)"
    assert hold_lock(lab.context.engine, presence_name("north"), "me", lab.context.clock(), 60.0)
    (line,) = progress(lab.context, "aa22").devices
    assert line.waiting_for == "the scheduler"


def test_a_job_without_a_device_yet_says_what_it_waits_for(lab: Lab) -> None:
    reopen(lab)
    change(lab, Job, col(Job.experiment_id) == "aa22", device_id=None, device_query="label.room == 'a'")
    (line,) = progress(lab.context, "aa22").devices
    assert line.device == "any free device"
    assert line.waiting_for == "a matching device to become free (bench do not match)"


def test_progress_of_nothing_is_refused(lab: Lab) -> None:
    with pytest.raises(UnknownExperiment):
        progress(lab.context, "zz")
