"""From a spec to the cells of its matrix, and the identity of what each of them asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.protocol import Settings
from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.plan import PlannedModel, ScenarioSettings
from orchestrator.domain.spec import RUNTIME_PROVIDERS, Exclude, ExperimentSpec, Include, Model, Variant
from orchestrator.domain.states import Scenario

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_CELLS = 1_000_000

_KNOWN_PROVIDERS = frozenset(word for words in RUNTIME_PROVIDERS.values() for word in words)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix, for whichever devices the spec asks; ``repeat`` counts from 0.

    ``device`` is set for an included cell of one device; ``not_devices`` names those that ``exclude`` took out.
    """

    model: str
    variant: str
    environment: str
    settings: Settings
    scenario: Scenario
    repeat: int
    device: str | None = None
    not_devices: tuple[str, ...] = ()


def expand_cells(spec: ExperimentSpec) -> list[Cell]:
    """Return the cells in the order in which they are to run.

    ``repeat`` is the slowest axis, so that the repeats of all variants are interleaved and a slow drift of a device touches them alike.
    Settings that a runtime does not have are None or leave the cell out; what is the same after that stands once. ``include`` is applied
    after ``exclude``. Raises :class:`SpecError` for more than MAX_CELLS cells.
    """
    repeats = {scenario: settings.repeats for scenario, settings in spec.scenario_settings().items()}
    points = dict.fromkeys(itertools.islice(itertools.chain(_crossed(spec), _included(spec)), MAX_CELLS + 1))
    # An included point without an excluded device makes the same point that lacks some device superfluous.
    whole = {point[:6] for point in points if not point[6]}
    kept = [point for point in points if not point[6] or point[:6] not in whole]
    if sum(repeats[point[4]] for point in kept) > MAX_CELLS:
        message = f"the matrix has more than {MAX_CELLS} cells"
        raise SpecError([spec.source.mistake(("settings",), message, "shorten an axis, lower the repeats, or exclude cells")])
    rounds = max(repeats.values())
    return [
        Cell(model, variant, environment, settings, scenario, repeat, device, not_devices)
        for repeat in range(rounds)
        for model, variant, environment, settings, scenario, device, not_devices in kept
        if repeat < repeats[scenario]
    ]


_Point = tuple[str, str, str, Settings, Scenario, str | None, tuple[str, ...]]


def _crossed(spec: ExperimentSpec) -> Iterator[_Point]:
    scenarios = spec.scenarios.settings()
    for _, model in spec.present_models():
        for variant in model.variants:
            rules = [rule for rule in spec.exclude if _allows(rule.model, model.name) and _allows(rule.variant, variant.name)]
            settings_points = _settings_points(spec, variant)
            for environment, settings, scenario in itertools.product(spec.environments, settings_points, scenarios):
                matching = [rule for rule in rules if _matches(rule, environment, settings, scenario)]
                if any(rule.device is None for rule in matching):
                    continue
                not_devices = tuple(sorted({name for rule in matching for name in rule.device or ()}))
                yield model.name, variant.name, environment, settings, scenario, None, not_devices


def _settings_points(spec: ExperimentSpec, variant: Variant) -> list[Settings]:
    """Return the settings that exist for a variant's runtime, each once."""
    axes = spec.settings
    own = RUNTIME_PROVIDERS[variant.runtime]
    providers = [word for word in axes.provider if word in own or word not in _KNOWN_PROVIDERS]
    optimizations = [_optimization(variant, word) for word in axes.graph_optimization]
    return list(dict.fromkeys(itertools.starmap(Settings, itertools.product(axes.num_threads, providers, optimizations))))


def _optimization(variant: Variant, word: str) -> str | None:
    return word if variant.runtime == "onnx" else None


def _allows(words: tuple[str, ...] | None, word: str) -> bool:
    return words is None or word in words


def _matches(rule: Exclude, environment: str, settings: Settings, scenario: Scenario) -> bool:
    return (
        _allows(rule.environment, environment)
        and (rule.num_threads is None or settings.num_threads in rule.num_threads)
        and _allows(rule.provider, settings.provider)
        and (rule.graph_optimization is None or settings.graph_optimization in rule.graph_optimization)
        and (rule.scenario is None or scenario in rule.scenario)
    )


def _included(spec: ExperimentSpec) -> Iterator[_Point]:
    for entry in spec.include:
        model, variant = variant_of(spec, entry)
        first = _settings_points(spec, variant)[0]
        settings = Settings(
            num_threads=entry.num_threads or first.num_threads,
            provider=entry.provider or first.provider,
            graph_optimization=_optimization(variant, entry.graph_optimization) if entry.graph_optimization else first.graph_optimization,
        )
        scenario = entry.scenario or next(iter(spec.scenarios.settings()))
        yield model.name, variant.name, entry.environment or spec.environments[0], settings, scenario, entry.device, ()


def variant_of(spec: ExperimentSpec, entry: Include) -> tuple[Model, Variant]:
    """Return the model and variant that an ``include`` entry names; ``parse_spec`` has made sure that there is exactly one."""
    models = [model for model in spec.models if entry.model in (None, model.name)]
    return next((model, variant) for model in models for variant in model.variants if variant.name == entry.variant)


def request_prefix(model: PlannedModel, variant: str, scenario: Scenario, settings: ScenarioSettings, agent_sha256: str) -> _Hash:
    """Start the identity of a request: everything that all jobs of a variant and scenario share. Hashed once, copied for each job."""
    planned = model.variants[variant]
    asked = {
        "model": model.name,
        "variant": variant,
        "variant_sha256": planned.info.sha256,
        "runtime": planned.info.runtime,
        "inputs_sha256": model.dataset.inputs.sha256,
        "answers_sha256": model.dataset.answers_sha256,
        "task": model.task.model_dump(mode="json"),
        "steps": planned.steps,
        "scenario": scenario.value,
        # How often a cell is repeated is no part of what one repeat asks for.
        "scenario_settings": settings.model_dump(mode="json", exclude={"repeats"}, exclude_none=True),
        "agent_sha256": agent_sha256,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode())


def job_key(prefix: _Hash, cell: Cell, device_asked: str) -> str:
    """Return the identity of one job's request as 64 hex digits; ``device_asked`` is a device's name, or a query with its slot."""
    settings = cell.settings
    key = prefix.copy()
    key.update(
        f"\0{cell.environment}\0{settings.num_threads}\0{settings.provider}\0{settings.graph_optimization}\0{cell.repeat}\0{device_asked}".encode()
    )
    return key.hexdigest()
