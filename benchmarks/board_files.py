"""A sysfs of plain files with as many channels as a board has, since a virtual machine has few sensors of its own.

The names are those of an eight-core board; the readings stand still. Files in memory take a read as a kernel's file does, but no driver
answers behind them: what a slow sensor bus costs is not in a figure from here.
"""

from __future__ import annotations

from pathlib import Path

ZONES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "soc1-thermal", "soc2-thermal", "tj-thermal", "tboard-thermal", "tdiode-thermal")
COOLING = ("cpufreq-cpu0", "cpufreq-cpu4", "devfreq-gpu", "hot-surface-alert")
POLICIES = range(8)
RAILS = ("VDD_IN", "VDD_CPU", "VDD_GPU", "VDD_SOC", "VDD_DDR")
TEMPERATURES = ("composite", "sensor_1", "sensor_2", "ambient", "phy")


def write(sys: Path) -> None:
    """Write thirty channels below ``sys``: temperatures, cooling levels, clocks and power."""
    for number, kind in enumerate(ZONES):
        _write(sys / "class" / "thermal" / f"thermal_zone{number}", {"type": kind, "temp": "48500"})
    for number, kind in enumerate(COOLING):
        _write(sys / "class" / "thermal" / f"cooling_device{number}", {"type": kind, "cur_state": "0", "max_state": "4"})
    for number in POLICIES:
        clock = {"scaling_cur_freq": "1800000", "cpuinfo_max_freq": "1800000", "cpuinfo_min_freq": "600000", "related_cpus": f"{number}"}
        _write(sys / "devices" / "system" / "cpu" / "cpufreq" / f"policy{number}", clock)
    files = {"name": "board"}
    for number, rail in enumerate(RAILS, 1):
        files |= {f"power{number}_input": "1250000", f"power{number}_label": rail}
    for number, label in enumerate(TEMPERATURES, 1):
        files |= {f"temp{number}_input": "47250", f"temp{number}_label": label}
    _write(sys / "class" / "hwmon" / "hwmon0", files)


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n", encoding="ascii")
