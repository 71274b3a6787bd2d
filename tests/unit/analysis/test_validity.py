import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from agent.protocol import RunnerReport, SensorInfo
from orchestrator.analysis.measure import compute
from orchestrator.analysis.telemetry import Channel, split_channels
from orchestrator.analysis.validity import RULES, Evidence, assess
from orchestrator.domain.results import ValidityRecord
from orchestrator.domain.soak import CoLoad, StartGate
from orchestrator.domain.states import Emulation, Scenario, TaskKind, Validity
from tests.unit.analysis.builders import SECOND_NS, make_telemetry
from tests.unit.analysis.soaks import Bench, Board, Soak, make_soak

TEN_SECS = (0, 10 * SECOND_NS)


def _channel(*values: float) -> Channel:
    return Channel(np.linspace(0, TEN_SECS[1], len(values)).astype(np.int64), np.array(values, dtype=np.float64))


def _sound() -> Evidence:
    """A latency run on a board that shows everything, with nothing to object to."""
    names = ("throttled", "under_voltage", "clock.policy0_khz", "thermal.cpu_c", "cpu_busy_percent", "runner_cpu_percent")
    return Evidence(
        scenario=Scenario.LATENCY,
        emulated=Emulation.NONE,
        runner=RunnerReport(
            steady_count=5000, steady_ns=TEN_SECS[1], min_duration_met=True, min_query_count_met=True, flush_pauses_ns=[1000]
        ),
        sensors=[SensorInfo(name, "", "test") for name in names],
        channels={
            "throttled": _channel(0, 0),
            "under_voltage": _channel(0, 0),
            "clock.policy0_khz": _channel(1_500_000, 1_500_000),
            "thermal.cpu_c": _channel(45, 55),
            "cpu_busy_percent": _channel(30, 30),
            "runner_cpu_percent": _channel(25, 25),
        },
        telemetry_ns=np.arange(0, 100, dtype=np.int64) * np.int64(SECOND_NS // 10),
        telemetry_hz=10,
        window_ns=TEN_SECS,
        start_c={"thermal.cpu_c": 45.0},
        start_gate_c=(20, 50),
        clock_max_khz={"policy0": 1_500_000},
        clock_offset_secs=0.01,
        query_count=5000,
        cv_percent=1.0,
    )


def _with_channel(name: str, *values: float) -> Callable[[Evidence], Evidence]:
    return lambda sound: dataclasses.replace(sound, channels={**sound.channels, name: _channel(*values)})


def _with(**changes: object) -> Callable[[Evidence], Evidence]:
    return lambda sound: dataclasses.replace(sound, **changes)  # type: ignore[arg-type]


def _with_runner(**changes: object) -> Callable[[Evidence], Evidence]:
    return lambda sound: dataclasses.replace(sound, runner=dataclasses.replace(sound.runner, **changes))  # type: ignore[arg-type]


def test_a_quiet_run_on_a_board_that_shows_everything_is_valid_and_nothing_is_unknown() -> None:
    record = assess(_sound())
    assert (record.level, record.reasons, record.unknown) == (Validity.VALID, (), ())


FAULTS = [
    ("throttled", Validity.INVALID, 50, _with_channel("throttled", 0, 1)),
    ("under_voltage", Validity.INVALID, 25, _with_channel("under_voltage", 0, 0, 0, 1)),
    ("clock_below_max", Validity.SEMIVALID, 80, _with_channel("clock.policy0_khz", 1_500_000, 900_000)),
    ("start_temperature_out_of_gate", Validity.SEMIVALID, 12, _with(start_c={"thermal.cpu_c": 62.0, "thermal.board_c": 30.0})),
    ("background_load", Validity.SEMIVALID, 40, _with_channel("cpu_busy_percent", 60, 70)),
    ("high_variation", Validity.SEMIVALID, 2.6, _with(cv_percent=2.6)),
    ("minimum_not_met", Validity.SEMIVALID, 1, _with_runner(min_query_count_met=False)),
    ("flush_pauses", Validity.SEMIVALID, 2, _with_runner(flush_pauses_ns=[TEN_SECS[1] // 100] * 2)),
    ("flush_pauses", Validity.SEMIVALID, 2, _with_runner(flush_pauses_ns=[1000], flush_total_ns=TEN_SECS[1] // 50)),
    ("telemetry_gap", Validity.SEMIVALID, 5, _with(telemetry_ns=np.arange(0, 51, dtype=np.int64) * np.int64(SECOND_NS // 10))),
    ("clock_offset", Validity.VALID, -9, _with(clock_offset_secs=-9.0)),
    ("nothing_measured", Validity.INVALID, 0, _with(query_count=0)),
    ("emulated_cpu", Validity.INVALID, 1, _with(emulated=Emulation.CPU)),
]


@pytest.mark.parametrize(("code", "level", "value", "spoil"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_each_fault_of_a_latency_run_is_found_with_its_value_and_level(
    code: str, level: Validity, value: float, spoil: Callable[[Evidence], Evidence]
) -> None:
    record = assess(spoil(_sound()))
    assert [reason.code for reason in record.reasons] == [code]
    (reason,) = record.reasons
    rule = next(rule for rule in RULES if rule.code == code)
    assert (reason.level, reason.value, reason.threshold) == (level, pytest.approx(value), rule.threshold)
    assert record.level == level


def test_every_rule_has_a_test_that_sees_it_fire() -> None:
    accuracy = {"samples_missing", "non_finite_outputs"}
    elsewhere = {"sensor_unreadable", "sensor_stuck", "numbers_changed"}
    assert {rule.code for rule in RULES} == {fault[0] for fault in FAULTS} | accuracy | elsewhere


def test_the_level_is_that_of_the_worst_reason_and_all_are_told() -> None:
    record = assess(_with(cv_percent=9.0)(_with_channel("throttled", 1, 1)(_sound())))
    assert record.level == Validity.INVALID
    assert {reason.code for reason in record.reasons} == {"throttled", "high_variation"}


def test_a_virtual_machine_without_sensors_stays_valid_and_says_once_what_it_cannot_tell() -> None:
    channels = {name: channel for name, channel in _sound().channels.items() if name.endswith("_percent")}
    sensors = [SensorInfo(name, "", "test") for name in channels]
    record = assess(_with(channels=channels, sensors=sensors, start_c={}, clock_max_khz={})(_sound()))
    assert record.level == Validity.VALID
    assert [text.partition(":")[0] for text in record.unknown] == ["throttling", "under-voltage", "clock", "temperature"]


def test_a_sensor_that_is_there_and_cannot_be_read_lowers_the_level() -> None:
    sound = _sound()
    sensors = [dataclasses.replace(sensor, error="EINVAL") if sensor.name == "throttled" else sensor for sensor in sound.sensors]
    channels = {name: channel for name, channel in sound.channels.items() if name != "throttled"}
    record = assess(_with(sensors=sensors, channels=channels)(sound))
    assert [(reason.code, reason.level) for reason in record.reasons] == [("sensor_unreadable", Validity.SEMIVALID)]
    assert "EINVAL" in record.reasons[0].message


def test_one_broken_thermal_zone_among_good_ones_lowers_nothing() -> None:
    sound = _sound()
    record = assess(_with(sensors=[*sound.sensors, SensorInfo("thermal.wifi_c", "°C", "test", "EINVAL")])(sound))
    assert record.level == Validity.VALID


def test_an_idle_core_at_a_low_clock_does_not_hide_that_the_busy_one_ran_at_full_speed() -> None:
    two = _with(clock_max_khz={"policy0": 1_500_000, "policy4": 2_400_000})(_with_channel("clock.policy4_khz", 600_000, 600_000)(_sound()))
    assert assess(two).level == Validity.VALID


def test_the_runners_own_load_is_not_background() -> None:
    busy = _with_channel("runner_cpu_percent", 95, 95)(_with_channel("cpu_busy_percent", 98, 98)(_sound()))
    assert assess(busy).level == Validity.VALID


def test_a_slow_sampling_rate_is_not_a_gap() -> None:
    slow = _with(telemetry_hz=1.0, telemetry_ns=np.array([0, 4, 8], dtype=np.int64) * np.int64(SECOND_NS))(_sound())
    assert assess(slow).level == Validity.VALID


def _accuracy(**changes: object) -> Evidence:
    return dataclasses.replace(_sound(), scenario=Scenario.ACCURACY, sample_count=300, **changes)  # type: ignore[arg-type]


def test_what_disturbs_timing_does_not_touch_an_accuracy_run() -> None:
    spoilt = _accuracy(cv_percent=80.0, runner=RunnerReport(min_duration_met=False), telemetry_hz=0.0, emulated=Emulation.CPU)
    spoilt = _with_channel("throttled", 1, 1)(_with_channel("cpu_busy_percent", 100, 100)(spoilt))
    assert assess(spoilt).level == Validity.VALID


def test_missing_samples_make_an_accuracy_run_invalid() -> None:
    record = assess(_accuracy(missing_count=1))
    assert [(reason.code, reason.level, reason.value) for reason in record.reasons] == [("samples_missing", Validity.INVALID, 1)]


def test_nan_outputs_make_an_accuracy_run_semivalid_and_name_the_samples() -> None:
    record = assess(_accuracy(non_finite_samples=(7, 21)))
    assert [(reason.code, reason.level) for reason in record.reasons] == [("non_finite_outputs", Validity.SEMIVALID)]
    assert "7, 21" in record.reasons[0].message


def test_readings_that_failed_are_not_counted_as_readings() -> None:
    telemetry, sensors = make_telemetry({"thermal.a_c": np.array([40.0, np.nan, 42.0]), "thermal.b_c": np.array([np.nan])})
    channels = split_channels(telemetry, sensors)
    assert list(channels) == ["thermal.a_c"]
    assert channels["thermal.a_c"].value.tolist() == [40.0, 42.0]


def _soak(spoil: Callable[[Soak], object] = lambda soak: None, bench: Bench | None = None, **settings: object) -> ValidityRecord:
    soak = make_soak(bench or Bench(duration=60, cooldown=40), **settings)
    spoil(soak)
    return compute(
        scenario=Scenario.SOAK,
        task=TaskKind.CLASSIFICATION,
        sample_count=4,
        streams=soak.streams,
        outcome=soak.outcome,
        telemetry_hz=soak.bench.hertz,
        soak=soak.settings,
    ).validity


def _codes(record: ValidityRecord) -> list[tuple[str, Validity]]:
    return [(reason.code, reason.level) for reason in record.reasons]


def test_a_soak_that_throttles_is_valid_for_throttling_is_what_it_looks_for() -> None:
    record = _soak(bench=Bench(board=Board(trip_c=60.0), duration=60, cooldown=40))
    assert record.level == Validity.VALID


def test_outputs_that_change_under_load_make_a_soak_invalid_and_name_the_samples() -> None:
    def flip(soak: Soak) -> None:
        probes = soak.streams["probes"]
        probes["digest"][(probes["sample"] == 3) & (probes["round"] > 6)] ^= np.uint64(1)

    record = _soak(flip)
    assert _codes(record) == [("numbers_changed", Validity.INVALID)]
    assert "1 of 4 samples (3)" in record.reasons[0].message


def test_outputs_that_vary_while_cold_leave_it_unknown_whether_heat_changes_them() -> None:
    def vary(soak: Soak) -> None:
        soak.streams["probes"]["digest"][0] ^= np.uint64(1)

    record = _soak(vary)
    assert record.level == Validity.VALID
    assert any(text.startswith("whether the numbers change with heat") for text in record.unknown)


def test_a_temperature_that_stands_still_while_the_load_begins_lowers_the_level() -> None:
    record = _soak(lambda soak: soak.change_channel("thermal.soc_c", -99, 45, lambda value: np.full_like(value, 37.0)))
    assert _codes(record) == [("sensor_stuck", Validity.SEMIVALID)]


def test_the_temperature_a_soak_is_judged_by_may_not_be_lost_while_other_sensors_go_on() -> None:
    record = _soak(lambda soak: soak.change_channel("thermal.soc_c", 10, 999, lambda value: np.full_like(value, np.nan)))
    assert _codes(record) == [("telemetry_gap", Validity.SEMIVALID)]
    assert record.reasons[0].message.startswith("thermal.soc_c, by which the soak is judged, has a gap of 50.")


def test_a_soak_that_ended_itself_before_its_time_says_so() -> None:
    record = _soak(bench=Bench(duration=60, cooldown=40), duration_secs=300.0)
    assert _codes(record) == [("minimum_not_met", Validity.SEMIVALID)]
    assert "60.0 of 300 s" in record.reasons[0].message


def test_work_that_was_asked_for_beside_the_model_is_no_background_load() -> None:
    def busy(soak: Soak) -> None:
        soak.change_channel("cpu_busy_percent", -99, 999, lambda value: value + 50)

    assert _codes(_soak(busy)) == [("background_load", Validity.SEMIVALID)]
    assert _soak(busy, co_load=CoLoad(cpu_workers=2)).level == Validity.VALID


def test_the_start_gate_of_a_soak_is_judged_by_the_sensor_it_names() -> None:
    soak = make_soak(Bench(duration=60, cooldown=40), start_gate=StartGate(temperature_c=25, sensor="cooling.pwm_fan_level"))
    record = compute(
        scenario=Scenario.SOAK,
        task=TaskKind.CLASSIFICATION,
        sample_count=4,
        streams=soak.streams,
        outcome=soak.outcome,
        telemetry_hz=10,
        soak=soak.settings,
        start_gate_c=(23, 27),
    ).validity
    assert "cooling.pwm_fan_level at 0.0" in record.reasons[0].message


def test_a_warm_battery_is_no_start_out_of_the_gate() -> None:
    soak = make_soak(Bench(duration=60, cooldown=40), start_gate=StartGate(temperature_c=30, tolerance_c=29))
    soak.change_channel("cooling.pwm_fan_level", -99, 999, lambda value: value * 0 + 60)
    names = {"cooling.pwm_fan_level": "thermal.battery_c"}
    sensors = [dataclasses.replace(sensor, name=names.get(sensor.name, sensor.name)) for sensor in soak.outcome.sensors]
    record = compute(
        scenario=Scenario.SOAK,
        task=TaskKind.CLASSIFICATION,
        sample_count=4,
        streams=soak.streams,
        outcome=dataclasses.replace(soak.outcome, sensors=sensors),
        telemetry_hz=10,
        soak=soak.settings,
        start_gate_c=(1, 59),
    ).validity
    assert "start_temperature_out_of_gate" not in [reason.code for reason in record.reasons]
