"""The conditions tell what a result was made with; what cannot be known is named with its cause and never guessed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent import conditions, cpu_features, environment
from agent.host import HostFiles

X86 = "processor : 0\nmodel name : Some CPU\nflags : fpu avx2 avx512f avx512_vnni hypervisor\n\nprocessor : 1\nmodel name : Some CPU\n"
ARM = "\n\n".join(
    f"processor : {n}\nFeatures : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : {part}"
    for n, part in enumerate(["0xd05"] * 4 + ["0xd0b"] * 2)
)


def write(tree: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> HostFiles:
    for name in ("proc", "sys", "etc"):
        (tmp_path / name).mkdir()
    return HostFiles(proc=tmp_path / "proc", sys=tmp_path / "sys", etc=tmp_path / "etc")


# --- CPU features --------------------------------------------------------------------------------------------


def test_x86_features_are_those_of_cpuinfo() -> None:
    found = cpu_features.detect("x86_64", X86, None, None)
    assert [name for name, present in found.features.items() if present] == ["avx2", "avx512f", "avx512_vnni"]
    assert set(found.features) == set(cpu_features.FEATURES)
    assert found.unknown is None


def test_under_emulation_the_hosts_cpuinfo_is_not_believed() -> None:
    """qemu-user shows the host's /proc/cpuinfo: it names AVX-512, and CPUID of the emulated Haswell denies it."""
    cpuid = {"AVX2": True, "AVX512F": False, "AVX512VNNI": False}
    found = cpu_features.detect("x86_64", X86, None, cpuid)
    assert found.contradicted == ["avx512_vnni", "avx512f"]
    assert found.features["avx2"] is True
    assert found.features["avx512_vnni"] is False
    assert found.features["avx_vnni"] is None
    assert found.unknown is not None


def test_arm64_features_come_from_the_kernels_word_to_this_process() -> None:
    words = {16: (1 << 1) | (1 << 20), 26: 1 << 13}
    found = cpu_features.detect("aarch64", X86, lambda entry: words[entry], None)
    assert [name for name, present in found.features.items() if present] == ["asimd", "asimddp", "i8mm"]
    assert found.source == "AT_HWCAP"


def test_arm64_without_getauxval_falls_back_to_cpuinfo_and_without_both_is_unknown() -> None:
    assert cpu_features.detect("aarch64", ARM, None, None).features["asimddp"] is True
    assert cpu_features.detect("aarch64", ARM, None, None).features["sve"] is False
    unknown = cpu_features.detect("aarch64", "", lambda entry: 0, None)
    assert unknown.features["asimddp"] is None
    assert unknown.unknown is not None


def test_x86_without_flags_knows_only_what_cpuid_told() -> None:
    found = cpu_features.detect("x86_64", "", None, {"AVX2": True, "AVX512F": False, "AVX512VNNI": False})
    assert (found.features["avx2"], found.features["avx512f"], found.features["amx_int8"]) == (True, False, None)
    assert found.unknown is not None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numpy's table is compared with x86 flags")
def test_numpys_cpuid_and_this_machines_cpuinfo_agree() -> None:
    cpuid = cpu_features.numpy_cpuid()
    assert cpuid is not None
    found = cpu_features.detect("x86_64", Path("/proc/cpuinfo").read_text(), None, cpuid)
    assert found.contradicted == []


# --- the machine ---------------------------------------------------------------------------------------------


def test_a_board_is_described_from_device_tree_cpufreq_and_zones(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        host.proc,
        {
            "cpuinfo": ARM,
            "meminfo": "MemTotal: 8000000 kB\nMemFree: 2 kB\nMemAvailable: 6000000 kB\n",
            "loadavg": "0.50 0.40 0.30 1/100 999\n",
            "device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        },
    )
    write(host.etc, {"os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nHOME_URL="x"\n'})
    policy = {
        "scaling_governor": "ondemand\n",
        "cpuinfo_max_freq": "2400000\n",
        "related_cpus": "0 1 2 3\n",
        "scaling_cur_freq": "1500000\n",
    }
    write(host.sys / "devices/system/cpu/cpufreq/policy0", policy)
    zone = {"type": "cpu-thermal\n", "temp": "48800\n", "trip_point_0_temp": "110000\n", "trip_point_0_type": "critical\n"}
    write(host.sys / "class/thermal/thermal_zone0", zone)
    found = conditions.collect(host, {"digest": "d"})
    assert found["board"] == {"model": "Raspberry Pi 5 Model B Rev 1.0", "compatible": ["raspberrypi,5-model-b", "brcm,bcm2712"]}
    assert found["cpu"]["model"] == "4x Cortex-A55 + 2x Cortex-A76"
    assert found["memory_bytes"] == 8_192_000_000
    assert found["os"] == {"id": "debian", "version_id": "12", "pretty_name": "Debian GNU/Linux 12 (bookworm)"}
    assert found["frequency"]["policy0"]["governor"] == "ondemand"
    assert found["frequency"]["policy0"]["max_khz"] == 2_400_000
    assert found["frequency"]["policy0"]["min_khz"] is None
    assert found["thermal_zones"]["cpu-thermal"]["trip_points"] == [{"type": "critical", "temperature_c": 110.0}]
    assert found["virtualization"]["virtual"] is False
    assert set(found["unknown"]) <= {"cpu.features", "firmware"}, "which need a board's own kernel and its mailbox"
    now = conditions.volatile(host)
    assert now["temperature_c"] == {"cpu-thermal": 48.8}
    assert now["frequency"]["policy0"] == {"governor": "ondemand", "current_khz": 1_500_000}
    assert now["load_average"] == [0.5, 0.4, 0.3]


def test_what_a_machine_does_not_tell_is_named_with_its_cause(host: HostFiles) -> None:
    found = conditions.collect(host, {"digest": "d"})
    assert {"board", "cpu.model", "memory", "os", "frequency", "temperature"} <= set(found["unknown"])
    assert all(found["unknown"].values())
    assert conditions.volatile(host)["load_average"] is None


def test_a_hypervisor_is_recognised_by_flag_or_by_name(host: HostFiles) -> None:
    write(host.proc, {"cpuinfo": X86})
    assert conditions.collect(host, {})["virtualization"] == {"virtual": True, "hypervisor": None}
    write(host.proc, {"cpuinfo": X86.replace(" hypervisor", "")})
    assert conditions.collect(host, {})["virtualization"]["virtual"] is False
    write(host.sys, {"class/dmi/id/sys_vendor": "QEMU\n", "class/dmi/id/product_name": "Standard PC\n"})
    assert conditions.collect(host, {})["virtualization"] == {"virtual": True, "hypervisor": "QEMU"}


def test_the_cpu_quota_is_the_tightest_of_the_control_groups_above(host: HostFiles) -> None:
    write(host.proc, {"self/cgroup": "0::/a/b\n"})
    write(host.sys / "fs" / "cgroup", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"})
    assert conditions.collect(host, {})["cpu_quota"] == 1.5


def test_conditions_of_this_machine_can_be_sent() -> None:
    found = {**conditions.collect(HostFiles(), environment.environment_facts()), "start": conditions.volatile(HostFiles())}
    text = json.dumps(found, allow_nan=False)
    assert len(text) < 64 * 1024
    assert found["cpu"]["usable_count"] >= 1


# --- the environment -----------------------------------------------------------------------------------------


def test_an_environments_digest_changes_with_a_version_and_with_a_librarys_content() -> None:
    facts = environment.environment_facts()
    assert facts["digest"] == environment.environment_digest(facts)
    assert "numpy" in facts["packages"]
    assert any(name.startswith("numpy/") for name in facts["native"])
    newer = {**facts, "packages": {**facts["packages"], "numpy": "99.0"}}
    patched = {**facts, "native": {**facts["native"], next(iter(facts["native"])): "0" * 64}}
    digests = {environment.environment_digest(each) for each in (facts, newer, patched)}
    assert len(digests) == 3


def test_a_digest_is_the_same_in_another_process_and_with_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "native_digests.json"
    first = environment.environment_facts(cache)
    assert environment.environment_facts(cache) == first
    code = "from agent.environment import environment_facts; print(environment_facts()['digest'])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3]).stdout.strip()
        == first["digest"]
    )


def test_a_library_that_was_changed_in_place_is_noticed_in_spite_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "fake_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "native.so").write_bytes(b"one")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(environment, "PACKAGES", {"fake": "fake_runtime"})
    cache = tmp_path / "cache.json"
    before = environment.environment_facts(cache)["native"]
    (package / "native.so").write_bytes(b"other")
    after = environment.environment_facts(cache)["native"]
    assert set(before) == set(after) == {"fake_runtime/native.so"}
    assert before != after


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}', '{"x": [1, 2]}'])
def test_a_damaged_cache_is_no_cache(tmp_path: Path, damage: str) -> None:
    (tmp_path / "cache.json").write_text(damage)
    assert environment.environment_facts(tmp_path / "cache.json") == environment.environment_facts()
