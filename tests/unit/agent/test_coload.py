"""Work beside the model: real processes, held to their CPUs and to their runner's life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.coload import CoLoadWorkers, copied_bytes, spare_cpus
from agent.errors import RequestInvalid
from agent.host import HostFiles
from agent.protocol import CoLoad

DEADLINE_SECS = 60.0


def _eventually(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECS
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def _is_alive(pid: int) -> bool:
    try:
        return b" Z " not in Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2][:4]
    except OSError:
        return False


def _children() -> set[int]:
    own = os.getpid()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1]) == own:
                found.add(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("usable", "threads", "workers", "expected"),
    [
        ([0, 1, 2, 3], 1, 2, [1, 2]),
        ([0, 1, 2, 3], 1, 4, [1, 2, 3, 1]),
        ([0, 1, 2, 3], 3, 2, [3, 3]),
        ([0, 1], 1, 1, [1]),
        ([0, 1], 2, 1, []),
        ([5], 1, 3, []),
        ([0, 1, 2, 3], 1, 0, []),
    ],
)
def test_workers_keep_off_the_runners_cpus_where_one_is_free(
    tmp_path: Path, usable: list[int], threads: int, workers: int, expected: list[int]
) -> None:
    assert spare_cpus(usable, threads, workers, HostFiles(sys=tmp_path)) == expected


def test_workers_leave_the_fast_cores_of_a_board_to_the_model(tmp_path: Path) -> None:
    for cpu, capacity in enumerate((381, 381, 1024, 1024)):
        folder = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    assert spare_cpus([0, 1, 2, 3], 2, 2, HostFiles(sys=tmp_path)) == [0, 1]


def test_a_memory_worker_copies_more_than_the_largest_cache_holds(tmp_path: Path) -> None:
    assert copied_bytes(tmp_path) == 32 * 1024 * 1024
    for number, size in enumerate(("32K", "1024K", "54M", "nonsense")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(size + "\n")
    assert copied_bytes(tmp_path) == 108 * 1024 * 1024


def test_workers_wait_until_they_are_told_then_work_and_are_gone_at_the_end() -> None:
    before = _children()
    workers = CoLoadWorkers(CoLoad(1, 1), [sys.executable], 1, lambda: False)
    pids = _children() - before
    assert len(pids) == 2
    if workers.cpus:
        assert {tuple(os.sched_getaffinity(pid)) for pid in pids} == {(cpu,) for cpu in workers.cpus}
    idle = {pid: _cpu_ticks(pid) for pid in pids}
    workers.begin()
    assert _eventually(lambda: all(_cpu_ticks(pid) >= idle[pid] + 3 for pid in pids))
    assert workers.end() == 0
    assert not any(_is_alive(pid) for pid in pids)
    assert workers.end() == 0


def test_a_worker_that_dies_is_counted() -> None:
    before = _children()
    workers = CoLoadWorkers(CoLoad(cpu_workers=2), [sys.executable], 1, lambda: False)
    workers.begin()
    victim = min(_children() - before)
    os.kill(victim, signal.SIGKILL)
    assert _eventually(lambda: not _is_alive(victim))
    assert workers.end() == 1


def test_a_worker_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no memory here' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(RequestInvalid, match="no memory here"):
        CoLoadWorkers(CoLoad(cpu_workers=1), [str(broken)], 1, lambda: False)


def test_a_worker_that_never_gets_ready_ends_the_wait(tmp_path: Path) -> None:
    before = _children()
    stuck = tmp_path / "python"
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o755)
    with pytest.raises(RequestInvalid, match="did not start in time"):
        CoLoadWorkers(CoLoad(cpu_workers=1), [str(stuck)], 1, lambda: False, start_secs=0.2)
    assert _children() == before


def test_workers_die_with_a_runner_that_is_killed() -> None:
    code = (
        "import sys, time\nfrom agent.coload import CoLoadWorkers\nfrom agent.protocol import CoLoad\n"
        "workers = CoLoadWorkers(CoLoad(1, 1), [sys.executable], 1, lambda: False)\nworkers.begin()\n"
        "print(*(worker.pid for worker, _ in workers._workers), flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        pids = [int(word) for word in runner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_is_alive(pid) for pid in pids)
        runner.kill()
        runner.wait()
    assert _eventually(lambda: not any(_is_alive(pid) for pid in pids))
