"""The loop of a soak follows its pattern exactly, with a clock that the test moves; no test here waits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_model import MILLISECOND, SECOND, SlowModel

from agent import soak as soak_module
from agent.errors import DiskFull, RequestInvalid, SensorUnavailable
from agent.load_patterns import ControlTemperature
from agent.loadgen import first_query
from agent.probes import Prober, top_class_of
from agent.protocol import (
    CONTROL,
    PHASES,
    PROBE_COLUMNS,
    PROBES,
    QUERIES,
    QUERY_COLUMNS,
    CoLoad,
    LoadPattern,
    LoadSettings,
    ProbeSettings,
    SoakReport,
    SoakSettings,
)
from agent.recorder import QueryRecorder
from agent.soak import FREE_BYTES, MAX_TELEMETRY_BYTES, MIN_QUERIES_BYTES, Machine, Room, SoakResult, check_soak, run_soak
from agent.spool import SpoolWriter, read_spool

NO_WARM_UP = LoadSettings(0.0, 0, 0.0, 0, 60.0)
GIGABYTE = 1024**3
#: By how much a sleep ends too late, as on a real kernel.
OVERSLEPT_NS = 150_000


class World:
    """A device in a fake time: a model of 10 ms, a body that heats under load and cools at rest, and a soak on it."""

    def __init__(self, folder: Path, clock: Any) -> None:
        self.folder, self.clock = folder, clock
        self.model = SlowModel(clock)
        self.celsius, self.has_sensor = 40.0, True
        self.stop_ns = math.inf
        self.free_bytes = GIGABYTE
        self.reports: list[tuple[str, int, int, float]] = []
        self.slept_ns: list[int] = []
        self.started_ns = clock.now_ns
        self._answered = 0

    def run(self, pattern: LoadPattern | None = None, *, load: LoadSettings = NO_WARM_UP, **changes: Any) -> SoakResult:
        fields: dict[str, Any] = {"duration_secs": 10.0, "idle_secs": 0.0, "pattern": pattern or LoadPattern()}
        settings = SoakSettings(**{**fields, **changes})
        samples = [np.array([number], np.float32) for number in range(5)]
        path = self.folder / "queries.spool"
        control = ControlTemperature(self.folder / "control")
        with (
            SpoolWriter(path, QUERIES, QUERY_COLUMNS) as queries,
            SpoolWriter(self.folder / "probes.spool", PROBES, PROBE_COLUMNS) as probes,
        ):
            recorder = QueryRecorder(queries, 5, self.started_ns, self.clock)
            pipeline = self.model.pipeline()
            prober = None
            if settings.probe is not None:
                answer = first_query(pipeline, samples[0], recorder, self.clock)
                top_class = top_class_of("tensor", answer)
                prober = Prober(pipeline, samples, settings.probe, top_class, probes, recorder, self.started_ns, self.clock)
            room = Room(path, settings.max_queries_bytes, lambda: self.free_bytes)
            machine = Machine(self.clock, self._sleep, self._should_stop, self._report, control, room, lambda: None)
            self._write_control()
            result = run_soak(pipeline, samples, load, settings, recorder, prober, machine)
        control.close()
        self.queries = read_spool(path, QUERIES).columns
        self.probes = read_spool(self.folder / "probes.spool", PROBES).columns
        return result

    def starts(self, phase: str = "steady") -> np.ndarray:
        """Start times of a phase, in ns from the beginning of everything."""
        return self.queries["start_ns"][self.queries["phase"] == PHASES.index(phase)].astype(np.int64)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        nanoseconds = round(seconds * 1e9) + OVERSLEPT_NS
        self.slept_ns.append(nanoseconds)
        self.clock.advance(nanoseconds)
        self.celsius -= seconds * 2
        self._write_control()

    def _should_stop(self) -> bool:
        return bool(self.clock.now_ns >= self.stop_ns)

    def _report(self, phase: str, done: int = 0, total: int = 0, seconds_left: float = -1.0) -> None:
        self.reports.append((phase, done, total, seconds_left))
        self.celsius += (len(self.model.seen) - self._answered) * 0.01  # 1 °C per second of load
        self._answered = len(self.model.seen)
        self._write_control()

    def _write_control(self) -> None:
        celsius = self.celsius if self.has_sensor else math.nan
        (self.folder / "control").write_bytes(CONTROL.pack(self.clock.now_ns, celsius))


@pytest.fixture
def world(tmp_path: Path, clock_of: Callable[[int], Any]) -> World:
    return World(tmp_path, clock_of(1000))


def test_flat_out_lasts_for_its_duration_and_leaves_no_pause(world: World) -> None:
    result = world.run(duration_secs=10.0)
    assert 10 * SECOND <= result.steady_ns < 10 * SECOND + 12 * MILLISECOND
    assert result.steady_count == len(world.starts()) == pytest.approx(1000, abs=2)
    assert result.min_duration_met
    assert not world.slept_ns
    assert result.soak.dropped_count == 0
    assert np.diff(world.starts()).max() < 11 * MILLISECOND


def test_a_fixed_rate_is_kept_to_the_clock_and_real_starts_are_recorded(world: World) -> None:
    result = world.run(LoadPattern("fixed_rate", rate_hz=30.0), duration_secs=20.0)
    assert (result.steady_count, result.soak.dropped_count) == (600, 0)
    due = world.starts()[0] + np.round(np.arange(600) / 30.0 * SECOND).astype(np.int64)
    late = world.starts() - due
    assert (late.min() >= -2000, late.max() <= 20_000) == (True, True)  # a few readings of the clock


def test_a_camera_faster_than_the_model_drops_frames(world: World) -> None:
    world.model.invoke_ns = 47 * MILLISECOND  # 50 ms a query, a frame every 33.3 ms
    result = world.run(LoadPattern("fixed_rate", rate_hz=30.0), duration_secs=10.0)
    assert result.steady_count == 150
    assert result.steady_count + result.soak.dropped_count == 300


def test_no_query_starts_in_the_off_part_of_a_duty_cycle(world: World) -> None:
    result = world.run(LoadPattern("duty_cycle", on_secs=1.0, off_secs=2.0), duration_secs=12.0)
    within = (world.starts() - world.starts()[0] + MILLISECOND) % (3 * SECOND)
    assert (within < SECOND + 2 * MILLISECOND).all()
    assert result.steady_count == pytest.approx(400, abs=8)
    assert result.steady_ns >= 12 * SECOND


def test_recorded_arrivals_are_asked_when_they_came(world: World) -> None:
    result = world.run(LoadPattern("recorded", arrivals_secs=[0.1, 0.15, 0.155, 0.9], cycle_secs=1.0), duration_secs=3.0)
    assert (result.steady_count, result.soak.dropped_count) == (9, 3)  # 0.155 s falls into the query before it
    offsets = (world.starts() - world.started_ns) / SECOND % 1.0
    np.testing.assert_allclose(offsets, [0.1, 0.15, 0.9] * 3, atol=1e-3)


def test_a_thermal_cycle_keeps_the_device_between_its_temperatures(world: World) -> None:
    result = world.run(LoadPattern("thermal_cycle", low_c=42.0, high_c=46.0), duration_secs=60.0)
    gaps = np.diff(world.starts())
    rests = gaps[gaps > SECOND]
    assert len(rests) >= 5
    assert (rests < 3 * SECOND).all()  # 4 °C at 2 °C a second
    assert 41.0 < world.celsius < 47.0
    assert result.soak.control_unknown_ns == 0


def test_a_thermal_cycle_rests_while_its_sensor_is_silent_and_says_for_how_long(world: World) -> None:
    report = world._report

    def silent_from_the_third_second(*told: Any) -> None:
        world.has_sensor = world.clock.now_ns < world.started_ns + 3 * SECOND
        report(*told)

    world._report = silent_from_the_third_second  # type: ignore[method-assign]
    result = world.run(LoadPattern("thermal_cycle", low_c=42.0, high_c=90.0), duration_secs=30.0)
    assert world.starts().max() - world.started_ns < 4 * SECOND
    assert result.soak.control_unknown_ns == pytest.approx(27 * SECOND, abs=SECOND)
    assert result.steady_ns >= 30 * SECOND


def test_a_thermal_cycle_without_any_temperature_is_refused_before_it_loads(world: World) -> None:
    world.has_sensor = False
    with pytest.raises(SensorUnavailable, match="none could be read") as raised:
        world.run(LoadPattern("thermal_cycle", low_c=42.0, high_c=46.0))
    assert "control_sensor" in raised.value.remedy
    assert not world.model.seen


def test_preconditioning_ends_at_its_temperature_or_its_time(world: World) -> None:
    result = world.run(precondition_secs=100.0, precondition_until_c=50.0)
    assert result.soak.precondition_count == pytest.approx(1000, abs=40)  # 10 °C at 1 °C a second
    assert len(world.starts("precondition")) == result.soak.precondition_count


def test_preconditioning_without_a_sensor_ends_by_time(world: World) -> None:
    world.has_sensor = False
    result = world.run(precondition_secs=3.0, precondition_until_c=50.0)
    assert result.soak.precondition_count == pytest.approx(300, abs=2)


def test_the_idle_part_asks_nothing(world: World) -> None:
    world.run(idle_secs=20.0, probe=ProbeSettings(5, 5.0, 3))
    cold_end = world.starts("probe")[:15].max()
    assert world.starts()[0] - cold_end >= 20 * SECOND
    assert sum(world.slept_ns) == pytest.approx(20 * SECOND, rel=0.01)


def test_warm_up_comes_between_rest_and_load_and_is_counted_apart(world: World) -> None:
    result = world.run(load=LoadSettings(1.0, 10, 0.0, 0, 60.0))
    assert result.warmup_count == len(world.starts("warmup")) == pytest.approx(100, abs=1)
    assert world.starts("warmup").max() < world.starts().min()


def test_probes_are_asked_cold_and_then_on_their_grid_and_the_time_they_take_is_told(world: World) -> None:
    result = world.run(duration_secs=20.0, probe=ProbeSettings(3, 5.0, 4))
    assert world.probes["sample"].tolist() == [0, 1, 2] * 7
    assert world.probes["cold"].tolist() == [1] * 12 + [0] * 9
    assert world.probes["round"].tolist() == np.repeat(range(7), 3).tolist()
    assert (result.soak.probe_rounds, result.soak.probe_count) == (7, 21)
    np.testing.assert_array_equal(world.starts("probe"), world.probes["start_ns"])
    hot = world.starts("probe")[12::3] - world.starts()[0]
    np.testing.assert_allclose(hot / SECOND, [5, 10, 15], atol=0.02)
    assert result.soak.probe_ns == pytest.approx(9 * 10 * MILLISECOND, rel=0.02)
    assert len(set(world.probes["digest"].tolist())) == 3


def test_a_round_of_probes_changes_nothing_for_the_queries_after_it(world: World) -> None:
    world.run(duration_secs=3.0, probe=ProbeSettings(4, 0.5, 1))
    steady = world.queries["phase"] == PHASES.index("steady")
    asked = np.array(world.model.seen)
    np.testing.assert_array_equal(asked, world.queries["sample"])
    np.testing.assert_array_equal(asked[steady], (1 + np.arange(steady.sum())) % 5)


def test_frames_that_pass_during_probes_are_not_blamed_on_the_model(world: World) -> None:
    result = world.run(LoadPattern("fixed_rate", rate_hz=30.0), duration_secs=10.0, probe=ProbeSettings(5, 2.0, 1))
    assert result.soak.dropped_count == 0
    assert 4 <= result.soak.dropped_for_probes <= 4 * 3
    assert result.steady_count + result.soak.dropped_for_probes == 300


def test_probes_that_take_longer_than_their_period_leave_half_of_the_time_to_the_load(world: World) -> None:
    result = world.run(duration_secs=10.0, probe=ProbeSettings(5, 0.01, 1))
    assert result.soak.probe_ns < 0.55 * result.steady_ns


def test_a_stop_is_obeyed_within_a_fifth_of_a_second_and_keeps_what_was_measured(world: World) -> None:
    world.stop_ns = world.clock.now_ns + 3 * SECOND
    result = world.run(duration_secs=60.0)
    assert 3 * SECOND <= result.steady_ns <= 3.25 * SECOND
    assert not result.min_duration_met
    assert (result.soak.stopped, result.steady_count) == (None, len(world.starts()))


@pytest.mark.parametrize(("changes", "part"), [({"idle_secs": 9.0}, "idle"), ({"precondition_secs": 9.0}, "precondition")])
def test_a_stop_before_the_load_leaves_no_steady_query(world: World, changes: dict[str, Any], part: str) -> None:
    world.stop_ns = world.clock.now_ns + SECOND
    result = world.run(**changes)
    assert (result.steady_count, len(world.starts()), result.soak.stopped) == (0, 0, None)
    assert world.reports[-1][0] == part


def test_a_soak_ends_in_order_before_its_spool_grows_beyond_its_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_module, "_NEEDED_BYTES", 3000)
    result = world.run(duration_secs=1000.0, max_queries_bytes=MIN_QUERIES_BYTES // 100)
    size = (world.folder / "queries.spool").stat().st_size
    assert MIN_QUERIES_BYTES // 200 < size <= MIN_QUERIES_BYTES // 100
    assert (result.soak.stopped, result.soak.queries_bytes) == ("disk_bound", size)
    assert result.steady_count == len(world.starts())
    assert not result.min_duration_met


@pytest.mark.parametrize("probe", [None, ProbeSettings(4, 1.0, 2), ProbeSettings(4, 0.4, 2)])
def test_a_soak_ends_in_order_when_the_file_system_fills_up(world: World, probe: ProbeSettings | None) -> None:
    report = world._report

    def fill(*told: Any) -> None:
        world.free_bytes = GIGABYTE if world.clock.now_ns < world.started_ns + 5 * SECOND else FREE_BYTES
        report(*told)

    world._report = fill  # type: ignore[method-assign]
    result = world.run(duration_secs=60.0, probe=probe)
    assert result.soak.stopped == "disk_bound"
    assert result.steady_ns < 8 * SECOND
    assert result.steady_count == len(world.starts()) > 0


def test_a_soak_ends_in_order_before_its_telemetry_is_more_than_anybody_reads(world: World) -> None:
    with (world.folder / "telemetry.spool").open("wb") as telemetry:
        telemetry.truncate(MAX_TELEMETRY_BYTES)  # without a block on the disk
        assert world.run(duration_secs=3.0).soak.stopped is None
        telemetry.truncate(MAX_TELEMETRY_BYTES + 1)
    for name in ("queries", "probes"):
        (world.folder / f"{name}.spool").unlink()
    assert world.run(duration_secs=3.0).soak.stopped == "disk_bound"


def test_a_device_without_room_before_the_load_is_a_lab_error(world: World) -> None:
    world.free_bytes = FREE_BYTES
    with pytest.raises(DiskFull, match="before the measured part"):
        world.run(idle_secs=5.0)


def test_progress_is_told_at_most_five_times_a_second_with_the_seconds_that_are_left(world: World) -> None:
    world.run(idle_secs=4.0, duration_secs=10.0)
    assert len(world.reports) <= 5 * 14 + 4
    first = world.reports[0]
    assert (first[0], round(first[3])) == ("idle", 14)
    steady = [report for report in world.reports if report[0] == "steady"]
    assert steady[5][3] == pytest.approx(9.0, abs=0.1)
    assert steady[5][2] == pytest.approx(1000, rel=0.02)
    assert steady[-1] == ("steady", steady[-1][1], steady[-1][1], 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_secs": 0.0},
        {"duration_secs": math.nan},
        {"idle_secs": -1.0},
        {"precondition_secs": math.inf},
        {"probe": ProbeSettings(0)},
        {"probe": ProbeSettings(every_secs=0.0)},
        {"co_load": CoLoad(cpu_workers=-1)},
        {"max_queries_bytes": 1000},
        {"max_queries_bytes": 2**40},
        {"pattern": LoadPattern("fixed_rate")},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid):
        check_soak(SoakSettings(**{"duration_secs": 1.0, **changes}))
    check_soak(SoakSettings(1.0))
    assert SoakReport().stopped is None
