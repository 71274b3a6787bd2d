"""What must hold after chaos, read from the boards' own records and from the database. Each finding is a sentence with its evidence."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sqlmodel import Session, col, func, select

from agent import custody
from orchestrator.domain.states import ErrorClass, JobOutcome, JobState
from orchestrator.store.tables import Attempt, Device, Job, Result, StateChange

#: A run is over when its supervisor has said so, or when whoever found it lost has made sure that both its processes are gone.
_CLOSING = (custody.RELEASED, custody.FOUND_GONE)


@dataclass(frozen=True)
class Line:
    """One line of a board's own record."""

    event: str
    run: str
    fence: int | None
    monotonic_ns: int
    boot: str


@dataclass(frozen=True)
class Held:
    """The time for which a run may have used a board, at most."""

    run: str
    fence: int | None
    since_ns: int
    until_ns: int
    taken: int
    released: bool


def read_custody(root: Path) -> list[Line]:
    """Read a board's record, the log put aside first. Raises ValueError for a line that is none."""
    lines = []
    for name in (custody.OLD_LOG_FILE, custody.LOG_FILE):
        path = root / name
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            told = json.loads(text)
            lines.append(Line(told["event"], told["run"], told["fence"], int(told["monotonic_ns"]), told["boot"]))
    return lines


def held_by(lines: Sequence[Line], board: str) -> tuple[dict[str, Held], list[str]]:
    """Who held the board when, by its own record, and what is wrong with that: two at once, one that ran on, one that never ended."""
    problems = [f"{board}: its record spans a restart"] if len({line.boot for line in lines}) > 1 else []
    by_run: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_run[line.run].append(line)
    held: dict[str, Held] = {}
    for run, own in by_run.items():
        events = Counter(line.event for line in own)
        closed = min((line.monotonic_ns for line in own if line.event in _CLOSING), default=None)
        if closed is None:
            problems.append(f"{board}: nothing says that {run} ever ended")
        # A run that is found gone may be found again; whatever else it does after its end is life after death.
        late = [line.event for line in own if closed is not None and line.monotonic_ns > closed and line.event != custody.FOUND_GONE]
        problems += [f"{board}: {run} noted {event} after its end" for event in late]
        for event in (custody.TAKEN, custody.RUNNER_STARTED):
            if events[event] > 1:
                problems.append(f"{board}: {run} has {events[event]} lines {event}: it was run more than once")
        fence = next((line.fence for line in own if line.event == custody.TAKEN), None)
        first, last = min(line.monotonic_ns for line in own), max(line.monotonic_ns for line in own)
        held[run] = Held(run, fence, first, closed if closed is not None else last, events[custody.TAKEN], events[custody.RELEASED] > 0)
    for one, following in pairwise(sorted((item for item in held.values() if item.taken), key=lambda item: item.since_ns)):
        if following.since_ns < one.until_ns:
            by = (one.until_ns - following.since_ns) / 1e9
            problems.append(f"{board}: held twice for {by:.3f} s by {one.run} and {following.run}")
        if one.fence is not None and following.fence is not None and following.fence <= one.fence:
            problems.append(f"{board}: {following.run} took it under fence {following.fence} after {one.run} under fence {one.fence}")
    return held, problems


@dataclass(frozen=True)
class Found:
    """What became of the matrix. ``picked_up``: by run, how many faults it outlived; ``problems``: what must not be."""

    jobs: int
    outcomes: dict[str, int]
    attempts: int
    retried: int
    errors: dict[str, int]
    picked_up: dict[str, int]
    adopted: int
    problems: list[str]


def judge(
    session: Session, held: Mapping[str, Mapping[str, Held]], cut_off: Mapping[str, int], killed: Sequence[str], max_attempts: int
) -> Found:
    """Check every job, attempt and device. ``held``: by board and run; ``cut_off``: how many faults cut off each run; ``killed``: runs."""
    jobs = session.exec(select(Job)).all()
    devices = {device.id: device for device in session.exec(select(Device)).all()}
    attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in session.exec(select(Attempt).order_by(col(Attempt.job_id), col(Attempt.number))).all():
        attempts[attempt.job_id].append(attempt)
    results = dict(session.execute(select(Result.job_id, Result.attempt)).all())
    endings = dict(
        session.execute(
            select(StateChange.subject_id, func.count())
            .where(col(StateChange.subject) == "job", col(StateChange.new) == JobState.FINISHED)
            .group_by(col(StateChange.subject_id))
        ).all()
    )
    problems: list[str] = [] if jobs else ["there was no job"]
    for job in jobs:
        problems += _job_problems(job, attempts[job.id], results.get(job.id), endings.get(job.id, 0), max_attempts)
    problems += [f"{device.name} is still leased to {device.lease_job_id}" for device in devices.values() if device.lease_job_id]
    every = [attempt for own in attempts.values() for attempt in own]
    problems += _overlaps(every, devices)
    problems += _survivors(every, devices, held, killed)
    completed = [attempt for attempt in every if attempt.status == JobOutcome.COMPLETED]
    picked_up = {run: cut_off[run] for attempt in completed if (run := f"{attempt.job_id}.{attempt.number}") in cut_off}
    adopted = [attempt for attempt in completed if int((attempt.outcome_message or {}).get("fence") or 0) > attempt.fence]
    return Found(
        jobs=len(jobs),
        outcomes=dict(Counter(str(job.outcome) for job in jobs)),
        attempts=len(every),
        retried=sum(len(own) > 1 for own in attempts.values()),
        errors=dict(Counter(str((attempt.error or {}).get("code")) for attempt in every if attempt.status == JobOutcome.ERROR)),
        picked_up=picked_up,
        adopted=len(adopted),
        problems=problems,
    )


def _job_problems(job: Job, attempts: Sequence[Attempt], result: int | None, endings: int, max_attempts: int) -> list[str]:
    problems = []
    if job.state != JobState.FINISHED or job.outcome not in (JobOutcome.COMPLETED, JobOutcome.ERROR):
        problems.append(f"{job.id} is {job.state} with the outcome {job.outcome}")
    if endings != 1:
        problems.append(f"{job.id} ended {endings} times")
    if [attempt.number for attempt in attempts] != list(range(1, job.attempts + 1)) or job.attempts > max_attempts:
        problems.append(f"{job.id} counts {job.attempts} attempts and has {[attempt.number for attempt in attempts]}")
    statuses = [attempt.status for attempt in attempts]
    if any(attempt.ended_at is None for attempt in attempts):
        problems.append(f"{job.id} has an attempt that never ended: {statuses}")
    if job.outcome == JobOutcome.COMPLETED:
        if result != job.attempts or statuses.count(JobOutcome.COMPLETED) != 1 or statuses[-1:] != [JobOutcome.COMPLETED]:
            problems.append(f"{job.id} is completed with the result of attempt {result} and the attempts {statuses}")
    elif result is not None or JobOutcome.COMPLETED in statuses:
        problems.append(f"{job.id} is no completed job and has a result or a completed attempt: {result}, {statuses}")
    if job.outcome == JobOutcome.ERROR:
        error = job.error or {}
        if error.get("class") != ErrorClass.INFRASTRUCTURE or job.attempts != max_attempts:
            told = f"{error.get('class')}, {error.get('code')}: {str(error.get('message'))[:300]}"
            problems.append(f"{job.id} gave up after {job.attempts} of {max_attempts} attempts ({told})")
    return problems


def _overlaps(attempts: Sequence[Attempt], devices: Mapping[int | None, Device]) -> list[str]:
    """Two attempts of the database that were under way on one device at one time."""
    problems = []
    by_device: defaultdict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_device[attempt.device_id].append(attempt)
    for device_id, own in by_device.items():
        for one, following in pairwise(sorted(own, key=lambda attempt: attempt.started_at)):
            if one.ended_at is None or following.started_at < one.ended_at or following.fence <= one.fence:
                problems.append(
                    f"{devices[device_id].name}: {following.job_id}.{following.number} (fence {following.fence}) began before"
                    f" {one.job_id}.{one.number} (fence {one.fence}) had ended"
                )
    return problems


def _survivors(
    attempts: Sequence[Attempt], devices: Mapping[int | None, Device], held: Mapping[str, Mapping[str, Held]], killed: Sequence[str]
) -> list[str]:
    """What the boards say of each attempt: a completed one ran there, a failed one had not survived, and nothing else ran."""
    problems = []
    known = set()
    for attempt in attempts:
        run, board = f"{attempt.job_id}.{attempt.number}", devices[attempt.device_id].name
        known.add((board, run))
        seen = held[board].get(run)
        if attempt.status == JobOutcome.COMPLETED and (seen is None or seen.taken != 1 or not seen.released):
            problems.append(f"{run} is completed, and {board} knows of it: {seen}")
        if attempt.status == JobOutcome.ERROR and seen is not None and seen.taken and run not in killed:
            problems.append(f"{run} survived on {board} and was given up: {str((attempt.error or {}).get('message'))[:300]}")
    problems += [
        f"{board} ran {run}, which the database does not know there" for board in held for run in held[board] if (board, run) not in known
    ]
    return problems
