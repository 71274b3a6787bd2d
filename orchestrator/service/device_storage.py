"""What lies on a device, and making room there."""

from __future__ import annotations

from sqlmodel import col, select

from agent.errors import DeviceBusy
from orchestrator.dispatch.device_agent import PruneReport
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device
from orchestrator.service.elsewhere import refuse_elsewhere
from orchestrator.store.database import read_session
from orchestrator.store.tables import Environment

_DAY_SECS = 86400.0


def clean_device(context: Context, name: str, unused_days: float | None, max_bytes: int | None) -> PruneReport:
    """Remove what no run used for ``unused_days``, then the longest unused above ``max_bytes``; what its environments need stays.

    Raises :class:`agent.errors.DeviceBusy` while a job is on the device, the transport's errors when it cannot be reached.
    """
    with read_session(context.engine) as session:
        device = find_device(session, name)
        environments = session.exec(select(Environment).where(col(Environment.device_id) == device.id)).all()
    refuse_elsewhere(context, device)
    if device.lease_job_id is not None:
        raise DeviceBusy(f"{name} is measuring {device.lease_job_id}", "clean it when the job has ended")
    interpreter = environments[0].interpreter if environments else ["python3"]
    keep = [item.bundle_sha256 for item in environments if item.bundle_sha256]
    gateway = context.gateway()
    try:
        agent = gateway.agent_for(device, interpreter)
        agent.push_agent()
        return agent.prune(keep, None if unused_days is None else unused_days * _DAY_SECS, max_bytes)
    finally:
        gateway.close()
