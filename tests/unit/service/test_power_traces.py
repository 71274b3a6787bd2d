"""A meter's trace laid beside a soak: energy per inference is computed from it, wherever the soak is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.service import power_traces, thermal
from orchestrator.service.power_alignment import AlignmentFailed
from orchestrator.service.power_csv import Mapping
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes
from tests.unit.analysis.builders import ORIGIN_NS
from tests.unit.analysis.soaks import ZERO_SECS
from tests.unit.service.soak_lab import NOW, SoakLab, make_soak_lab

#: The device's clock of the day when its run began: a day after its monotonic clock said ORIGIN_NS.
STARTED = {"utc_unix_secs": NOW, "monotonic_ns": ORIGIN_NS}
MAPPING = Mapping(time="t", power="P", time_unit="ms")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SoakLab]:
    made = make_soak_lab(tmp_path / "home", tmp_path)
    made.add_device("bench")
    made.conditions = {"start": STARTED}
    yield made
    made.context.engine.dispose()


def measured(lab: SoakLab) -> str:
    (job,) = lab.jobs(lab.submit(lab.write_spec()))
    lab.measure(job)
    return job


def meter(folder: Path, begin_secs: float, secs: float, rest_mw: float = 3000.0, load_mw: float = 8000.0) -> Path:
    """A meter at 50 Hz whose clock is right; times of day in milliseconds, the load begins with the first steady query."""
    time = np.arange(begin_secs, begin_secs + secs, 0.02)
    power = np.where((time >= ZERO_SECS) & (time < ZERO_SECS + 120), load_mw, rest_mw)
    path = folder / "meter.csv"
    rows = [f"{1000 * (NOW + at):.1f},{value / 1000:.3f}" for at, value in zip(time, power, strict=True)]
    path.write_text("t,P\n" + "\n".join(rows) + "\n")
    return path


def test_energy_per_inference_is_that_of_the_meter_gross_and_above_idle(lab: SoakLab, tmp_path: Path) -> None:
    job = measured(lab)
    before = thermal.story(lab.context, job)
    done = power_traces.import_power(lab.context, job, meter(tmp_path, -5, 300), MAPPING, meter_offset_secs=0.0)
    assert done.covered_percent == pytest.approx(100, abs=0.1)
    told = thermal.story(lab.context, job)
    inferences = sum(window.completions for window in told.windows)
    gross, net = told.scalar("energy_gross_mj"), told.scalar("energy_net_mj")
    assert gross is not None
    assert net is not None
    assert gross.value == pytest.approx(8000 * 120 / inferences, rel=0.02)
    assert net.value == pytest.approx(5000 * 120 / inferences, rel=0.02)
    old = before.scalar("energy_gross_mj")
    assert old is not None
    assert old.value != pytest.approx(gross.value, rel=0.1)


def test_the_stored_metrics_are_made_anew(lab: SoakLab, tmp_path: Path) -> None:
    job = measured(lab)
    power_traces.import_power(lab.context, job, meter(tmp_path, -5, 300), MAPPING, meter_offset_secs=0.0)
    told = thermal.story(lab.context, job).scalar("energy_gross_mj")
    with read_session(lab.context.engine) as opened:
        stored = load_envelopes(opened, job_ids=[job])[0].metric("energy_gross_mj")
    assert told is not None
    assert stored is not None
    assert stored.value == pytest.approx(told.value)


def test_the_last_trace_attached_counts(lab: SoakLab, tmp_path: Path) -> None:
    job = measured(lab)
    power_traces.import_power(lab.context, job, meter(tmp_path, -5, 300), MAPPING, meter_offset_secs=0.0)
    power_traces.import_power(lab.context, job, meter(tmp_path, -5, 300, load_mw=4000.0), MAPPING, meter_offset_secs=0.0)
    found = thermal.story(lab.context, job).scalar("mean_power_mw")
    assert found is not None
    assert found.value == pytest.approx(4000, rel=0.01)


def test_a_trace_of_another_hour_is_refused_and_not_kept(lab: SoakLab, tmp_path: Path) -> None:
    job = measured(lab)
    with pytest.raises(AlignmentFailed, match="does not overlap"):
        power_traces.import_power(lab.context, job, meter(tmp_path, 7200, 60), MAPPING, meter_offset_secs=0.0)
    assert thermal.load_soak(lab.context, job).power is None


def test_a_clock_that_is_ahead_is_put_back(lab: SoakLab, tmp_path: Path) -> None:
    job = measured(lab)
    path = meter(tmp_path, -5, 300)
    ahead = path.with_name("ahead.csv")
    lines = path.read_text().splitlines()
    shifted = [f"{float(line.partition(',')[0]) + 30_000:.1f},{line.partition(',')[2]}" for line in lines[1:]]
    ahead.write_text("\n".join([lines[0], *shifted]) + "\n")
    done = power_traces.import_power(lab.context, job, ahead, MAPPING, meter_offset_secs=30.0)
    found = done.story.scalar("idle_power_mw")
    assert found is not None
    assert found.value == pytest.approx(3000, rel=0.01)


def test_a_meter_that_knows_no_time_of_day_is_placed_by_the_marker(lab: SoakLab, tmp_path: Path) -> None:
    (job,) = lab.jobs(lab.submit(lab.write_spec(marker=True)))
    starts = (1.0, ZERO_SECS + 120 + 121)
    lab.measure(job, markers=starts)
    time = np.arange(-6.0, 280.0, 0.02)
    busy = (time >= ZERO_SECS) & (time < ZERO_SECS + 120)
    for start in starts:
        busy |= (time >= start) & (time < start + 6) & ((time - start) % 2 < 1)
    path = tmp_path / "relative.csv"
    path.write_text("t,P\n" + "".join(f"{at + 6:.3f},{8.0 if on else 3.0}\n" for at, on in zip(time, busy, strict=True)))
    done = power_traces.import_power(lab.context, job, path, Mapping(time="t", power="P"), meter_offset_secs=None)
    assert done.alignment.offset_secs == pytest.approx(ORIGIN_NS / 1e9 - 6, abs=0.03)
    found = done.story.scalar("mean_power_mw")
    assert found is not None
    assert found.value == pytest.approx(8000, rel=0.01)
