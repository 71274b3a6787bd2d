"""The supervisor samples on a CPU that the runner does not use, where there is one."""

from __future__ import annotations

from pathlib import Path

from agent import cpu_share
from agent.cpu_share import CpuShare, divide
from agent.host import HostFiles


def machine(sys: Path, clocks_khz: dict[int, int]) -> HostFiles:
    for cpu, clock_khz in clocks_khz.items():
        folder = sys / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{clock_khz}\n")
    return HostFiles(sys=sys)


def test_of_equal_cpus_the_last_is_the_supervisors(tmp_path: Path) -> None:
    assert divide({0, 1, 2, 3}, 1, HostFiles(sys=tmp_path)) == CpuShare([3], [0, 1, 2])
    assert divide({2, 5}, 1, HostFiles(sys=tmp_path)) == CpuShare([5], [2])


def test_a_fast_cpu_is_left_to_what_is_measured(tmp_path: Path) -> None:
    host = machine(tmp_path, {0: 1_800_000, 1: 1_800_000, 2: 2_400_000, 3: 2_400_000})
    assert divide({0, 1, 2, 3}, 2, host) == CpuShare([1], [0, 2, 3])


def test_no_runner_loses_a_cpu_that_it_needs(tmp_path: Path) -> None:
    host = HostFiles(sys=tmp_path)
    for usable, threads in (({0}, 1), ({0, 1}, 2), ({0, 1, 2, 3}, 4), ({0, 1}, 8)):
        share = divide(usable, threads, host)
        assert share.is_shared
        assert (share.supervisor, share.runner) == ([], [])


def test_a_cpu_that_may_not_be_had_is_told(tmp_path: Path) -> None:
    assert not cpu_share.hold([100_000])
