"""The CSV files of power meters: whatever the column mapping says, and the line of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.service.power_csv import Mapping, PowerTraceInvalid, read_power_csv


def written(folder: Path, text: str) -> Path:
    path = folder / "meter.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_power_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "# Joulescope\nt,V,P\n0,5,1.5\n500,5,2.5\n\n1000,5,2.0\n")
    trace = read_power_csv(path, Mapping(time="t", power="P", time_unit="ms"))
    assert trace.time_secs.tolist() == [0.0, 0.5, 1.0]
    assert trace.power_mw.tolist() == [1500.0, 2500.0, 2000.0]


def test_voltage_times_current_is_power(tmp_path: Path) -> None:
    path = written(tmp_path, "t,U,I\n0,5000,200\n1,5000,300\n")
    trace = read_power_csv(path, Mapping(time="t", voltage="U", current="I", voltage_unit="mV", current_unit="mA"))
    assert trace.power_mw.tolist() == [1000.0, 1500.0]


def test_columns_without_names_are_counted_from_one(tmp_path: Path) -> None:
    path = written(tmp_path, "0;1,5\n1;2,5\n")
    trace = read_power_csv(path, Mapping(time="1", power="2", power_unit="mW", delimiter=";", decimal=","))
    assert trace.power_mw.tolist() == [1.5, 2.5]
    headed = written(tmp_path, "time,power\n0,1\n1,2\n")
    assert len(read_power_csv(headed, Mapping(time="1", power="2")).time_secs) == 2


def test_iso_times_with_a_zone_are_times_of_day(tmp_path: Path) -> None:
    path = written(tmp_path, "t,P\n2026-11-21T10:00:00.250Z,1\n2026-11-21T11:00:01+01:00,2\n")
    trace = read_power_csv(path, Mapping(time="t", power="P", time_unit="iso8601"))
    assert trace.time_secs[1] - trace.time_secs[0] == pytest.approx(0.75)
    assert trace.is_wall_clock


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t,P\n0,1\n1,x\n", ":3: 'x' is not a number"),
        ("t,P\n0,1\n1,inf\n", ":3: 'inf' is not a number"),
        ("t,P\n5,1\n4,1\n", ":3: its time is before"),
        ("t,P\n5,1\n6\n", ":3: it has 1 columns"),
        ("t,Q\n5,1\n6,1\n", ":1: there is no column 'P'"),
        ("t,P\n5,1\n", "holds 1 samples"),
        ("", "there is no column"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PowerTraceInvalid) as caught:
        read_power_csv(written(tmp_path, text), Mapping(time="t", power="P"))
    assert told in caught.value.message


def test_a_time_of_day_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PowerTraceInvalid, match="no time zone"):
        read_power_csv(written(tmp_path, "t,P\n2026-11-21T10:00:00,1\n"), Mapping(time="t", power="P", time_unit="iso8601"))


def test_power_needs_one_column_or_two(tmp_path: Path) -> None:
    with pytest.raises(PowerTraceInvalid, match="which columns"):
        read_power_csv(written(tmp_path, "t,P\n0,1\n"), Mapping(time="t", voltage="P"))
