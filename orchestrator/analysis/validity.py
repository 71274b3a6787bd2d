"""How far a measurement may be trusted: one table of reasons with numeric thresholds, and the checks that find them.

A reason lowers a result to its level: ``invalid`` when the number does not mean what its name says, ``semivalid`` when it was
measured as asked but may not repeat, ``valid`` for a note that lowers nothing. What no sensor of a machine can tell is listed as
unknown and lowers nothing.
"""

from __future__ import annotations

from orchestrator.analysis import validity_checks as check
from orchestrator.analysis.validity_evidence import Evidence as Evidence
from orchestrator.analysis.validity_evidence import Finding, Rule, Unknown
from orchestrator.domain.results import Reason, ValidityRecord
from orchestrator.domain.states import Scenario, Validity


def assess(evidence: Evidence) -> ValidityRecord:
    """Apply every rule that concerns the scenario; the level is the worst of the reasons found."""
    reasons: list[Reason] = []
    unknown: list[str] = []
    for rule in RULES:
        if evidence.scenario not in rule.scenarios:
            continue
        found = rule.check(evidence, rule.threshold)
        if isinstance(found, Finding):
            reasons.append(Reason(code=rule.code, level=rule.level, message=found.message, value=found.value, threshold=rule.threshold))
        elif isinstance(found, Unknown):
            unknown.append(found.text)
    level = max((reason.level for reason in reasons), key=_SEVERITY.index, default=Validity.VALID)
    return ValidityRecord(level=level, reasons=tuple(reasons), unknown=tuple(unknown))


_SEVERITY = (Validity.VALID, Validity.SEMIVALID, Validity.INVALID)

# --- the table ------------------------------------------------------------------------------------------------

_LATENCY = (Scenario.LATENCY,)
_ACCURACY = (Scenario.ACCURACY,)
_SOAK = (Scenario.SOAK,)
#: In a soak, throttling and what follows from it (a low clock, unsteady times) are findings, not faults.
_TIMED = (Scenario.LATENCY, Scenario.SOAK)
_ALL = (Scenario.LATENCY, Scenario.ACCURACY, Scenario.SOAK)

#: Every reason there is, in the order in which it is told.
RULES: tuple[Rule, ...] = (
    Rule("emulated_cpu", Validity.INVALID, 0, "", _TIMED, check.emulated_cpu, "an emulator's speed is not the device's"),
    Rule("nothing_measured", Validity.INVALID, 1, "observations", _ALL, check.nothing_measured, "there is no number to trust"),
    Rule(
        "samples_missing",
        Validity.INVALID,
        0,
        "samples",
        _ACCURACY,
        check.samples_missing,
        "a share over another data set is another number",
    ),
    Rule(
        "non_finite_outputs",
        Validity.SEMIVALID,
        0,
        "samples",
        _ACCURACY,
        check.non_finite_outputs,
        "the model is measured as it is, but its confidence and error leave these samples out",
    ),
    Rule(
        "throttled", Validity.INVALID, 0, "% of readings", _LATENCY, check.throttled, "the device did not run at the speed it was asked for"
    ),
    Rule(
        "under_voltage",
        Validity.INVALID,
        0,
        "% of readings",
        _ALL,
        check.under_voltage,
        "a starved board slows down and may compute wrongly",
    ),
    Rule(
        "clock_below_max",
        Validity.SEMIVALID,
        95,
        "% of maximum",
        _LATENCY,
        check.clock_below_max,
        "the governor or a limit held the clock: faster is possible, and a repeat may be",
    ),
    Rule(
        "start_temperature_out_of_gate",
        Validity.SEMIVALID,
        0,
        "°C outside",
        _TIMED,
        check.start_temperature,
        "a run that starts hot throttles sooner than one that does not",
    ),
    Rule(
        "background_load",
        Validity.SEMIVALID,
        10,
        "% of all CPUs",
        _TIMED,
        check.background_load,
        "other work shares caches, memory and clocks",
    ),
    Rule(
        "high_variation",
        Validity.SEMIVALID,
        2.5,
        "%",
        _LATENCY,
        check.high_variation,
        "trtexec warns above this; the mean of an unsteady run does not repeat well",
    ),
    Rule(
        "minimum_not_met",
        Validity.SEMIVALID,
        0,
        "minima missed",
        _TIMED,
        check.minimum_not_met,
        "the maximum duration came first, as LoadGen and MLPerf Mobile grade it",
    ),
    Rule(
        "flush_pauses",
        Validity.SEMIVALID,
        1,
        "% of steady time",
        _TIMED,
        check.flush_pauses,
        "the harness rested the device and cooled it",
    ),
    Rule(
        "sensor_unreadable",
        Validity.SEMIVALID,
        0,
        "kinds of sensor",
        _TIMED,
        check.sensor_unreadable,
        "what should have been watched was not, so throttling cannot be ruled out",
    ),
    Rule(
        "telemetry_gap",
        Validity.SEMIVALID,
        1,
        "s (or 5 sampling periods)",
        _TIMED,
        check.telemetry_gap,
        "a short throttle or a burst of load may hide in it",
    ),
    Rule(
        "sensor_stuck",
        Validity.SEMIVALID,
        0,
        "sensors",
        _SOAK,
        check.sensor_stuck,
        "a temperature that stands still while the load changes tells nothing of the device's heat",
    ),
    Rule(
        "numbers_changed",
        Validity.INVALID,
        0,
        "samples",
        _SOAK,
        check.numbers_changed,
        "a device that computes other numbers when it is hot is wrong, however fast",
    ),
    Rule(
        "clock_offset",
        Validity.VALID,
        5,
        "s",
        _ALL,
        check.clock_offset,
        "a note: only the time of day is wrong, every duration is monotonic",
    ),
)
