"""What one soak tells, in sentences: the finding first."""

from __future__ import annotations

from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.words import clean, counted, fixed, number

STOPPED = {
    "safety_temperature": "the limit for safety was reached, or nobody could read it for half a minute",
    "battery": "the battery was low",
    "disk_bound": "its records had all the room that they may have on the device",
}


def finding(story: ThermalStory) -> str:
    """Say in a few words whether the device throttled, when and by what sign, what it kept of its speed, and what the probes showed."""
    sentences = [f"{_throttling(story)}{_kept(story)}.", numbers(story)]
    if story.stopped:
        words = STOPPED.get(story.stopped, clean(story.stopped, 60))
        sentences.append(f"The soak ended itself after {seconds(story.steady_secs)}: {words}.")
    elif not story.complete:
        sentences.append(f"Incomplete: the attempt was cut short after {seconds(story.steady_secs)} of {seconds(story.planned_secs)}.")
    return " ".join(sentence for sentence in sentences if sentence)


def headline(panel: ThermalPanel) -> str:
    """Whose soak it is, and what must be known of it beside the numbers."""
    words = short_name(panel)
    if panel.emulated is not Emulation.NONE:
        words += f" (emulated: {panel.emulated})"
    return words if panel.story.complete or panel.story.stopped else f"{words} (incomplete)"


def short_name(panel: ThermalPanel) -> str:
    """Name a soak in a sentence: variant, device, and repeat where there are several."""
    words = f"{clean(panel.variant, 80)} on {clean(panel.device, 60)}"
    words += f", repeat {panel.repeat + 1}" if panel.repeat else ""
    return words + (f", attempt {panel.story.attempt}" if panel.story.attempt > 1 else "")


def surroundings(panel: ThermalPanel) -> str:
    """Say what the numbers stand on: ambient, start and peak, what is missing or failed, and what an emulation means."""
    story = panel.story
    parts = []
    if story.ambient_c is not None:
        source = clean(story.ambient_source, 60)
        parts.append(f"ambient {fixed(story.ambient_c)}\u00a0°C{f' ({source})' if source else ''}")
    if story.start_c is not None:
        parts.append(f"start {fixed(story.start_c)}\u00a0°C")
    if story.peak_c is not None:
        parts.append(f"peak {fixed(story.peak_c)}\u00a0°C")
    if story.gaps:
        parts.append(f"{counted(len(story.gaps), 'gap')} in the record")
    if story.sensor_faults:
        parts.append(f"{counted(len({fault.channel for fault in story.sensor_faults}), 'sensor')} in doubt")
    if panel.series.left_out:
        parts.append(f"{counted(panel.series.left_out, 'further temperature')} not drawn")
    text = (", ".join(parts)[:1].upper() + ", ".join(parts)[1:] + ".") if parts else ""
    if panel.emulated is Emulation.ENVIRONMENT:
        text += " Emulated: the CPU is this computer’s own, its surroundings are simulated."
    if panel.emulated is Emulation.CPU:
        text += " Emulated CPU: its times mean nothing and are withheld."
    return text.strip()


def numbers(story: ThermalStory) -> str:
    """Say whether the numbers changed with heat."""
    probe = story.probe
    if probe.verdict == "changed":
        first = min((change.first_at_secs for change in probe.changes), default=None)
        since = f", first after {seconds(first)}" if first is not None else ""
        return f"The numbers changed with heat: {len(probe.changes)} of {counted(probe.samples, 'probe sample')}{since}."
    if probe.verdict == "stable":
        return f"The numbers did not change ({counted(probe.samples, 'probe sample')}, {counted(probe.hot_rounds, 'round')} hot)."
    if probe.verdict == "undetermined":
        return f"Whether the numbers changed is undetermined{f': {clean(probe.words, 200)}' if probe.words else ''}.".replace("..", ".")
    return ""


def seconds(value: float | None) -> str:
    """Return a time as its size asks: ``93.4 s``, ``12.5 min``, ``3.2 h``."""
    if value is None:
        return number(None)
    if abs(value) < 600:
        return f"{number(value)}\u00a0s"
    return f"{number(value / 60)}\u00a0min" if abs(value) < 7200 else f"{number(value / 3600)}\u00a0h"


def sustained_share(story: ThermalStory) -> float | None:
    """Return the rate of the last window as a part of the first one's, None where it is not known."""
    metric = story.scalar("sustained_burst")
    return metric.value if metric is not None else None


def _throttling(story: ThermalStory) -> str:
    onset = story.onset
    if story.throttled and onset is not None:
        at = f" at {fixed(onset.temperature_c)}\u00a0°C" if onset.temperature_c is not None else ""
        return f"Throttled after {seconds(onset.at_secs)}{at}, shown by {_sign(str(onset.cause))}"
    if story.throttled:
        return "Throttled from the start"
    if story.throttled is False:
        return f"Did not throttle in {seconds(story.steady_secs)}"
    why = clean(story.throttle_words, 200).rstrip(".")
    return f"Whether it throttled is unknown{f': {why}' if why else ''}"


def _sign(cause: str) -> str:
    return cause if cause in ("over-current", "latency alone") else f"the {cause}"


def _kept(story: ThermalStory) -> str:
    share = sustained_share(story)
    return f"; sustained/burst {fixed(share, 2)}" if share is not None else ""
