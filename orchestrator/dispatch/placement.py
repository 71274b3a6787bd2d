"""Which devices the cells of a spec go to, and which jobs cannot run there for want of an environment or a runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent.errors import ConfigurationError, EdgematrixError, MissingRuntime
from orchestrator.dispatch.surroundings import lacking_surroundings
from orchestrator.domain.cells import Cell
from orchestrator.domain.device_query import DeviceFacts, Query, parse_query
from orchestrator.domain.mistakes import Mistake, Path, SpecError, did_you_mean
from orchestrator.domain.plan import Plan
from orchestrator.domain.soak import Surroundings
from orchestrator.domain.spec import DeviceDemand, ExperimentSpec
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.tables import Device, Environment

_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}


class MissingEnvironment(ConfigurationError):
    """The device has no environment of that name."""

    code: ClassVar[str] = "missing_environment"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one job of a cell goes.

    ``device_id`` is None for an ``any`` demand, and ``device_query`` then says which devices may take it (it is empty otherwise). ``asked``
    is the device's part of the job key. ``error`` is set when no device of this placement can run the job.
    """

    device_id: int | None
    device_query: str
    asked: str
    candidates: tuple[str, ...]
    error: EdgematrixError | None = None


@dataclass(frozen=True)
class _Seat:
    """One place that every cell gets a job for: a device, or a slot of an ``any`` demand with the devices that match now."""

    devices: tuple[Device, ...]
    query: str = ""
    slot: int = 0


def device_facts(device: Device) -> DeviceFacts:
    """Return what a device query may ask of this device; the architecture is ``x86_64`` or ``arm64``."""
    machine = str(device.facts.get("machine") or "").lower()
    return DeviceFacts(
        name=device.name,
        profile=device.profile,
        gateway=device.gateway,
        arch=_ARCHITECTURES.get(machine, machine),
        emulated=device.emulated,
        labels=device.labels,
    )


@dataclass
class Placer:
    """Places the cells of one spec; making one raises :class:`SpecError` for a demand or a name that no device answers to."""

    spec: ExperimentSpec
    plan: Plan
    devices: Sequence[Device]
    environments: Sequence[Environment]
    _seats: list[_Seat] = field(init=False)
    _known: dict[str, Device] = field(init=False)
    _runtimes: dict[tuple[int, str], Any] = field(init=False)
    _cache: dict[tuple[object, ...], tuple[Placement, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        in_service = [device for device in self.devices if device.health != DeviceHealth.RETIRED]
        self._known = {device.name: device for device in in_service}
        self._runtimes = {(item.device_id, item.name): item.facts.get("runtimes") for item in self.environments}
        mistakes = list(self._unknown_names())
        self._seats = self._resolve(in_service, mistakes)
        if mistakes:
            raise SpecError(mistakes)

    def placements(self, cell: Cell) -> tuple[Placement, ...]:
        """Return one placement for each job of a cell; empty when every device of it is excluded."""
        runtime = self.plan.models[cell.model].variants[cell.variant].info.runtime
        soak = self.plan.scenarios[cell.scenario].soak
        surroundings = soak.surroundings if soak is not None else None
        key = (cell.environment, runtime, cell.device, cell.not_devices, surroundings)
        found = self._cache.get(key)
        if found is None:
            seats = self._seats if cell.device is None else [_Seat((self._known[cell.device],))]
            placed = (self._place(seat, cell.environment, runtime, cell.not_devices, surroundings) for seat in seats)
            found = self._cache[key] = tuple(item for item in placed if item is not None)
        return found

    def refuse_hopeless(self, cells: Iterable[Cell]) -> None:
        """Raise :class:`SpecError` when there is no job at all, or a variant of which not one job can run."""
        able: dict[tuple[str, str], EdgematrixError | None] = {}
        for cell in cells:
            for placement in self.placements(cell):
                key = (cell.model, cell.variant)
                able[key] = None if placement.error is None or able.get(key, placement.error) is None else placement.error
        if not able:
            raise SpecError([self.spec.source.mistake(("exclude",), "the matrix is empty: everything is excluded", "exclude less")])
        mistakes = []
        for index, model in self.spec.present_models():
            for place, variant in enumerate(model.variants):
                error = able.get((model.name, variant.name))
                if error is not None:
                    path: Path = ("models", index, "variants", place, "name")
                    mistakes.append(self.spec.source.mistake(path, f"no job of {variant.name!r} can run: {error.message}", error.remedy))
        if mistakes:
            raise SpecError(mistakes)

    # --- demands ----------------------------------------------------------------------------------------------

    def _resolve(self, in_service: Sequence[Device], mistakes: list[Mistake]) -> list[_Seat]:
        each: dict[str, _Seat] = {}
        slots: list[_Seat] = []
        for index, demand in enumerate(self.spec.devices):
            query = parse_query(demand.each or demand.any or "all")
            matching = tuple(device for device in in_service if query.matches(device_facts(device)))
            at: Path = ("devices", index, "each" if demand.each else "any")
            if not matching:
                mistakes.append(
                    self.spec.source.mistake(at, f"no device matches `{query.text}`; {_what_there_is(in_service)}", _what_would(in_service))
                )
            elif demand.each is not None:
                each.update({device.name: _Seat((device,)) for device in matching if device.name not in each})
            else:
                slots += self._slots(demand, query, matching, slots, at, mistakes)
        return [*each.values(), *slots]

    def _slots(
        self, demand: DeviceDemand, query: Query, matching: tuple[Device, ...], earlier: list[_Seat], at: Path, mistakes: list[Mistake]
    ) -> list[_Seat]:
        if demand.count > len(matching):
            names = ", ".join(item.name for item in matching)
            message = f"{demand.count} devices are asked for, but only {len(matching)} match `{query.text}`: {names}"
            mistakes.append(self.spec.source.mistake(at, message, "lower the count, widen the expression, or use repeats"))
            return []
        first = sum(seat.query == query.text for seat in earlier)
        return [_Seat(matching, query.text, first + slot) for slot in range(demand.count)]

    def _unknown_names(self) -> Iterable[Mistake]:
        known = list(self._known)
        for index, rule in enumerate(self.spec.exclude):
            for place, name in enumerate(rule.device or ()):
                if name not in self._known:
                    path: Path = ("exclude", index, "device", place)
                    yield self.spec.source.mistake(path, f"no device has the name {name!r}", did_you_mean(name, known))
        for index, entry in enumerate(self.spec.include):
            if entry.device is not None and entry.device not in self._known:
                yield self.spec.source.mistake(
                    ("include", index, "device"), f"no device has the name {entry.device!r}", did_you_mean(entry.device, known)
                )

    # --- one placement ------------------------------------------------------------------------------------------

    def _place(
        self, seat: _Seat, environment: str, runtime: str, not_devices: tuple[str, ...], surroundings: Surroundings | None
    ) -> Placement | None:
        left = [device for device in seat.devices if device.name not in not_devices]
        if not left:
            return None
        errors = {
            device.name: self._inability(device, environment, runtime) or lacking_surroundings(device, surroundings) for device in left
        }
        able = tuple(name for name, error in errors.items() if error is None)
        error = None if able else errors[left[0].name]
        if not seat.query:
            return Placement(left[0].id, "", left[0].name, (left[0].name,), error)
        # A device that joins later may still take the job; one that is known not to be able to, must not.
        unfit = sorted(
            {*not_devices, *(name for name, cause in errors.items() if cause is not None)} & {device.name for device in seat.devices}
        )
        query = (
            seat.query if not unfit or error is not None else f"({seat.query}) and name not in ({''.join(f'{name!r}, ' for name in unfit)})"
        )
        return Placement(None, query, f"{seat.query}#{seat.slot}", able or tuple(errors), error)

    def _inability(self, device: Device, environment: str, runtime: str) -> EdgematrixError | None:
        if device.id is None or (device.id, environment) not in self._runtimes:
            known = [name for owner, name in self._runtimes if owner == device.id]
            return MissingEnvironment(
                f"{device.name} has no environment {environment!r}; it has: {', '.join(known) or 'none'}",
                f"edgematrix env add {environment} --python PATH --device {device.name}",
            )
        runtimes = self._runtimes[(device.id, environment)]
        found = runtimes.get(runtime) if isinstance(runtimes, dict) else None
        if not isinstance(runtimes, dict) or not runtimes or (isinstance(found, dict) and found.get("available") is not False):
            return None
        cause = found.get("cause") if isinstance(found, dict) else None
        return MissingRuntime(
            f"the environment {environment!r} of {device.name} has no runtime for {runtime} files" + (f": {cause}" if cause else ""),
            f"install it there and repeat `edgematrix env add {environment} --python PATH --device {device.name}`, or exclude these cells",
        )


def _what_there_is(devices: Sequence[Device]) -> str:
    if not devices:
        return "no device is registered"
    described = []
    for device in devices[:10]:
        facts = device_facts(device)
        labels = "".join(f", label.{key} {value!r}" for key, value in sorted(facts.labels.items()))
        described.append(f"{facts.name} (profile {facts.profile!r}, gateway {facts.gateway!r}, arch {facts.arch!r}{labels})")
    more = f" and {len(devices) - 10} more" if len(devices) > 10 else ""
    return "there are: " + "; ".join(described) + more


def _what_would(devices: Sequence[Device]) -> str:
    if not devices:
        return "register one: edgematrix device add NAME"
    return f"this would match: name == {devices[0].name!r}, or profile == {devices[0].profile!r}, or all"
