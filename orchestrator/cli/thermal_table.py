"""How a soak looks on a terminal: the finding first, then its numbers, windows, fits and probes, then what must be known of the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import LEVEL_STYLE
from orchestrator.cli.output import print_result
from orchestrator.report.thermal_words import finding, seconds
from orchestrator.report.words import ABSENT, clean, counted, fixed, number

if TYPE_CHECKING:
    from orchestrator.domain.results import Metric
    from orchestrator.domain.thermal import Estimate, LoadWindow, ThermalFit, ThermalStory
    from orchestrator.service.thermal import LoadedSoak

#: Windows that are shown; between the first and the last they are thinned evenly.
MOST_WINDOWS = 12
_MOST_LINES = 8


def print_story(run: LoadedSoak, story: ThermalStory) -> None:
    """Print everything that one attempt of a soak tells."""
    parts: list[Any] = [*_head(run, story), *quantities(story.scalars), *_windows(story), *_fits(story), *_probe(story)]
    parts += [*_record(story), *_sampling(run), *_validity(run), *_attempts(run)]
    print_result(Group(*parts))


def interval(metric: Metric | Estimate) -> str:
    """The 95 % interval, nothing where there is none."""
    return "" if metric.low is None or metric.high is None else f"[{number(metric.low)}, {number(metric.high)}]"


def quantities(metrics: Sequence[Metric]) -> list[Any]:
    """Return the quantities with their intervals, and below them in words why others are absent."""
    view = _grid(("quantity", "value", "unit", "95 % interval"), "value")
    absent: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.value is None:
            absent.setdefault(metric.cause or "unknown", []).append(metric.name)
        else:
            view.add_row(Text(metric.name), Text(number(metric.value, 4)), Text(metric.unit), Text(interval(metric)))
    lines = [Text(f"{', '.join(names)}: {clean(cause, 300)}", style="dim") for cause, names in absent.items()]
    return [*([view] if view.row_count else []), *lines]


def _head(run: LoadedSoak, story: ThermalStory) -> Iterator[Text]:
    envelope = run.envelope
    settings = f"{envelope.job.environment}, {counted(envelope.job.settings.num_threads, 'thread')}"
    yield Text(f"soak {run.job_id} of {envelope.experiment.name}, attempt {story.attempt}", style="bold")
    yield Text(f"{envelope.variant.model}/{envelope.variant.name} on {run.device} ({settings})")
    if run.emulated.value != "none":
        yield Text(f"EMULATED {run.emulated.value}", style="bold yellow")
    bad = bool(story.throttled) or story.probe.verdict == "changed" or not story.complete
    yield Text(finding(story), style="bold yellow" if bad else "bold green")
    if story.onset is not None:
        yield Text(f"  {clean(story.onset.words)}")
        for sign in story.onset.signs[:_MOST_LINES]:
            yield Text(f"  {seconds(sign.at_secs):>10}  {sign.cause.value}: {clean(sign.words)}", style="dim")
    elif story.throttle_words:
        yield Text(f"  {clean(story.throttle_words)}")
    ambient = f"{fixed(story.ambient_c)} °C" if story.ambient_c is not None else ABSENT
    limit = f"; limit {fixed(story.limit_c)} °C" if story.limit_c is not None else ""
    control = f"; by {story.control_channel}" if story.control_channel else "; no temperature to go by"
    yield Text(f"ambient {ambient} ({clean(story.ambient_source)}){limit}{control}")
    if run.power is not None:
        yield Text(f"power: {clean(run.power.source)}, {clean(run.power.alignment.get('words', ''))}")


def _windows(story: ThermalStory) -> list[Any]:
    if not story.windows:
        return []
    shown = thinned(story.windows, MOST_WINDOWS)
    names = ["from", "to", "queries/s", "mean ms", "median ms", "slowest ms"]
    extra = {"°C": "temperature_c", "clock": "clock_ratio", "W": "power_mw"}
    there = {name: field for name, field in extra.items() if any(getattr(window, field) is not None for window in shown)}
    view = _grid((*names, *there), *names, *there)
    for window in shown:
        cells = [fixed(window.start_secs), fixed(window.end_secs), number(window.rate_qps)]
        cells += [number(value) for value in (window.mean_invoke_ms, window.median_invoke_ms, window.max_invoke_ms)]
        cells += [_extra(window, field) for field in there.values()]
        view.add_row(*map(Text, cells))
    more = f", {len(shown)} of {len(story.windows)} shown" if len(shown) < len(story.windows) else ""
    return [Text(""), Text(f"Windows of {number(story.window_secs)} s{more} (invoke times)", style="bold"), view]


def _extra(window: LoadWindow, field: str) -> str:
    value = getattr(window, field)
    if value is None:
        return ABSENT
    return fixed(value, 1) if field == "temperature_c" else fixed(value, 3) if field == "clock_ratio" else fixed(value / 1000, 2)


def thinned(windows: Sequence[LoadWindow], most: int) -> list[LoadWindow]:
    """Return at most so many windows, the first and the last among them, evenly spaced."""
    if len(windows) <= most:
        return list(windows)
    return [windows[round(index * (len(windows) - 1) / (most - 1))] for index in range(most)]


def _fits(story: ThermalStory) -> Iterator[Text]:
    if story.fits or story.predictions:
        yield Text("How it heats and cools", style="bold")
    for fit in story.fits:
        yield Text(f"  {_fit_words(fit)}", style="" if fit.offered else "dim")
    for prediction in story.predictions:
        yield Text(f"  {clean(prediction.words)}")


def _fit_words(fit: ThermalFit) -> str:
    what = f"{fit.segment} of {fit.channel}, {seconds(fit.start_secs)} to {seconds(fit.end_secs)}"
    if not fit.offered or fit.bodies is None or fit.steady_c is None:
        return f"{what}: no fit is offered: {clean(fit.cause or 'it is bad')}"
    taus = " and ".join(f"{number(tau.value)} s {interval(tau)}".strip() for tau in fit.tau_secs)
    steady = f"{fixed(fit.steady_c.value)} °C {interval(fit.steady_c)}".strip()
    return f"{what}: time constant{'s' if fit.bodies > 1 else ''} {taus}, towards {steady}; residual {number(fit.rmse_c, 2)} °C"


def _probe(story: ThermalStory) -> Iterator[Text]:
    probe = story.probe
    if probe.verdict == "not asked":
        yield Text("The numbers were not probed: `probe:` in the spec asks for it", style="dim")
        return
    style = {"changed": "bold red", "undetermined": "yellow"}.get(probe.verdict, "")
    yield Text(f"Numbers under heat: {probe.verdict}{f'; {clean(probe.words)}' if probe.words else ''}", style=style)
    for change in probe.changes[:_MOST_LINES]:
        at = f" at {fixed(change.temperature_c)} °C" if change.temperature_c is not None else ""
        was = "" if change.class_before is None else f", class {change.class_before} → {change.class_after}"
        yield Text(f"  sample {change.sample}: first after {seconds(change.first_at_secs)}{at}, in {counted(change.rounds, 'round')}{was}")
    if len(probe.changes) > _MOST_LINES:
        yield Text(f"  and {len(probe.changes) - _MOST_LINES} more samples")


def _record(story: ThermalStory) -> Iterator[Text]:
    """What must be known of the record itself: gaps, sensors, events."""
    for gap in story.gaps[:_MOST_LINES]:
        end = f" to {seconds(gap.end_secs)}" if gap.end_secs is not None else " on"
        yield Text(f"gap from {seconds(gap.start_secs)}{end}: {clean(gap.words)}", style="yellow")
    if len(story.gaps) > _MOST_LINES:
        yield Text(f"and {len(story.gaps) - _MOST_LINES} more gaps", style="yellow")
    for fault in story.sensor_faults[:_MOST_LINES]:
        yield Text(f"sensor {fault.channel}: {clean(fault.words)}", style="yellow")
    if len(story.sensor_faults) > _MOST_LINES:
        yield Text(f"and {len(story.sensor_faults) - _MOST_LINES} more sensors", style="yellow")


def _sampling(run: LoadedSoak) -> Iterator[Text]:
    cost = run.outcome.sampling
    if cost is None or cost.wall_secs <= 0:
        return
    share = 100 * cost.cpu_secs / cost.wall_secs
    core = {True: ", on a core that the model may use, too", False: ", on a core of its own"}.get(cost.shares_core, "")  # type: ignore[arg-type]
    late = (
        f"; {counted(cost.late_rounds, 'round')} of {cost.rounds} late, by {number(cost.longest_late_secs)} s at most"
        if cost.late_rounds
        else ""
    )
    yield Text(f"sampling at {number(cost.hertz)} Hz took {number(share, 2)} % of one core{core}{late}", style="dim")


def _validity(run: LoadedSoak) -> Iterator[Text]:
    validity = run.envelope.validity
    if validity is None or not run.complete:
        return
    yield Text(validity.level.value, style=LEVEL_STYLE[validity.level.value])
    for reason in validity.reasons:
        yield Text(f"  {reason.level.value}: {reason.message}")
    if validity.unknown:
        yield Text(f"  no sensor can tell: {'; '.join(validity.unknown)}", style="dim")


def _attempts(run: LoadedSoak) -> Iterator[Text]:
    if len(run.attempts) < 2 and run.complete:
        return
    for line in run.attempts:
        what = "the result" if line.complete else "INCOMPLETE, its record is kept" if line.kept else "nothing was kept"
        why = f": {clean(line.error.message)}" if line.error else ""
        yield Text(f"attempt {line.number}: {line.status}, {what}{why}", style="" if line.complete else "yellow")


def _grid(columns: Sequence[str], *right: str) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        view.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return view
