"""The metrics of a soak: what :func:`orchestrator.analysis.thermal.tell` puts into ``ThermalStory.scalars``, in this order."""

from __future__ import annotations

from orchestrator.analysis.metric_definition import Better, MetricDefinition
from orchestrator.domain.states import Scenario

_ROWS: tuple[tuple[str, str, Better, str], ...] = (
    ("burst_qps", "1/s", "higher", "completions per second in the first window of the steady part, of the time that probes left"),
    ("sustained_qps", "1/s", "higher", "completions per second in the last whole window of the steady part, of the time that probes left"),
    ("sustained_burst", "1", "higher", "sustained_qps / burst_qps: what is left of the speed once the device is hot"),
    ("stability_percent", "%", "higher", "100 · slowest window / fastest window, by completions per second"),
    ("degradation_percent", "%", "lower", "100 · (mean invoke of the last window / of the first − 1)"),
    ("time_to_throttle_secs", "s", "higher", "from the first steady query to the first sign of throttling"),
    ("throttled_fraction", "fraction", "lower", "share of the steady part in which a sign of throttling was there"),
    ("clock_ratio", "1", "higher", "∫f dt / (f_max · T) of the fastest CPU clock domain over the steady part"),
    ("granted_cpu_cores", "cores", "higher", "CPU time that the run's control group got in the steady part, per second"),
    ("runner_cpu_cores", "cores", "neither", "CPU time that the runner alone got in the steady part, per second"),
    ("start_c", "°C", "neither", "control temperature when the first steady query began"),
    ("peak_c", "°C", "lower", "highest control temperature of the steady part"),
    ("sustained_c", "°C", "lower", "mean control temperature of the last whole window"),
    ("rise_c", "°C", "lower", "sustained_c less the ambient temperature"),
    ("normalised_rise", "1", "lower", "(sustained_c − ambient) / (limit − ambient): 1 is at the limit"),
    ("mean_power_mw", "mW", "lower", "mean power over the steady part (trapezoid rule, gaps left out)"),
    ("idle_power_mw", "mW", "lower", "mean power over the idle stretch before the load"),
    ("energy_gross_mj", "mJ", "lower", "energy per inference: ∫P dt / N over the steady part (trapezoid rule, gaps left out)"),
    ("energy_net_mj", "mJ", "lower", "energy per inference above idle: ∫(P − P_idle) dt / N over the steady part"),
    ("heating_tau_secs", "s", "neither", "slowest time constant of the heating before any throttling, where its fit is offered"),
    ("heating_steady_c", "°C", "lower", "temperature at which the heating would have ended without throttling, where its fit is offered"),
    ("cooling_tau_secs", "s", "neither", "slowest time constant of the cool-down, where its fit is offered"),
    ("probe_changed_samples", "samples", "lower", "probe samples whose outputs under load were not those of the cold device"),
    ("dropped_count", "queries", "lower", "arrivals of the load pattern that passed while a query ran"),
    ("dropped_for_probes_count", "queries", "neither", "arrivals of the load pattern that passed while a round of probes was answered"),
    ("probe_time_percent", "%", "neither", "share of the steady part that rounds of probes took"),
    ("sampling_cpu_percent", "%", "lower", "CPU time of the sampling process, in percent of one core"),
)

SOAK_DEFINITIONS = tuple(MetricDefinition(name, unit, better, Scenario.SOAK, meaning) for name, unit, better, meaning in _ROWS)

#: One for each cause of which there was a sign (``orchestrator.domain.thermal.ThrottleCause``); the onset's is the one at its time.
SIGN_FAMILY = MetricDefinition("throttle_sign_secs.", "s", "higher", Scenario.SOAK, "first time of one sign of throttling: its cause")
