"""Control groups of both versions, on folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.lab.plant.groups import ControlGroup, NoControlGroups


def mounts(folder: Path, *lines: str) -> Path:
    file = folder / "mounts"
    file.write_text("".join(f"{line}\n" for line in ("proc /proc proc rw 0 0", *lines)))
    return file


def old(folder: Path) -> Path:
    for name in ("cpu", "cpuacct", "cgroup2"):
        (folder / name).mkdir()
    return mounts(
        folder,
        f"cgroup {folder}/cpuset cgroup rw,relatime,cpuset 0 0",
        f"cgroup {folder}/cpu cgroup rw,relatime,cpu 0 0",
        f"cgroup {folder}/cpuacct cgroup rw,relatime,cpuacct 0 0",
        f"cgroup2 {folder}/cgroup2 cgroup2 rw,relatime 0 0",
    )


def new(folder: Path, controllers: str = "cpuset cpu io memory") -> Path:
    (folder / "cgroup.controllers").write_text(f"{controllers}\n")
    return mounts(folder, f"cgroup2 {folder} cgroup2 rw,nosuid 0 0")


def test_with_version_1_a_group_counts_in_one_hierarchy_and_is_limited_in_another(tmp_path: Path) -> None:
    group = ControlGroup("em-a", old(tmp_path))
    group.make()
    assert group.version == 1
    assert (tmp_path / "cpu" / "em-a" / "cpu.shares").read_text() == "262144"
    assert [path.relative_to(tmp_path).as_posix() for path in group.entrances()] == ["cpu/em-a/cgroup.procs", "cpuacct/em-a/cgroup.procs"]
    (tmp_path / "cpuacct" / "em-a" / "cpuacct.usage").write_text("12345678901\n")
    assert group.usage_ns() == 12_345_678_901
    group.limit(None, 10_000)
    assert (tmp_path / "cpu" / "em-a" / "cpu.cfs_quota_us").read_text() == "-1"
    group.limit(0.7, 10_000)
    assert (tmp_path / "cpu" / "em-a" / "cpu.cfs_period_us").read_text() == "10000"
    assert (tmp_path / "cpu" / "em-a" / "cpu.cfs_quota_us").read_text() == "7000"


def test_where_version_1_mounts_both_controllers_together_there_is_one_group(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    group = ControlGroup("em-a", mounts(tmp_path, f"cgroup {tmp_path}/both cgroup rw,cpu,cpuacct 0 0"))
    assert [(item.options, item.place) for item in group.hierarchies] == [("cpu,cpuacct", "fs/cgroup/both")]


def test_with_version_2_one_file_counts_and_one_limits(tmp_path: Path) -> None:
    group = ControlGroup("em-a", new(tmp_path))
    group.make()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    assert (tmp_path / "em-a" / "cpu.weight").read_text() == "10000"
    (tmp_path / "em-a" / "cpu.stat").write_text("usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n")
    assert group.usage_ns() == 1_500_000
    group.limit(0.5, 10_000)
    assert (tmp_path / "em-a" / "cpu.max").read_text() == "5000 10000"
    group.unlimit()
    assert (tmp_path / "em-a" / "cpu.max").read_text() == "max 100000"


def test_a_machine_that_cannot_limit_cpu_time_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(NoControlGroups):
        ControlGroup("em-a", new(tmp_path, "memory pids"))
    with pytest.raises(NoControlGroups):
        ControlGroup("em-a", mounts(tmp_path, f"cgroup {tmp_path}/cpu cgroup rw,cpu 0 0"))


def test_a_group_that_is_gone_is_removed_and_unlimited_without_a_word(tmp_path: Path) -> None:
    group = ControlGroup("em-a", old(tmp_path))
    for name in ("cpu", "cpuacct"):
        (tmp_path / name / "em-a").mkdir()
    group.remove()
    group.remove()
    group.unlimit()
    assert not (tmp_path / "cpu" / "em-a").exists()
