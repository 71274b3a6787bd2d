"""What ``doctor`` finds on good and on poor machines."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.service import devices
from orchestrator.service.doctor import examine, int8_check, machine_checks
from orchestrator.service.doctor_lab import keeping
from orchestrator.service.views import Check
from orchestrator.store.locks import hold_lock
from orchestrator.worker.presence import presence_name
from orchestrator.worker.settings import Settings
from tests.unit.service.lab import make_lab


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the agent's environment of this checkout: the tests say which interpreter there is."""
    monkeypatch.setattr("orchestrator.service.doctor.find_agent_python", lambda settings: settings.agent_python)


def test_a_machine_without_a_runtime_is_told_the_command_that_mends_it(tmp_path: Path) -> None:
    check = by_name(examine(Settings(home=tmp_path / "home")))["environment"]
    assert check.status == "failed"
    assert "make setup" in check.remedy


def test_an_interpreter_without_runtimes_fails_and_says_what_each_runtime_lacks(tmp_path: Path) -> None:
    # The orchestrator's own environment has no runtime: it is locked apart from the agent's.
    check = by_name(examine(Settings(home=tmp_path / "home", agent_python=Path(sys.executable))))["environment default"]
    assert check.status == "failed"
    assert "onnx" in check.found
    assert check.remedy


def test_an_interpreter_that_does_not_exist_fails(tmp_path: Path) -> None:
    check = by_name(examine(Settings(home=tmp_path / "home", agent_python=tmp_path / "python")))["environment default"]
    assert check.status == "failed"


def test_a_state_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = by_name(examine(Settings(home=Path("/proc/edgematrix"))))["state folder"]
    assert check.status == "failed"
    assert "EDGEMATRIX_HOME" in check.remedy


def test_a_database_that_is_no_database_fails_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "edgematrix.sqlite").write_bytes(b"this is not a database" * 100)
    check = by_name(examine(Settings(home=tmp_path)))["database"]
    assert check.status == "failed"
    assert check.remedy


def test_a_redis_that_does_not_answer_fails_without_telling_its_password(tmp_path: Path) -> None:
    check = by_name(examine(Settings(home=tmp_path, redis_url="redis://user:secret@127.0.0.1:1/0")))["Redis"]
    assert check.status == "failed"
    assert "secret" not in check.found + check.remedy
    assert "EDGEMATRIX_REDIS_URL" in check.remedy


def test_a_lab_without_scheduler_or_worker_is_told_what_to_start(tmp_path: Path, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.rpush("gateway.rack3", "a nudge that nobody takes")
    try:
        checks = by_name(examine(Settings(home=tmp_path, redis_url=redis_url)))
    finally:
        client.delete("gateway.rack3")
        client.close()
    assert checks["Redis"].status == "ok"
    assert checks["Redis persistence"].remedy == "appendonly yes in redis.conf"
    assert "messages waiting: 1" in checks["gateway rack3"].found
    assert checks["gateway rack3"].remedy == "on that gateway: edgematrix worker --gateway rack3"
    assert checks["scheduler"].status == "warning"


def test_an_active_scheduler_is_told_by_its_lock(tmp_path: Path, redis_url: str) -> None:
    lab = make_lab(tmp_path)
    hold_lock(lab.context.engine, "scheduler", "host7:12:34", time.time(), 60)
    lab.context.engine.dispose()
    check = by_name(examine(Settings(home=tmp_path, redis_url=redis_url)))["scheduler"]
    assert (check.status, check.found) == ("ok", "active on host7")


def test_a_gateway_with_devices_is_told_to_be_served_or_not(tmp_path: Path, redis_url: str) -> None:
    lab = make_lab(tmp_path)
    settings = Settings(home=tmp_path, redis_url=redis_url)
    gateway = devices.add_local_device(lab.context, "bench").gateway
    silent = by_name(examine(settings))[f"gateway {gateway}"]
    hold_lock(lab.context.engine, presence_name(gateway), "host7:12:34", time.time(), 60)
    served = by_name(examine(settings))[f"gateway {gateway}"]
    lab.context.engine.dispose()
    assert (silent.status, silent.found.split(";")[0]) == ("warning", "nobody serves it")
    assert (served.status, served.found.split(";")[0]) == ("ok", "served by host7")


def test_a_host_of_a_lab_that_is_no_device_needs_no_runtime(tmp_path: Path, redis_url: str) -> None:
    assert by_name(examine(Settings(home=tmp_path, redis_url=redis_url)))["environment"].status == "ok"


@pytest.mark.parametrize(("facts", "names"), [({"aof_enabled": 1, "maxmemory_policy": "noeviction"}, []), ({}, ["persistence", "memory"])])
def test_a_redis_that_may_lose_messages_is_told_what_to_set(facts: dict[str, Any], names: list[str]) -> None:
    found = list(keeping(facts))
    assert [check.name for check in found] == [f"Redis {name}" for name in names]
    assert all(check.status == "warning" and "redis.conf" in check.remedy for check in found)


@pytest.mark.parametrize(
    ("features", "status", "words"),
    [
        ({"avx2": True, "avx512_vnni": True}, "ok", "no saturation"),
        ({"avx2": True, "avx_vnni": True}, "ok", "no saturation"),
        ({"avx2": True, "avx512_vnni": False, "avx_vnni": False}, "warning", "No VNNI"),
        ({"asimd": True, "asimddp": True}, "ok", "no saturation"),
        ({"asimd": True, "asimddp": False}, "ok", "without dotprod"),
        ({}, "warning", "not known"),
    ],
)
def test_what_the_cpu_means_for_int8_is_said(features: dict[str, bool], status: str, words: str) -> None:
    check = int8_check({"model": "some CPU", "features": features})
    assert check.status == status
    assert words in check.found
    assert status == "ok" or check.remedy


def machine(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "cpu": {"model": "x", "features": {"avx2": True, "avx_vnni": True}},
        "thermal_zones": {"cpu-thermal": {}},
        "frequency": {"policy0": {"governor": "performance"}},
        "virtualization": {"virtual": False, "hypervisor": None},
        "cpu_quota": None,
        "unknown": {},
    }
    return {**facts, **changes}


def test_a_quiet_bare_machine_has_nothing_to_mend() -> None:
    assert {check.status for check in machine_checks(machine(), load=0.1, core_count=4)} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "load", "name"),
    [
        ({"frequency": {"policy0": {"governor": "powersave"}}}, 0.0, "CPU clock"),
        ({"frequency": {}, "unknown": {"frequency": "no cpufreq policy"}}, 0.0, "CPU clock"),
        ({"thermal_zones": {}}, 0.0, "temperature"),
        ({"virtualization": {"virtual": True, "hypervisor": "KVM"}}, 0.0, "virtual machine"),
        ({"cpu_quota": 1.5}, 0.0, "CPU quota"),
        ({}, 3.0, "background load"),
    ],
)
def test_what_makes_latencies_worth_less_is_a_warning(changes: dict[str, Any], load: float, name: str) -> None:
    found = [check for check in machine_checks(machine(**changes), load=load, core_count=4) if check.status != "ok"]
    assert [check.name for check in found] == [name]
    assert found[0].status == "warning"
    assert found[0].remedy


def test_nothing_is_said_of_a_machine_that_told_nothing() -> None:
    assert list(machine_checks({}, load=0.0, core_count=1)) == []
