"""From a spec file to an experiment: check everything, keep every file by its content, insert the jobs in one transaction."""

from __future__ import annotations

import secrets
import stat
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from agent.errors import ConfigurationError
from orchestrator import __version__
from orchestrator.dispatch import dry_run as estimate
from orchestrator.dispatch import snapshot as snapshots
from orchestrator.dispatch.expand import expand
from orchestrator.domain.plan import Plan
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import JobOutcome
from orchestrator.service.context import Context
from orchestrator.service.profile_notes import profile_notes
from orchestrator.service.views import DryRunView, Submitted
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment, Experiment, Job, MetricRow

_MAX_SPEC_BYTES = 4 * 1024 * 1024
_EXPERIMENTS_TO_LEARN_FROM = 20


class SpecUnreadable(ConfigurationError):
    code = "spec_unreadable"


def submit(context: Context, spec_path: Path, *, priority: int | None = None) -> Submitted:
    """Submit a spec; raises SpecError with every mistake in it. From here on neither the spec nor its files matter any more."""
    folder = spec_path.resolve().parent
    spec, left_out = snapshots.leave_out_missing(_read(spec_path), folder)
    plan, warnings = snapshots.snapshot(spec, folder, context.artifacts)
    gateway = context.gateway()
    agent_sha256 = gateway.package.sha256
    with open_session(context.engine) as session:
        devices = session.exec(select(Device).order_by(col(Device.id))).all()
        notes = profile_notes(spec, devices)
        experiment_id = expand(
            session,
            plan=plan,
            spec=spec,
            devices=devices,
            environments=session.exec(select(Environment)).all(),
            actor=context.actor,
            clock=context.clock,
            new_id=_new_id,
            agent_sha256=agent_sha256,
            edgematrix_version=__version__,
            priority=priority,
        )
        by_outcome = session.execute(
            select(Job.outcome, func.count()).where(col(Job.experiment_id) == experiment_id).group_by(col(Job.outcome))
        ).all()
    counts: dict[str | None, int] = {outcome: int(count) for outcome, count in by_outcome}
    return Submitted(
        experiment_id,
        spec.name,
        sum(counts.values()),
        counts.get(JobOutcome.SKIPPED, 0),
        (*(str(warning) for warning in (*left_out, *warnings)), *notes),
    )


def dry_run(context: Context, spec_path: Path) -> DryRunView:
    """Say what a spec would run where, for how long, and on what that estimate rests; nothing is kept."""
    folder = spec_path.resolve().parent
    spec, left_out = snapshots.leave_out_missing(_read(spec_path), folder)
    plan, warnings = snapshots.check(spec, folder)
    with read_session(context.engine) as session:
        devices = session.exec(select(Device).order_by(col(Device.id))).all()
        environments = session.exec(select(Environment)).all()
        notes = profile_notes(spec, devices)
        invoke_secs = _measured_invoke_secs(session)
        planned = estimate.dry_run(
            plan=plan, spec=spec, devices=devices, environments=environments, now=context.clock(), invoke_secs=invoke_secs
        )
    return DryRunView(
        name=spec.name,
        job_count=planned.job_count,
        skipped_count=planned.skipped_count,
        cells=tuple(asdict(cell) for cell in planned.cells),
        device_hours=planned.device_hours,
        expected_finish_utc=datetime.fromtimestamp(planned.expected_finish, UTC).isoformat(timespec="seconds"),
        basis=planned.basis,
        warnings=(*(str(warning) for warning in (*left_out, *warnings)), *notes),
    )


def check_spec(spec_path: Path) -> tuple[str, ...]:
    """Check a spec and every file it names; return what a person should know, or raise SpecError with all mistakes."""
    folder = spec_path.resolve().parent
    spec, left_out = snapshots.leave_out_missing(_read(spec_path), folder)
    _, warnings = snapshots.check(spec, folder)
    return tuple(str(warning) for warning in (*left_out, *warnings))


def _read(path: Path) -> ExperimentSpec:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_SPEC_BYTES:
            raise SpecUnreadable(
                f"{path} is not a spec: {'not a file' if not stat.S_ISREG(found.st_mode) else 'over 4 MiB'}", "name a YAML file"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecUnreadable(f"{path} cannot be read: {error.strerror}", "see examples/ for specs that run") from error
    except UnicodeDecodeError as error:
        raise SpecUnreadable(f"{path} is not UTF-8 text: {error}", "save it as UTF-8") from error
    return parse_spec(text, str(path))


def _new_id() -> str:
    """Sortable by time, unlikely to repeat, short enough to type: seconds in hex and 32 random bits."""
    return f"{int(time.time()):08x}{secrets.token_hex(4)}"


def _measured_invoke_secs(session: Session) -> dict[tuple[str, str], float]:
    """Seconds for one query of each variant file on each device, from the newest experiments that measured it."""
    recent = session.exec(select(Experiment).order_by(col(Experiment.submitted_at).desc()).limit(_EXPERIMENTS_TO_LEARN_FROM)).all()
    plans = {experiment.id: Plan.model_validate(experiment.plan) for experiment in recent}
    rows = session.execute(
        columns(col(Job.experiment_id), col(Job.model), col(Job.variant), col(Device.name), col(MetricRow.value))
        .join(Device, col(Device.id) == col(Job.device_id))
        .join(MetricRow, col(MetricRow.job_id) == col(Job.id))
        .where(col(Job.experiment_id).in_(list(plans)), col(MetricRow.name) == "latency_ms.p50", col(MetricRow.value).is_not(None))
        .order_by(col(Job.experiment_id), col(Job.id))
    ).all()
    # Experiment ids begin with their time: the newest comes last and wins.
    return {
        (plans[experiment_id].models[model].variants[variant].info.sha256, device): float(value) / 1e3
        for experiment_id, model, variant, device, value in rows
    }
