import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from agent.errors import DeviceReplyInvalid
from agent.protocol import EVENT_CODES, PHASES, QUERY_COLUMNS, RunnerReport, SamplingCost, SensorInfo
from orchestrator.analysis.metric_names import definition_of
from orchestrator.domain.soak import Ambient, Pattern
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory, ThrottleCause
from tests.unit.analysis.builders import ORIGIN_NS
from tests.unit.analysis.soaks import ZERO_SECS, Bench, Board, Soak, make_soak, replace_soak, report_of

HOT = Bench(board=Board(trip_c=80.0), duration=200.0)
SIGNS = ("cooling.cpufreq_level", "clock.policy0_khz", "cgroup.throttled_secs")


def _value(story: ThermalStory, name: str) -> float:
    metric = story.scalar(name)
    assert metric is not None, name
    assert metric.value is not None, metric.cause
    return metric.value


def _cause(story: ThermalStory, name: str) -> str:
    metric = story.scalar(name)
    assert metric is not None
    assert metric.value is None
    return metric.cause or ""


@pytest.fixture(scope="module")
def hot() -> Soak:
    return make_soak(HOT)


@pytest.fixture(scope="module")
def hot_story(hot: Soak) -> ThermalStory:
    return hot.tell(limit_c=85.0)


def test_throttling_is_dated_by_the_first_sample_that_shows_it(hot: Soak, hot_story: ThermalStory) -> None:
    assert hot.trip_secs is not None
    assert hot_story.onset is not None
    assert hot_story.throttled is True
    assert hot_story.onset.cause is ThrottleCause.COOLING_DEVICE
    assert 0 <= hot_story.onset.at_secs - hot.trip_secs <= 0.11
    assert hot_story.onset.temperature_c == pytest.approx(80, abs=0.2)
    assert _value(hot_story, "time_to_throttle_secs") == hot_story.onset.at_secs


def test_every_sign_is_kept_with_its_own_time_and_metric(hot_story: ThermalStory) -> None:
    assert hot_story.onset is not None
    causes = [sign.cause for sign in hot_story.onset.signs]
    assert causes == [ThrottleCause.COOLING_DEVICE, ThrottleCause.CLOCK, ThrottleCause.CPU_QUOTA, ThrottleCause.LATENCY]
    named = [metric for metric in hot_story.scalars if metric.name.startswith("throttle_sign_secs.")]
    assert [metric.name.rpartition(".")[2] for metric in named] == [cause.value for cause in causes]
    assert named[0].value == hot_story.onset.at_secs


@pytest.mark.parametrize(
    ("kept", "cause"),
    [
        ("cooling.cpufreq_level", ThrottleCause.COOLING_DEVICE),
        ("clock.policy0_khz", ThrottleCause.CLOCK),
        ("cgroup.throttled_secs", ThrottleCause.CPU_QUOTA),
    ],
)
def test_one_telltale_alone_dates_the_throttling(hot: Soak, kept: str, cause: ThrottleCause) -> None:
    story = hot.without(*(name for name in SIGNS if name != kept)).tell()
    assert hot.trip_secs is not None
    assert story.onset is not None
    assert story.onset.cause is cause
    # A counter shows its growth in the sample after the one in which it begins.
    assert 0 <= story.onset.at_secs - hot.trip_secs <= 0.21


def test_a_device_without_any_telltale_shows_throttling_by_latency_alone(hot: Soak) -> None:
    story = hot.without(*SIGNS).tell()
    assert hot.trip_secs is not None
    assert story.onset is not None
    assert story.onset.cause is ThrottleCause.LATENCY
    assert abs(story.onset.at_secs - hot.trip_secs) <= story.window_secs


def test_a_firmware_flag_and_an_over_current_count_are_signs() -> None:
    for name, quantity, values, cause in (
        ("throttled.firmware", "flag", lambda secs: secs >= 50, ThrottleCause.FIRMWARE_FLAG),
        ("thermal_status.android", "state", lambda secs: 2 * (secs >= 50), ThrottleCause.FIRMWARE_FLAG),
        ("over_current.oc1_events", "counter", lambda secs: 7 + (secs >= 50), ThrottleCause.OVER_CURRENT),
    ):
        soak = _with_channel(make_soak(Bench(duration=100, cooldown=5)), name, quantity, values)
        story = soak.tell()
        assert story.onset is not None
        assert story.onset.cause is cause
        assert story.onset.at_secs == pytest.approx(50, abs=0.11)


def test_a_flag_that_was_set_when_its_sensor_fell_silent_does_not_count_on() -> None:
    soak = _with_channel(make_soak(Bench(duration=100, cooldown=5)), "throttled.firmware", "flag", lambda secs: secs >= 50)
    soak.change_channel("throttled.firmware", 52.05, 999, lambda value: np.full_like(value, np.nan))
    assert _value(soak.tell(), "throttled_fraction") == pytest.approx(0.03, abs=0.005)


def test_a_device_that_was_held_back_before_the_load_throttled_from_the_first_reading_on() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5)).without("clock.policy0_khz", "cgroup.throttled_secs")
    soak.change_channel("cooling.cpufreq_level", -99, 999, lambda value: np.full_like(value, 2.0))
    story = soak.tell()
    assert story.throttled is True
    assert "from the first reading on" in story.throttle_words


def test_a_count_of_over_currents_from_before_the_load_is_no_sign() -> None:
    soak = _with_channel(make_soak(Bench(duration=60, cooldown=5)), "over_current.oc1_events", "counter", lambda secs: 0 * secs + 7)
    assert soak.tell().throttled is False


def test_a_fan_that_spins_up_is_no_throttling() -> None:
    story = make_soak(Bench(duration=100)).tell()
    assert story.throttled is False
    assert story.throttle_words.startswith("did not throttle: no sign from CPU quota, clock, cooling device")
    assert story.onset is None
    assert "did not throttle" in _cause(story, "time_to_throttle_secs")
    assert _value(story, "throttled_fraction") == 0


def test_what_nothing_could_have_shown_is_unknown() -> None:
    story = make_soak(Bench(duration=30)).without(*SIGNS).tell()
    assert story.throttled is None
    assert "unknown" in story.throttle_words


def test_telltales_that_fell_silent_before_the_load_cannot_say_that_it_did_not_throttle() -> None:
    soak = make_soak(Bench(duration=30))
    soak.drop_telemetry(-0.05, 999)
    assert soak.tell().throttled is None


def test_a_clock_that_twitches_for_one_sample_is_no_throttling() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    soak.change_channel("clock.policy0_khz", 30.0, 30.1, lambda value: value * 0.3)
    assert soak.tell().throttled is False


def test_an_idle_clock_domain_does_not_pass_for_throttling() -> None:
    soak = _with_channel(
        make_soak(Bench(duration=60, cooldown=5)), "clock.policy4_khz", "clock", lambda secs: np.where(secs < 20, 9e5, 4e5)
    )
    conditions = {"frequency": {"policy0": {"max_khz": 2_000_000}, "policy4": {"max_khz": 2_000_000}}}
    assert replace_soak(soak, outcome=dataclasses.replace(soak.outcome, conditions=conditions)).tell().throttled is False


def test_the_firmwares_clock_counts_before_the_one_that_was_asked_for() -> None:
    soak = _with_channel(make_soak(Bench(duration=60, cooldown=5)), "clock.arm_khz", "clock", lambda secs: np.where(secs < 40, 2e6, 1e6))
    story = soak.tell()
    assert story.onset is not None
    assert story.onset.signs[0].channel == "clock.arm_khz"
    assert _value(story, "clock_ratio") == pytest.approx((40 + 20 * 0.5) / 60, rel=0.01)


def test_latency_that_rose_because_others_had_the_cpu_is_not_called_throttling() -> None:
    soak = make_soak(Bench(board=Board(trip_c=75.0), duration=120, cooldown=5))
    soak.change_channel("cgroup.throttled_secs", -99, 999, lambda value: 0 * value)
    story = soak.without("cooling.cpufreq_level", "clock.policy0_khz").tell()
    assert story.throttled is False
    assert "others had the CPU" in story.throttle_words


def test_windows_hold_what_ended_in_them_and_burst_and_sustained_are_the_first_and_the_last(hot: Soak, hot_story: ThermalStory) -> None:
    ends = _steady_ends(hot)
    assert [window.completions for window in hot_story.windows] == [
        int(np.count_nonzero((ends > 10 * index) & (ends <= 10 * index + 10))) for index in range(20)
    ]
    first, last = hot_story.windows[0], hot_story.windows[-1]
    assert _value(hot_story, "sustained_burst") == pytest.approx(last.completions / first.completions, rel=1e-6)
    counts = [window.completions for window in hot_story.windows]
    assert _value(hot_story, "stability_percent") == pytest.approx(100 * min(counts) / max(counts), rel=1e-6)
    means = [window.mean_invoke_ms or 0 for window in (first, last)]
    assert _value(hot_story, "degradation_percent") == pytest.approx(100 * (means[1] / means[0] - 1))
    assert means[0] == pytest.approx(5)


def test_a_last_partial_window_is_left_out() -> None:
    story = make_soak(Bench(duration=47, cooldown=5)).tell()
    assert [window.end_secs for window in story.windows] == [10, 20, 30, 40]


def test_the_time_that_probes_take_is_not_the_loads_time() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    queries = soak.streams["queries"]
    hot_probes = (queries["phase"] == PHASES.index("probe")) & (queries["start_ns"] > ZERO_SECS * 1e9)
    # Four of them at 5, 10, 15 … s, one after the other: those at 10 s begin as the first window ends.
    queries["start_ns"][hot_probes] += np.tile(np.arange(4, dtype=np.uint64) * np.uint64(125_000_000), np.count_nonzero(hot_probes) // 4)
    queries["invoke_ns"][hot_probes] = 125_000_000
    story = soak.tell()
    assert story.windows[0].rate_qps == pytest.approx(story.windows[0].completions / 9.5, rel=0.02)


def test_granted_cpu_and_throttled_share_agree_with_what_was_granted(hot: Soak, hot_story: ThermalStory) -> None:
    assert _value(hot_story, "granted_cpu_cores") == pytest.approx(hot.granted_cpu_secs / 200, rel=0.002)
    # At 0.6 of the speed while throttled, so every second of it cost 0.4.
    assert _value(hot_story, "throttled_fraction") == pytest.approx((200 - hot.granted_cpu_secs) / 0.4 / 200, abs=0.005)


def test_the_rise_is_told_against_ambient_and_against_the_limit(hot_story: ThermalStory) -> None:
    sustained = _value(hot_story, "sustained_c")
    assert _value(hot_story, "rise_c") == pytest.approx(sustained - 25)
    assert _value(hot_story, "normalised_rise") == pytest.approx((sustained - 25) / 60)


def test_without_a_stated_or_measured_ambient_no_rise_is_told(hot: Soak) -> None:
    story = replace_soak(hot, settings=hot.settings.model_copy(update={"ambient": None})).tell()
    assert (story.ambient_c, story.predictions) == (None, ())
    assert "ambient temperature is unknown" in _cause(story, "rise_c")


def test_a_measured_ambient_is_the_mean_of_its_channel_over_the_load() -> None:
    soak = _with_channel(make_soak(Bench(duration=40, cooldown=5)), "ambient.room_c", "temperature", lambda secs: 21 + 0 * secs)
    for ambient in (None, Ambient(sensor="ambient.room_c")):
        story = replace_soak(soak, settings=soak.settings.model_copy(update={"ambient": ambient})).tell()
        assert story.ambient_c == pytest.approx(21)
        assert story.ambient_source == "measured by ambient.room_c"


def test_the_limit_is_the_zones_lowest_passive_trip_point_where_the_profile_states_none(hot: Soak) -> None:
    trips = [{"type": "active", "temperature_c": 50}, {"type": "passive", "temperature_c": 80}, {"type": "critical", "temperature_c": 110}]
    zones = {"thermal_zones": {"SOC": {"zone": "thermal_zone0", "trip_points": trips}}}
    soak = replace_soak(hot, outcome=dataclasses.replace(hot.outcome, conditions=zones))
    assert soak.tell().limit_c == 80
    assert soak.tell(limit_c=85.0).limit_c == 85


@pytest.mark.parametrize(
    "zones",
    [
        {"soc": []},
        {"soc": {"trip_points": [{"type": "passive"}]}},
        [],
        {"soc": {"trip_points": [7, {"type": "passive", "temperature_c": True}]}},
    ],
)
def test_trip_points_that_make_no_sense_are_no_limit(hot: Soak, zones: object) -> None:
    soak = replace_soak(hot, outcome=dataclasses.replace(hot.outcome, conditions={"thermal_zones": zones}))
    assert soak.tell().limit_c is None


def test_on_an_emulated_cpu_nothing_is_told_that_depends_on_its_speed(hot: Soak) -> None:
    story = hot.tell(emulated=Emulation.CPU)
    assert story.windows == ()
    told = {metric.name for metric in story.scalars if metric.value is not None}
    assert told == {"probe_changed_samples"}


def test_a_soak_without_one_steady_query_tells_what_it_can() -> None:
    soak = make_soak(Bench(duration=20, cooldown=5))
    queries = soak.streams["queries"]
    cold = queries["start_ns"] < ZERO_SECS * 1e9 - 1
    soak.streams["queries"] = {name: column[cold] for name, column in queries.items()}
    story = soak.tell(complete=False)
    assert (story.windows, story.steady_secs) == ((), 0.0)
    assert story.gaps[-1].words == "no load was recorded; 20 s were planned"


def test_a_run_that_was_lost_is_told_as_far_as_it_came_and_its_end_is_a_gap(hot: Soak) -> None:
    queries = hot.streams["queries"]
    kept = queries["start_ns"] < (ZERO_SECS + 95) * 1e9
    telemetry = hot.streams["telemetry"]
    seen = telemetry["time_ns"] < ORIGIN_NS + (ZERO_SECS + 95) * 1e9
    lost = replace_soak(
        hot,
        streams={
            "queries": {name: column[kept] for name, column in queries.items()},
            "telemetry": {name: column[seen] for name, column in telemetry.items()},
        },
        outcome=dataclasses.replace(hot.outcome, runner=RunnerReport(origin_monotonic_ns=ORIGIN_NS), status="lost"),
    )
    story = lost.tell(complete=False)
    assert story.complete is False
    assert story.steady_secs == pytest.approx(95, abs=0.1)
    assert len(story.windows) == 9
    assert story.onset is not None
    assert (story.gaps[-1].start_secs, story.gaps[-1].end_secs) == (story.steady_secs, 200)
    assert "95.0 s of load; 200 s were planned" in story.gaps[-1].words


def test_a_hole_in_the_telemetry_is_a_gap_and_a_late_sample_is_none() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    soak.drop_telemetry(20.05, 23.95)
    soak.drop_telemetry(40.05, 40.35)
    gaps = soak.tell().gaps
    assert [(round(gap.start_secs), round(gap.end_secs or 0)) for gap in gaps] == [(20, 24)]
    assert gaps[0].words == "no telemetry for 4.0 s"


def test_a_long_rest_between_queries_is_a_gap_only_where_no_rest_was_asked_for() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    queries = soak.streams["queries"]
    secs = queries["start_ns"] / 1e9 - ZERO_SECS
    kept = (secs < 20) | (secs > 24)
    soak.streams["queries"] = {name: column[kept] for name, column in queries.items()}
    assert [gap.words for gap in soak.tell().gaps] == ["no query for 4.0 s"]
    rests = Pattern.model_validate({"duty_cycle": {"on_secs": 20, "off_secs": 4}})
    assert replace_soak(soak, settings=soak.settings.model_copy(update={"pattern": rests})).tell().gaps == ()


def test_a_sensor_that_fell_silent_is_told_with_its_times() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    rows = [("sensor_failed", 20.0), ("sensor_recovered", 31.0)]
    index = [sensor.name for sensor in soak.outcome.sensors].index("power.board_mw")
    soak.streams["events"] = {
        "time_ns": np.array([ORIGIN_NS + int((secs + ZERO_SECS) * 1e9) for _, secs in rows], dtype=np.uint64),
        "code": np.array([EVENT_CODES.index(name) for name, _ in rows], dtype=np.uint16),
        "value": np.full(2, float(index)),
    }
    story = soak.tell()
    assert [(fault.channel, fault.words) for fault in story.sensor_faults] == [
        ("power.board_mw", "fell silent at 20.0 s, again there at 31.0 s")
    ]
    assert [event.words for event in story.events] == ["sensor fell silent: power.board_mw", "sensor speaks again: power.board_mw"]


def test_a_temperature_that_stands_still_as_the_load_begins_is_told_and_a_level_one_later_is_not() -> None:
    stuck = make_soak(Bench(duration=60, cooldown=40))
    stuck.change_channel("thermal.soc_c", -99, 33, lambda value: np.full_like(value, 37.0))
    assert [fault.channel for fault in stuck.tell().sensor_faults if fault.stood_still] == ["thermal.soc_c"]
    level = make_soak(Bench(board=Board(die_tau=0.2, board_tau=4), duration=100, cooldown=50, quantum_c=1.0))
    assert level.tell().sensor_faults == ()


def test_a_zone_that_stops_following_its_neighbour_is_told() -> None:
    soak = make_soak(Bench(duration=150, cooldown=40))
    celsius = next(iter(soak.tell().windows)).temperature_c
    assert celsius is not None
    soak = _with_channel(soak, "thermal.gpu_c", "temperature", lambda secs: 40 + 20 * (1 - np.exp(-np.clip(secs, 0, 20) / 30)))
    faults = [fault for fault in soak.tell().sensor_faults if fault.stood_still]
    assert [fault.channel for fault in faults] == ["thermal.gpu_c"]
    assert "while another zone moved" in faults[0].words


def test_energy_per_inference_is_the_integral_of_power_in_all_and_above_idle() -> None:
    story = make_soak(Bench(duration=60, cooldown=5, base_ms=10)).tell()
    # 6 W and 5 W above idle at 100 inferences a second, four probes every five seconds among them.
    probes = 4 * 11 / (6000 + 4 * 11)
    assert _value(story, "energy_gross_mj") == pytest.approx(60 * (1 - probes), rel=0.002)
    assert _value(story, "energy_net_mj") == pytest.approx(50 * (1 - probes), rel=0.002)
    assert _value(story, "idle_power_mw") == pytest.approx(1000)


def test_energy_leaves_a_hole_in_the_readings_out_of_joules_and_of_inferences() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5, base_ms=10))
    soak.change_channel("power.board_mw", 20, 40, lambda value: value * 100)
    soak.drop_telemetry(19.95, 40.05)
    assert _value(soak.tell(), "energy_gross_mj") == pytest.approx(60, rel=0.02)


def test_without_an_idle_stretch_energy_above_idle_is_absent_with_its_cause() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    queries = soak.streams["queries"]
    kept = queries["start_ns"] >= ZERO_SECS * 1e9 - 1
    soak.streams["queries"] = {name: column[kept] for name, column in queries.items()}
    story = soak.tell()
    assert "no idle stretch" in _cause(story, "energy_net_mj")
    assert _value(story, "energy_gross_mj") > 0


def test_rails_are_summed_where_the_board_shows_no_total_and_nothing_is_told_without_any() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5)).without("power.board_mw")
    assert "no power channel" in _cause(soak.tell(), "energy_gross_mj")
    for name in ("power.cpu_mw", "power.gpu_mw"):
        soak = _with_channel(soak, name, "power", lambda secs: 1500 + 0 * secs)
    assert _value(soak.tell(), "mean_power_mw") == pytest.approx(3000)


def test_sampling_cost_and_dropped_arrivals_are_told_as_the_device_reported_them() -> None:
    soak = make_soak(Bench(duration=30, cooldown=5))
    outcome = dataclasses.replace(soak.outcome, sampling=SamplingCost(cpu_secs=0.4, wall_secs=80, hertz=10))
    story = replace_soak(soak, outcome=outcome).tell()
    assert _value(story, "sampling_cpu_percent") == pytest.approx(0.5)
    assert _value(story, "dropped_count") == 0


def test_every_metric_of_a_soak_is_defined_in_its_unit(hot_story: ThermalStory) -> None:
    for metric in hot_story.scalars:
        assert definition_of(metric.name).unit == metric.unit
        assert metric.value is not None or metric.cause


def test_the_same_traces_tell_the_same_story(hot: Soak, hot_story: ThermalStory) -> None:
    assert hot.tell(limit_c=85.0) == hot_story


def test_a_steady_part_that_ended_in_a_rest_is_as_long_as_the_runner_says() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    queries = soak.streams["queries"]
    kept = queries["start_ns"] < (ZERO_SECS + 47) * 1e9
    soak.streams["queries"] = {name: column[kept] for name, column in queries.items()}
    longer = replace_soak(soak, outcome=dataclasses.replace(soak.outcome, runner=report_of(soak, steady_ns=60_000_000_000)))
    assert longer.tell().steady_secs == 60
    assert longer.tell(complete=False).steady_secs == pytest.approx(47, abs=0.1)


def _steady_ends(soak: Soak) -> np.ndarray:
    queries = soak.streams["queries"]
    steady = queries["phase"] == PHASES.index("steady")
    total = sum(queries[name][steady].astype(np.int64) for name in ("start_ns", "pre_ns", "invoke_ns", "post_ns"))
    return total / 1e9 - ZERO_SECS


def _with_channel(soak: Soak, name: str, quantity: str, values: object) -> Soak:
    """The same soak on a device with one more channel, ``values`` of the seconds from the first steady query."""
    telemetry = soak.streams["telemetry"]
    stamps = np.unique(telemetry["time_ns"])
    read = np.asarray(values((stamps.astype(np.int64) - ORIGIN_NS) / 1e9 - ZERO_SECS), dtype=np.float64)  # type: ignore[operator]
    more = {"time_ns": stamps, "sensor": np.full(stamps.size, len(soak.outcome.sensors), dtype=np.uint16), "value": read}
    joined = {key: np.concatenate([telemetry[key], more[key]]) for key in telemetry}
    sensors = [*soak.outcome.sensors, SensorInfo(name, "", "simulated", quantity=quantity)]
    outcome = dataclasses.replace(soak.outcome, sensors=sensors)
    return replace_soak(soak, streams={**soak.streams, "telemetry": joined}, outcome=outcome)


def test_beside_other_work_a_device_without_telltales_cannot_say_whether_it_throttled(hot: Soak) -> None:
    soak = make_soak(HOT).without(*SIGNS)
    soak.change_channel("cpu_busy_percent", -99, 999, lambda value: value + 40)
    story = soak.tell()
    assert story.throttled is None
    assert "other processes used 41 % of all CPUs meanwhile" in story.throttle_words
    assert story.scalar("throttled_fraction") is not None
    assert _cause(story, "throttled_fraction").startswith("unknown")
    with_clock = make_soak(HOT).without("cooling.cpufreq_level", "cgroup.throttled_secs")
    with_clock.change_channel("cpu_busy_percent", -99, 999, lambda value: value + 40)
    with_clock.change_channel("clock.policy0_khz", -99, 999, lambda value: np.full_like(value, 2_000_000))
    assert with_clock.tell().throttled is False


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_device_writes_is_told_in_finite_numbers_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    soak = make_soak(Bench(duration=40, cooldown=20, seed=seed))
    telemetry, events, probes, queries = (soak.streams[name] for name in ("telemetry", "events", "probes", "queries"))
    wild = np.array([1e300, -1e300, np.inf, np.nan, -273, 0, 1e14, 5e-324])
    rows = rng.random(telemetry["value"].size) < (0.02, 0.5, 1.0)[seed % 3]
    telemetry["value"][rows] = rng.choice(wild, np.count_nonzero(rows))
    telemetry["time_ns"][rng.random(rows.size) < 0.01] = rng.integers(0, 2**62, dtype=np.uint64)
    events["code"][:] = rng.integers(0, len(EVENT_CODES), events["code"].size)
    events["value"][:] = rng.choice(wild, events["value"].size)
    for column in probes.values():
        column[rng.random(column.size) < 0.1] = 0
    some = rng.random(queries["phase"].size) < 0.01
    queries["phase"][some] = rng.integers(0, len(PHASES), np.count_nonzero(some))
    queries["start_ns"][some] = rng.integers(0, 2**53, np.count_nonzero(some), dtype=np.uint64)
    try:
        story = soak.tell(limit_c=85.0, complete=bool(seed % 2))
    except DeviceReplyInvalid:
        return
    # JSON knows neither infinity nor not-a-number.
    json.dumps(story.model_dump(mode="python", exclude={"events"}), allow_nan=False, default=str)


def test_a_million_queries_are_told_in_a_hundred_bytes_each() -> None:
    soak = make_soak(Bench(duration=60, cooldown=5))
    count = 1_000_000
    many = {name: np.zeros(count, dtype=kind) for name, kind in QUERY_COLUMNS}
    many["phase"][:] = PHASES.index("steady")
    many["phase"][5::50_000] = PHASES.index("probe")
    many["start_ns"][:] = int(ZERO_SECS * 1e9) + np.arange(count, dtype=np.uint64) * np.uint64(60_000)
    many["invoke_ns"][:] = 50_000
    soak.streams["queries"] = many
    tracemalloc.start()
    try:
        story = soak.tell()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The last query ends with the sixth window, so every one but the probes is in one.
    assert sum(window.completions for window in story.windows) == count - 20
    assert peak < 100 * count
