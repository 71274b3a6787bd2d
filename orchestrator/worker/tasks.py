"""The tasks: thin, each one call into ``dispatch``."""

from __future__ import annotations

import structlog
from celery import Celery

from orchestrator import __version__
from orchestrator.dispatch.drive import drive
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health import check_device

DRIVE = "edgematrix.drive"
CHECK = "edgematrix.check"

log = structlog.get_logger(__name__)


def register_tasks(app: Celery, gateway: Gateway) -> None:
    """Bind the tasks to this process' gateway."""

    def drive_job(job_id: str, fence: int, version: str) -> None:
        if _same_version(version):
            drive(gateway, job_id, fence)

    def check(device: str, version: str) -> None:
        if _same_version(version):
            check_device(gateway, device)

    # Not shared: Celery would otherwise give another app of this process these tasks, bound to this gateway.
    app.task(drive_job, name=DRIVE, shared=False)
    app.task(check, name=CHECK, shared=False)


def _same_version(version: str) -> bool:
    """Mixed versions are refused: what a job means must be the same on both ends of the queue."""
    if version == __version__:
        return True
    log.error(
        "refused a message of another version",
        theirs=version,
        ours=__version__,
        remedy="install the same edgematrix on scheduler and gateways",
    )
    return False
