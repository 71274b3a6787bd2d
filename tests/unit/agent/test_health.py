"""A device says how warm it is quickly, and says of every channel that it cannot read why."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import health
from agent.host import HostFiles


def zone(sys: Path, number: int, kind: str, temperature: str | None) -> None:
    folder = sys / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if temperature is not None:
        (folder / "temp").write_text(f"{temperature}\n")


def test_thermals_tells_each_temperature_and_nothing_that_is_none(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48800")
    zone(tmp_path, 1, "gpu-thermal", None)
    reply = health.thermals(HostFiles(sys=tmp_path))
    told = {item["name"]: item for item in reply["channels"]}
    assert told["thermal.cpu_thermal_c"]["value"] == pytest.approx(48.8)
    assert told["thermal.cpu_thermal_c"]["unit"] == "°C"
    assert told["thermal.gpu_thermal_c"]["value"] is None
    assert told["thermal.gpu_thermal_c"]["error"]
    assert "cpu_busy_percent" not in told
    assert reply["monotonic_ns"] > 0
