"""What differs between the conditions of a recipe and of a repeat, in words: only what is known of both sides is compared."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.recipe import RecipeConditions

#: Temperatures differ beyond this, °C.
_AMBIENT_C = 1.0
_START_C = 3.0

#: Plain facts in the order in which they usually matter, with their words.
_FACTS = (
    ("fan", "fan"),
    ("power_mode", "power mode"),
    ("governor", "governor"),
    ("supply_under_voltage", "supply: under-voltage"),
    ("profile", "kind of device"),
    ("device", "device"),
    ("firmware", "firmware"),
    ("kernel", "kernel"),
    ("runtime", "runtime"),
    ("environment_digest", "environment"),
    ("agent_sha256", "agent"),
)
_DIGESTS = ("environment_digest", "agent_sha256")


def differences(recipe: RecipeConditions, repeat: RecipeConditions) -> tuple[str, ...]:
    """Return what differs, temperatures first."""
    found = []
    for name, words, tolerance in (("ambient_c", "ambient", _AMBIENT_C), ("start_c", "start temperature", _START_C)):
        before, after = getattr(recipe, name), getattr(repeat, name)
        if before is not None and after is not None and abs(after - before) > tolerance:
            found.append(f"{words}: {after:.1f} °C instead of {before:.1f} °C")
    for name, words in _FACTS:
        before, after = getattr(recipe, name), getattr(repeat, name)
        if before is not None and after is not None and before != after:
            found.append(f"{words}: {_told(name, after)} instead of {_told(name, before)}")
    if repeat.emulated != recipe.emulated:
        found.append(f"emulated: {repeat.emulated.value} instead of {recipe.emulated.value}")
    return tuple(found)


def shared_differences(recipe: RecipeConditions, repeats: Sequence[RecipeConditions]) -> tuple[str, ...]:
    """Return the differences of all repeats, each once, with how many repeats it concerns where not all."""
    counts: dict[str, list[str]] = {}
    for repeat in repeats:
        for text in differences(recipe, repeat):
            counts.setdefault(text.partition(":")[0], []).append(text)
    return tuple(
        texts[0] if len(texts) == len(repeats) else f"{texts[0]} (in {len(texts)} of {len(repeats)} repeats)" for texts in counts.values()
    )


def _told(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:12] if name in _DIGESTS else str(value)
