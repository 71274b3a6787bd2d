"""When did it begin to throttle, and what showed it: the first sign of each channel in the steady part, and of latency.

A sign is dated by the first sample in which the state had changed, so it is late by one sampling period at most. Latency is dated by the
beginning of the first window that was too slow: it is known to one window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_clock import fastest_clock
from orchestrator.analysis.thermal_energy import GAP_PERIODS
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.analysis.thermal_windows import Windows
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import Onset, ThrottleCause, ThrottleSign

#: A clock this much below its early maximum was lowered; a group that stood still for this share of a second was held by its quota.
CLOCK_DROP = 0.03
QUOTA_SHARE = 0.03
#: A lowered clock or a quota must last for this long: schedulers and governors twitch.
HOLD_SECS = 1.0

#: When others use more than this of all CPUs, a rise of latency says nothing of throttling (the threshold of ``background_load``).
OTHERS_PERCENT = 10.0

_FLAGS = {
    "throttled.": "throttled",
    "frequency_capped.": "frequency capped",
    "soft_temperature_limit.": "soft temperature limit",
    # Android's thermal service: from 1 on it throttles, lightly at first.
    "thermal_status.": "throttling",
}

#: Cooling devices whose level 0 is full speed by the kernel's definition: one that was above it before the load had slowed down already.
_SLOWING = ("cpufreq", "devfreq", "processor")


@dataclass(frozen=True)
class Telltale:
    """One channel that can show throttling: whether it did at each of its samples in the steady part; arrays of shape (n,)."""

    cause: ThrottleCause
    channel: str
    secs: FloatArray
    on: NDArray[np.bool_]
    words: str


@dataclass(frozen=True)
class Throttling:
    """``throttled`` None: nothing could have shown it. ``fraction`` is the share of the steady time in which any telltale was on."""

    throttled: bool | None
    words: str
    onset: Onset | None
    fraction: float | None


def find_throttling(run: SoakRun, windows: Windows, control: Series | None) -> Throttling:
    """Look at every telltale; the earliest direct sign is the onset, latency where there is none."""
    # A channel that was silent in the whole steady part shows nothing, not even that there was nothing.
    telltales = [telltale for telltale in _telltales(run) if telltale.secs.size]
    signs = [sign for telltale in telltales if (sign := _first_sign(telltale)) is not None]
    slow = _slow_windows(run, windows)
    contention = None
    if slow is not None and slow.any():
        sign = _latency_sign(run, windows, slow)
        contention = None if signs else _taken_by_others(run, windows, slow)
        if contention is None:
            signs.append(sign)
    if not telltales and slow is None:
        return Throttling(None, "unknown: no sensor of this device tells of throttling, and latency does not either", None, None)
    fraction = _fraction(run, telltales) if telltales else None
    if not signs and contention is not None and not telltales:
        return Throttling(None, f"unknown: no sensor of this device tells of throttling, and {contention}", None, None)
    if fraction is None and slow is not None and slow.size:
        fraction = float(slow.mean())
    if not signs:
        return Throttling(False, _quiet_words(telltales, slow, contention), None, fraction)
    # Latency is known to one window only and has other causes, too: it decides alone, never against a direct sign.
    signs.sort(key=lambda sign: (sign.cause is ThrottleCause.LATENCY, sign.at_secs, list(ThrottleCause).index(sign.cause)))
    first = signs[0]
    celsius = _hottest_until(run, control, first.at_secs) if control else None
    heat = "" if celsius is None else f" at {celsius:.1f} °C"
    words = f"throttled after {first.at_secs:.1f} s{heat}: {first.words}"
    onset = Onset(at_secs=first.at_secs, cause=first.cause, words=words, temperature_c=celsius, signs=tuple(signs))
    return Throttling(True, words, onset, fraction)


def _hottest_until(run: SoakRun, control: Series, moment: float) -> float | None:
    """The temperature at which it throttled: when the sign is seen, a fast die may have begun to cool already."""
    before = control.between(moment - 2.5 * min(run.period, 1.0), moment).value
    return float(before.max()) if before.size else control.at(moment)


def _telltales(run: SoakRun) -> Iterator[Telltale]:
    for prefix, words in _FLAGS.items():
        for name, series in run.named(prefix).items():
            part = _steady(run, series)
            yield Telltale(ThrottleCause.FIRMWARE_FLAG, name, part.secs, part.value > 0, f"{name} says {words}")
    for name, series in run.named("over_current.").items():
        yield Telltale(ThrottleCause.OVER_CURRENT, name, *_grown(run, series, 0.0), f"{name} counted")
    for name, series in run.named("cooling.").items():
        # A fan that spins up cools the device; it does not slow it down.
        if "fan" not in name.lower():
            slows = any(kind in name.lower() for kind in _SLOWING)
            rest, part = 0.0 if slows else _at_rest(run, series), _steady(run, series)
            yield Telltale(ThrottleCause.COOLING_DEVICE, name, part.secs, part.value > rest, f"{name} rose above {rest:g}")
    clock = fastest_clock(run) if run.flat_out else None
    if clock is not None:
        part = _steady(run, clock.ratio)
        words = f"{clock.channel} fell below {100 * (1 - CLOCK_DROP):g} % of its early maximum"
        yield Telltale(ThrottleCause.CLOCK, clock.channel, part.secs, _held(part.secs, part.value < clock.early * (1 - CLOCK_DROP)), words)
    quota = run.channels.get("cgroup.throttled_secs")
    if quota is not None:
        secs, over = _grown(run, quota, QUOTA_SHARE)
        words = "the processes stood still for their CPU quota"
        yield Telltale(ThrottleCause.CPU_QUOTA, "cgroup.throttled_secs", secs, _held(secs, over), words)


def _steady(run: SoakRun, series: Series) -> Series:
    return series.between(0.0, run.steady_secs)


def _at_rest(run: SoakRun, series: Series) -> float:
    """The lowest level before any load; without such a reading, the first one."""
    before = series.between(-np.inf, run.load_start).value
    return float(before.min()) if before.size else float(series.value[0])


def _grown(run: SoakRun, series: Series, share: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return, for each sample of the steady part with one before it, whether a counter grew since by more than a share of that time."""
    secs = series.secs[1:]
    inside = (secs >= 0) & (secs <= run.steady_secs)
    grown = np.diff(series.value) > share * np.diff(series.secs)
    return secs[inside], grown[inside]


def _held(secs: FloatArray, on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep what is on for most of the HOLD_SECS that begin with it: a governor that switches a quota on and off still holds it."""
    if not on.any():
        return on
    total = np.concatenate([[0], np.cumsum(on)])
    until = np.searchsorted(secs, secs + HOLD_SECS, "right")
    follow = total[until] - total[:-1]
    mostly = follow * 2 > until - np.arange(secs.size)
    # At least two samples must agree; at the very end there is no second one.
    held: NDArray[np.bool_] = on & mostly & (follow > 1)
    return held


def _first_sign(telltale: Telltale) -> ThrottleSign | None:
    rows = np.flatnonzero(telltale.on)
    if not rows.size:
        return None
    at = float(telltale.secs[rows[0]])
    words = telltale.words + (" from the first reading on" if rows[0] == 0 else "")
    return ThrottleSign(cause=telltale.cause, at_secs=at, channel=telltale.channel, words=words)


def _slow_windows(run: SoakRun, windows: Windows) -> NDArray[np.bool_] | None:
    """Tell of each window whether it lies in a run of slow ones; None where latency cannot tell.

    The baseline is the median of the first windows' means, as many as must be slow in a row.
    """
    running = run.soak.onset.windows
    if run.emulated is Emulation.CPU or windows.mean_ms.size < 2 * running:
        return None
    first = windows.mean_ms[np.isfinite(windows.mean_ms)][:running]
    if first.size < running:
        return None
    slow = windows.mean_ms > (1 + run.soak.onset.rise_percent / 100) * float(np.median(first))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], slow, [False]]).astype(np.int8)))
    kept = np.zeros_like(slow)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= running:
            kept[begin:end] = True
    return kept


def _latency_sign(run: SoakRun, windows: Windows, slow: NDArray[np.bool_]) -> ThrottleSign:
    first = int(np.argmax(slow))
    words = (
        f"the windowed mean of invoke rose by more than {run.soak.onset.rise_percent:g} % for {run.soak.onset.windows} windows"
        f" of {windows.secs:g} s running"
    )
    return ThrottleSign(cause=ThrottleCause.LATENCY, at_secs=float(windows.start[first]), channel="invoke", words=words)


def _taken_by_others(run: SoakRun, windows: Windows, slow: NDArray[np.bool_]) -> str | None:
    """Tell in words when slow windows are somebody else's doing: others were at work, or had the CPU while no query cost more of it.

    The second needs the group's quota in sight: a quota makes queries wait in the same way.
    """
    since = float(windows.start[int(np.argmax(slow))])
    others = _others_share(run, windows, slow)
    if others is not None and others > OTHERS_PERCENT:
        return f"latency rose from {since:.0f} s on, but other processes used {others:.0f} % of all CPUs meanwhile"
    used, quota = run.channels.get("runner_cpu_secs"), run.channels.get("cgroup.throttled_secs")
    if used is None or quota is None:
        return None
    before = _cost(run, used, 0.0, since)
    after = _cost(run, used, since, run.steady_secs)
    if before is None or after is None or after > before * (1 + run.soak.onset.rise_percent / 200):
        return None
    return (
        f"latency rose from {since:.0f} s on, but a query cost as much CPU time as before and no quota held the processes:"
        " others had the CPU"
    )


def _others_share(run: SoakRun, windows: Windows, slow: NDArray[np.bool_]) -> float | None:
    """What other processes used in the slow windows, percent of all CPUs; None where it was not read or co-load was asked for."""
    busy, own = run.channels.get("cpu_busy_percent"), run.channels.get("runner_cpu_percent")
    if busy is None or own is None or run.soak.co_load.cpu_workers or run.soak.co_load.memory_workers:
        return None
    shares = []
    for series in (busy, own):
        window = np.floor(series.secs / windows.secs).astype(np.int64)
        inside = (window >= 0) & (window < slow.size)
        inside[inside] = slow[window[inside]]
        if not inside.any():
            return None
        shares.append(float(series.value[inside].mean()))
    return shares[0] - shares[1]


def _cost(run: SoakRun, used: Series, start: float, end: float) -> float | None:
    """CPU seconds of the runner for each query that ended between two readings."""
    part = used.between(start, end)
    if part.value.size < 2:
        return None
    low, high = np.searchsorted(run.steady_end, [part.secs[0], part.secs[-1]], "right")
    probes = np.searchsorted(np.sort(run.probe_end), [part.secs[0], part.secs[-1]], "right")
    count = int(high - low) + int(probes[1] - probes[0])
    return float(part.value[-1] - part.value[0]) / count if count else None


def _fraction(run: SoakRun, telltales: list[Telltale]) -> float | None:
    """The share of the steady time in which any telltale was on, of that in which one was read.

    Each sample counts until the next one, and no longer than a gap begins.
    """
    moments = np.unique(np.concatenate([telltale.secs for telltale in telltales]))
    if not moments.size or run.steady_secs <= 0:
        return None
    any_on, length = np.zeros(moments.size, dtype=np.bool_), np.zeros(moments.size)
    until = np.diff(np.concatenate([moments, [max(run.steady_secs, float(moments[-1]))]]))
    for telltale in telltales:
        secs = telltale.secs
        held = max(HOLD_SECS, GAP_PERIODS * float(np.median(np.diff(secs)))) if secs.size > 1 else HOLD_SECS
        last = np.maximum(np.searchsorted(secs, moments, "right") - 1, 0)
        left = np.where(moments >= secs[0], np.clip(secs[last] + held - moments, 0.0, until), 0.0)
        length = np.maximum(length, left)
        any_on |= telltale.on[last] & (left > 0)
    return float(length[any_on].sum() / max(length.sum(), 1e-9))


def _quiet_words(telltales: list[Telltale], slow: NDArray[np.bool_] | None, contention: str | None) -> str:
    if contention is not None:
        return f"did not throttle: {contention}"
    silent = sorted({telltale.cause.value for telltale in telltales})
    said = f"no sign from {', '.join(silent)}" if silent else "no sensor of this device tells of throttling"
    if slow is None:
        return f"did not throttle: {said}; latency was not judged (too few windows)"
    return f"did not throttle: {said}{';' if silent else ', and'} latency did not rise"
