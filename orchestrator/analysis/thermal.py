"""The story of a soak, from the streams of one attempt: the one place where a :class:`ThermalStory` is made (docs/formulas.md).

Nothing here is random and nothing looks at a clock: the same traces tell the same story.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.protocol import RunOutcome
from orchestrator.analysis.streams import Columns
from orchestrator.analysis.thermal_clock import fastest_clock
from orchestrator.analysis.thermal_energy import ExternalPower, energy_use, power_source
from orchestrator.analysis.thermal_faults import find_events, find_gaps, find_sensor_faults
from orchestrator.analysis.thermal_limit import trip_point
from orchestrator.analysis.thermal_onset import find_throttling
from orchestrator.analysis.thermal_predict import predict as predict
from orchestrator.analysis.thermal_predict import predictions
from orchestrator.analysis.thermal_probe import judge_probes
from orchestrator.analysis.thermal_run import Series, SoakRun, lay_out
from orchestrator.analysis.thermal_scalars import Findings, scalars
from orchestrator.analysis.thermal_segments import fit_segments
from orchestrator.analysis.thermal_windows import cut_windows, load_windows
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory


def tell(
    *,
    job_id: str,
    attempt: int,
    streams: Mapping[str, Columns],
    outcome: RunOutcome,
    soak: PlannedSoak,
    limit_c: float | None,
    emulated: Emulation,
    complete: bool = True,
    telemetry_hz: float = 0.0,
    external_power: ExternalPower | None = None,
) -> ThermalStory:
    """Tell what one attempt of a soak shows.

    ``streams`` maps names of ``agent.protocol.STREAMS`` to columns; a missing one is empty. ``outcome`` may be one rebuilt from what a
    lost run left; ``complete`` is then False. ``limit_c`` is the profile's throttling temperature; None: the zone's own trip point.
    ``telemetry_hz`` 0: nothing was sampled. Raises DeviceReplyInvalid when a stream breaks the protocol.
    """
    run = lay_out(streams=streams, outcome=outcome, soak=soak, emulated=emulated, complete=complete, telemetry_hz=telemetry_hz)
    control_channel = _control_channel(run)
    control = run.channels.get(control_channel) if control_channel else None
    windows = cut_windows(run)
    throttling = find_throttling(run, windows, control)
    clock = fastest_clock(run)
    power = power_source(run, external_power)
    energy = energy_use(run, power)
    ambient_c, ambient_source = _ambient(run)
    limit_c = limit_c if limit_c is not None else trip_point(outcome.conditions, control_channel)
    probe = judge_probes(run, control)
    fits = fit_segments(run, control_channel, control, throttling.onset, windows, power)
    found = Findings(run, windows, throttling, control, ambient_c, limit_c, clock, energy, fits, probe)
    numbers = scalars(found)
    by_name = {metric.name: metric.value for metric in numbers}
    shown = load_windows(windows, control, clock.ratio if clock else None, power.series if power else None)
    return ThermalStory(
        job_id=job_id,
        attempt=attempt,
        complete=complete,
        stopped=outcome.stopped or (run.runner.soak.stopped if run.runner.soak else None),
        planned_secs=soak.duration_secs,
        co_load_workers=soak.co_load.cpu_workers + soak.co_load.memory_workers,
        steady_secs=run.steady_secs,
        window_secs=windows.secs,
        control_channel=control_channel,
        ambient_c=ambient_c,
        ambient_source=ambient_source,
        start_c=by_name["start_c"],
        peak_c=by_name["peak_c"],
        limit_c=limit_c,
        throttled=throttling.throttled,
        throttle_words=throttling.words,
        onset=throttling.onset,
        windows=() if emulated is Emulation.CPU else shown,
        scalars=numbers,
        fits=fits,
        predictions=predictions(fits, throttling.onset, ambient_c, limit_c),
        probe=probe,
        gaps=find_gaps(run, complete),
        sensor_faults=find_sensor_faults(run, control_channel, throttling.onset),
        events=find_events(run, throttling.onset, probe),
        energy_words=energy.words,
    )


def _control_channel(run: SoakRun) -> str | None:
    """The channel asked for, else the thermal zone that got hottest and is no battery; None where there is no such reading."""
    if run.soak.control_sensor is not None:
        return run.soak.control_sensor if run.soak.control_sensor in run.channels else None
    zones = {name: series for name, series in run.named("thermal.").items() if "battery" not in name}
    return max(zones, key=lambda name: float(zones[name].value.max()), default=None)


def _ambient(run: SoakRun) -> tuple[float | None, str]:
    """The mean of the channel that measures it over the steady part, or what the spec states; else a channel that is named so."""
    asked = run.soak.ambient
    if asked is not None and asked.stated_c is not None:
        return asked.stated_c, "stated in the spec"
    names = [asked.sensor] if asked is not None and asked.sensor is not None else sorted(run.named("ambient."))
    for name in names:
        series = run.channels.get(name)
        part = _within(run, series) if series is not None else None
        if part is not None and part.value.size:
            return float(part.value.mean()), f"measured by {name}"
    if asked is not None:
        return None, f"unknown: {asked.sensor} gave no reading"
    return None, "unknown: the spec neither states it nor names a sensor"


def _within(run: SoakRun, series: Series) -> Series:
    part = series.between(0.0, run.steady_secs)
    return part if part.value.size else series
