"""Why an experiment's jobs wait, in words a person can act on; found when somebody looks, never stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from orchestrator.dispatch.reservations import active
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.domain.times import format_duration
from orchestrator.service.use_views import view_reservation
from orchestrator.service.views import DeviceProgress
from orchestrator.store.tables import Device, Experiment, Job, Lock
from orchestrator.worker.presence import presence_name

#: A command that brings its own worker needs a moment to start it.
_STARTING_SECS = 20.0
#: What a job does that holds its device and waits for its temperature.
START_GATE = "start gate"
_OUT_OF_SERVICE = (DeviceHealth.BAD, DeviceHealth.MAINTENANCE, DeviceHealth.RETIRED)


@dataclass(frozen=True)
class Waits:
    """One look at what stands in the way of one experiment.

    ``held`` is how many devices it holds, ``reserved`` who keeps it from which device (by the device's id), ``seconds_left`` what the other
    experiments' running jobs said they still need, ``unserved`` the gateways for which no worker has been up for a while.
    """

    experiment: Experiment
    devices: Mapping[int | None, Device]
    held: int
    reserved: Mapping[int, str]
    seconds_left: Mapping[str, float]
    unserved: frozenset[str]

    def reason(self, device: Device | None) -> str:
        """Why a job for this device (None: for any that matches) has not begun."""
        if device is None:
            return self._capped or self._any_device()
        if device.gateway in self.unserved and device.health in (DeviceHealth.UNKNOWN, DeviceHealth.GOOD):
            return f"the gateway {device.gateway}, which nobody serves (edgematrix worker --gateway {device.gateway})"
        if device.health == DeviceHealth.UNKNOWN:
            return f"the health check of {device.name}" + (f" (after: {device.health_reason})" if device.health_reason else "")
        if device.health != DeviceHealth.GOOD:
            return f"{device.name} is {device.health}" + (f": {device.health_reason}" if device.health_reason else "")
        if device.lease_job_id and not device.lease_job_id.startswith(self.experiment.id):
            left = self.seconds_left.get(device.lease_job_id)
            return f"{device.name} measures {device.lease_job_id}" + (f" (about {format_duration(left)} left)" if left is not None else "")
        if device.id is not None and device.id in self.reserved:
            return f"{device.name} is {self.reserved[device.id]}"
        return self._capped or "the scheduler"

    def blocked(self, lines: Sequence[DeviceProgress]) -> str | None:
        """Why nothing can go on without a person: every device that is still needed is out of service."""
        names = {device.name: device for device in self.devices.values()}
        needed = [line for line in lines if line.done < line.total]
        out = [line for line in needed if line.device in names and names[line.device].health in _OUT_OF_SERVICE]
        if not needed or len(out) < len(needed) or any(line.running for line in out):
            return None
        return "; ".join(f"{line.device} is {names[line.device].health}: {names[line.device].health_reason}" for line in out)

    @property
    def _capped(self) -> str:
        most = self.experiment.max_devices
        if most is None or self.held < most:
            return ""
        return f"one of its own devices to become free: the experiment holds {self.held}, and its max_devices is {most}"

    def _any_device(self) -> str:
        good = [other for other in self.devices.values() if other.health == DeviceHealth.GOOD and other.id not in self.reserved]
        free = [other.name for other in good if other.lease_job_id is None]
        return "a matching device to become free" + (f" ({', '.join(sorted(free))} do not match)" if free else "")


def start_wait(job: Job) -> str | None:
    """What a job says that waits for its device to be as warm as it is to be at the start: ``waits for its start temperature: 52.1 °C,
    falling 3.2 °C/min; gate 40 ± 2 °C (about 4 min)``. None when it waits for no such thing."""
    gate = (job.progress or {}).get("gate")
    if job.state != JobState.PREPARING or not isinstance(gate, dict) or "met_at" in gate:
        return None
    return f"waits for its start temperature: {gate.get('words') or 'not read yet'}"


def look_at_waits(session: Session, experiment: Experiment, devices: Mapping[int | None, Device], now: float) -> Waits:
    """Ask the database what keeps this experiment's jobs from their devices."""
    held = session.execute(
        select(func.count())
        .select_from(Device)
        .join(Job, col(Job.id) == col(Device.lease_job_id))
        .where(col(Job.experiment_id) == experiment.id)
    ).scalar_one()
    reserved = {
        device_id: view_reservation(row, devices[device_id].name, now).text
        for device_id, row in active(session, now).items()
        if device_id in devices and row.holder != experiment.submitted_by
    }
    others = session.execute(
        select(Job.id, Job.progress)
        .join(Device, col(Device.lease_job_id) == col(Job.id))
        .where(col(Job.experiment_id) != experiment.id, col(Job.state) == JobState.RUNNING)
    ).all()
    left = {job_id: seen.get("seconds_left") for job_id, seen in others if isinstance(seen, dict)}
    seconds_left = {job_id: float(secs) for job_id, secs in left.items() if secs is not None}
    return Waits(experiment, devices, int(held), reserved, seconds_left, _unserved(session, experiment, devices, now))


def _unserved(session: Session, experiment: Experiment, devices: Mapping[int | None, Device], now: float) -> frozenset[str]:
    if now - experiment.submitted_at < _STARTING_SECS:
        return frozenset()
    served = set(session.exec(select(Lock.name).where(col(Lock.expires_at) > now)).all())
    return frozenset(gateway for gateway in {device.gateway for device in devices.values()} if presence_name(gateway) not in served)
