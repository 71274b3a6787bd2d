"""Holds what edgematrix told of soaks against what the plant knows; each comparison is one row with its bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.heat_lab import QUOTA_PERIOD_MS, HeatLab
from benchmarks.heat_truth import read_record, read_soak

ONSET_BAR = 0.03
GRANTED_BAR = 0.01
SUSTAINED_BAR = 0.03
FIT_BAR = 0.10
PREDICTION_BAR_PERCENT = 10.0
PERIODS_PER_INVOKE = 3


@dataclass(frozen=True)
class Held:
    """One comparison. ``told`` and ``truth`` are what both sides say, ``holds`` whether that is good enough, ``bar`` when it is."""

    number: int
    what: str
    told: str
    truth: str
    bar: str
    holds: bool


def throttling(lab: HeatLab, device: str, what: str, job_id: str) -> list[Held]:
    """Hold a soak that throttles against the plant's record and a count of its own."""
    story = lab.story(job_id)["story"]
    raw, record = read_soak(lab.context, job_id), read_record(lab.plant(device))
    end_ns = int(raw.end_ns[-1])
    truth_ns = record.throttled_at(raw.begin_ns, end_ns)
    onset = story["onset"]
    rows = [_is(1, f"{what}: throttles", story["throttled"], True)]
    if onset is not None and truth_ns is not None:
        truth = (truth_ns - raw.begin_ns) / 1e9
        slack = max(ONSET_BAR * truth, 2 / lab.pace.telemetry_hz)
        told = onset["at_secs"]
        holds = abs(told - truth) <= slack
        rows.append(Held(1, f"{what}: time to throttle ({onset['cause']})", f"{told:.2f} s", f"{truth:.2f} s", f"± {slack:.2f} s", holds))
    else:
        rows.append(Held(1, f"{what}: time to throttle", str(onset), str(truth_ns), "both are there", False))
    told_cores = _scalar(story, "granted_cpu_cores")
    rows.append(_near(1, f"{what}: granted CPU, cores", told_cores, record.granted_cores(raw.begin_ns, end_ns), GRANTED_BAR))
    width = round(story["window_secs"] * 1e9)
    last = story["windows"][-1]
    start_ns, stop_ns = (raw.begin_ns + round(last[name] * 1e9) for name in ("start_secs", "end_secs"))
    counted = raw.per_second(start_ns, stop_ns) / raw.per_second(raw.begin_ns, raw.begin_ns + width)
    rows.append(_near(1, f"{what}: sustained/burst", _scalar(story, "sustained_burst"), counted, SUSTAINED_BAR))
    return rows + _fits(lab, device, what, story)


def fan(lab: HeatLab, job_id: str) -> list[Held]:
    """Hold a soak that must not throttle."""
    story = lab.story(job_id)["story"]
    return [Held(1, "with a fan", story["throttle_words"], "did not throttle", "said so", story["throttled"] is False)]


def spans_periods(lab: HeatLab, job_id: str) -> Held:
    """Whether an invocation of the heavy model really lasts as many quota periods as it is there for."""
    median = lab.story(job_id)["story"]["windows"][0]["median_invoke_ms"]
    needed = PERIODS_PER_INVOKE * QUOTA_PERIOD_MS
    return Held(1, "heavy model: one invocation", f"{median:.1f} ms", "", f"≥ {needed:g} ms", median >= needed)


def reproduced(view: dict[str, Any], times: int) -> list[Held]:
    """Hold the answer to a repetition under the same conditions."""
    repeats = [item for device in view["devices"] for item in device["reproduction"]["repeats"]]
    good = sum(item["verdict"] == "reproduced" for item in repeats)
    why = "; ".join(f"{item['name']}: {item['words']}" for device in view["devices"] for item in device["reproduction"]["quantities"])
    return [
        Held(2, "the same recipe again: verdict", view["verdict"], "", "reproduced", view["verdict"] == "reproduced"),
        Held(2, "repeats that reproduced", f"{good} of {len(repeats)}", "", f"all {times}", good == len(repeats) == times),
        Held(2, "quantities", why, "", "told", bool(why)),
    ]


def not_reproduced(view: dict[str, Any]) -> list[Held]:
    """Hold the answer at another ambient: refused, for that reason, and as predicted."""
    found = view["devices"][0]["reproduction"]
    reasons = "; ".join(found["reasons"])
    rows = [
        Held(2, "at another ambient: verdict", view["verdict"], "", "not reproduced", view["verdict"] == "not reproduced"),
        Held(2, "at another ambient: reasons", reasons, "", "names ambient", "ambient" in reasons.lower()),
    ]
    checks = found["predictions"]
    if not checks:
        rows.append(Held(2, "prediction for that ambient", "none", "", "there is one", False))
    for item in checks:
        error = item["error_percent"]
        holds = error is not None and abs(error) <= PREDICTION_BAR_PERCENT
        told = _number(item["predicted"]), _number(item["observed"])
        rows.append(Held(2, f"predicted {item['quantity']}", *told, f"± {PREDICTION_BAR_PERCENT:g} %", holds))
    return rows


def changed(lab: HeatLab, job_id: str) -> Held:
    """Hold the faulty runtime: caught, and named as a change of numbers."""
    probe = lab.story(job_id)["story"]["probe"]
    return Held(5, "faulty arithmetic", probe["words"], "one bit above 75 °C", "changed", probe["verdict"] == "changed")


def no_alarm(lab: HeatLab, job_ids: list[str]) -> Held:
    """Hold every soak of a sound runtime: no alarm in any."""
    verdicts = [lab.story(job_id)["story"]["probe"]["verdict"] for job_id in job_ids]
    stable = verdicts.count("stable")
    return Held(5, "sound arithmetic", f"{stable} of {len(verdicts)} soaks stable", "", "all", stable == len(verdicts))


def _fits(lab: HeatLab, device: str, what: str, story: dict[str, Any]) -> list[Held]:
    settings = lab.plant(device).settings
    fast, slow = settings.bodies.time_constants(settings.board_c_per_watt)
    rows = []
    for fit in story["fits"]:
        if not fit["offered"]:
            rows.append(Held(1, f"{what}: {fit['segment']} fit", f"refused: {fit['cause']}", "", "offered or refused", True))
            continue
        values = [item["value"] for item in fit["tau_secs"]]
        truths = [fast, slow] if fit["bodies"] == 2 else [slow]
        for value, truth in zip(values, truths, strict=True):
            rows.append(_near(1, f"{what}: {fit['segment']} fit, τ in s", value, truth, FIT_BAR))
    return rows


def _scalar(story: dict[str, Any], name: str) -> float | None:
    return next((item["value"] for item in story["scalars"] if item["name"] == name), None)


def _near(number: int, what: str, told: float | None, truth: float, bar: float) -> Held:
    holds = told is not None and abs(told / truth - 1) <= bar
    share = "" if told is None else f" ({told / truth - 1:+.2%})"
    return Held(number, what, f"{_number(told)}{share}", _number(truth), f"± {bar:.0%}", holds)


def _is(number: int, what: str, told: object, wanted: object) -> Held:
    return Held(number, what, str(told), str(wanted), "the same", told == wanted)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
