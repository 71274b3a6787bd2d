"""What the profiles of the devices a spec asks for say against it, told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.dispatch.placement import device_facts
from orchestrator.dispatch.profiles import load_profiles
from orchestrator.domain.device_query import parse_query
from orchestrator.domain.profiles import DeviceProfile
from orchestrator.domain.spec import RUNTIME_PROVIDERS, ExperimentSpec
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.tables import Device


def profile_notes(spec: ExperimentSpec, devices: Sequence[Device]) -> tuple[str, ...]:
    """Say which kinds of board among the devices asked for were never tried on the hardware, and which lack a provider asked for."""
    queries = [parse_query(demand.each or demand.any or "all") for demand in spec.devices]
    in_service = [device for device in devices if device.health != DeviceHealth.RETIRED]
    asked = {device.profile for device in in_service if any(query.matches(device_facts(device)) for query in queries)}
    profiles = [profile for profile in load_profiles() if profile.name in asked]
    untried = [profile.name for profile in profiles if not profile.tried_on_hardware]
    told = [f"tried on hardware: no, for devices of {', '.join(untried)} (edgematrix profile show NAME)"] if untried else []
    return (*told, *_providers(spec, profiles))


def _providers(spec: ExperimentSpec, profiles: Sequence[DeviceProfile]) -> Iterable[str]:
    """A note and no refusal: a runtime that somebody built for the board may bring what its profile does not know."""
    runtimes = sorted({variant.runtime for _, model in spec.present_models() for variant in model.variants})
    for runtime in runtimes:
        for provider in spec.settings.provider:
            lacking = [item.name for item in profiles if runtime not in item.runtimes or provider not in item.runtimes[runtime].providers]
            # What belongs to the other runtime makes no cell for this one.
            elsewhere = provider not in RUNTIME_PROVIDERS[runtime] and any(provider in words for words in RUNTIME_PROVIDERS.values())
            if lacking and not elsewhere:
                fate = "end as provider_unavailable unless the runtime there was built with it"
                yield f"provider {provider}: {runtime} jobs on {', '.join(lacking)} {fate}"
