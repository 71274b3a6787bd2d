"""Work beside the model: processes that count, and processes that copy memory, for as long as the measured part of a soak lasts.

A worker is a bare interpreter of its own with nothing but the standard library. It ends by itself when the runner is gone, is in the
runner's process group, and leaves the runner's CPUs alone where there are others.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Callable, Iterable, List, Sequence, Tuple

from agent.cpu_share import speed
from agent.errors import RequestInvalid
from agent.host import HostFiles, try_text
from agent.launch import resolved_command
from agent.protocol import CoLoad

#: An emulated interpreter takes seconds to start.
START_SECS = 60.0

#: What a memory worker copies from and to is larger than any cache of the machine, within these bounds.
_MIN_COPY_BYTES = 32 * 1024 * 1024
_MAX_COPY_BYTES = 256 * 1024 * 1024

#: Arguments: the runner's process id, the CPU or -1, bytes to copy or 0. It says when it is ready and begins when it is told.
_WORKER = """
import os, sys
parent, cpu, size = (int(word) for word in sys.argv[1:4])
if cpu >= 0 and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {cpu})
source = bytearray(size)
target = bytearray(size)
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
number = 1
while os.getppid() == parent:
    if size:
        target[:] = source
        source[:] = target
    else:
        for _ in range(100_000):
            number = (number * 1103515245 + 12345) & 0x7FFFFFFF
"""


class CoLoadWorkers:
    """The workers of a soak: ready when made, at work from :meth:`begin` until :meth:`end`.

    ``cpus`` has one CPU for each worker, or is empty when the runner's threads leave none to spare and all CPUs are shared.
    """

    def __init__(
        self,
        asked: CoLoad,
        interpreter: Sequence[str],
        runner_threads: int,
        should_stop: Callable[[], bool],
        start_secs: float = START_SECS,
    ) -> None:
        """Start them and wait until all are ready. Raises :class:`RequestInvalid` when one does not start within ``start_secs``,
        MissingRuntime when there is no interpreter.
        """
        sizes = [0] * asked.cpu_workers + [copied_bytes()] * asked.memory_workers
        self.cpus = spare_cpus(os.sched_getaffinity(0), runner_threads, len(sizes), HostFiles())
        self._workers: List[Tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        try:
            for number, size in enumerate(sizes):
                cpu = self.cpus[number] if self.cpus else -1
                self._workers.append(_start(interpreter, cpu, size))
            deadline = time.monotonic() + start_secs
            for worker, said in self._workers:
                while not should_stop() and not _is_ready(worker, said, deadline):
                    pass
        except BaseException:
            self.end()
            raise

    def begin(self) -> None:
        """Set them to work."""
        for worker, _ in self._workers:
            with contextlib.suppress(OSError):
                _write(worker, b"go\n")

    def end(self) -> int:
        """End them all and return how many had ended before; harmless when done already."""
        lost = 0
        for worker, said in self._workers:
            lost += worker.poll() is not None
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()
            said.close()
        self._workers = []
        return lost


def spare_cpus(usable: Iterable[int], runner_threads: int, workers: int, host: HostFiles) -> List[int]:
    """Return a CPU for each worker, in turn: those that remain when each of the runner's threads has one of the fastest; none where nothing
    remains. The supervisor's own is not among the ``usable`` when it holds one.
    """
    fastest_first = sorted(usable, key=lambda cpu: (speed(host, cpu), -cpu), reverse=True)
    free = sorted(fastest_first[runner_threads:])
    return [free[number % len(free)] for number in range(workers)] if free else []


def copied_bytes(caches: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Return how many bytes a memory worker copies at a time: twice the largest cache that the kernel names, within sane bounds."""
    sizes = [try_text(path) or "" for path in caches.glob("index*/size")]
    known = [int(size[:-1]) * {"K": 1024, "M": 1024 * 1024}[size[-1]] for size in sizes if size[:-1].isdigit() and size[-1] in "KM"]
    return min(_MAX_COPY_BYTES, max(_MIN_COPY_BYTES, 2 * max(known, default=0)))


def _start(interpreter: Sequence[str], cpu: int, size: int) -> Tuple[subprocess.Popen[bytes], IO[bytes]]:
    argv = [resolved_command(interpreter), *interpreter[1:], "-c", _WORKER, str(os.getpid()), str(cpu), str(size)]
    said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said), said


def _is_ready(worker: subprocess.Popen[bytes], said: IO[bytes], deadline: float) -> bool:
    assert worker.stdout is not None
    if not select.select([worker.stdout], [], [], 0.1)[0]:
        if time.monotonic() < deadline:
            return False
        raise RequestInvalid("a co-load worker did not start in time", "ask for fewer workers")
    if worker.stdout.readline().strip() == b"ready":
        return True
    worker.wait()
    said.seek(0)
    words = said.read(4000).decode("utf-8", "replace").strip().splitlines()
    message = f"a co-load worker did not start: {words[-1] if words else f'exit status {worker.returncode}'}"
    raise RequestInvalid(message, "ask for fewer workers, or see the device's memory")


def _write(worker: subprocess.Popen[bytes], data: bytes) -> None:
    assert worker.stdin is not None
    worker.stdin.write(data)
    worker.stdin.flush()
