"""The runner as a process: started in a group of its own, its output kept within bounds, ended with everything it started.

Both sides are here: what the supervisor does (:class:`RunnerProcess`) and what the runner does to itself before anything else
(:func:`prepare`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import BinaryIO, Dict, Mapping, Optional, Sequence

from agent.errors import InternalError

_KEPT_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1
#: Makes the kernel, when memory runs out, take the runner before its supervisor, which then can tell what happened.
_OOM_SCORE = "500"


def prepare(supervisor_pid: int) -> None:
    """Make this process a proper runner: it dies with its supervisor, leaves no core file and shows where a native crash came from.

    Raises :class:`InternalError` when the supervisor is gone already.
    """
    # Where this does nothing, the run's lock file still shows that this process lives, and `cancel`, `clean` or the next `start` ends it.
    die_with_parent()
    if os.getppid() != supervisor_pid:
        raise InternalError(f"the supervisor {supervisor_pid} is gone", "start the run through `start`")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. Does nothing where there is neither ctypes nor prctl."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class BoundedOutput:
    """Drains one pipe of the runner into a file: the first 64 KiB as they come, the last 64 KiB when it ends, what is between counted."""

    def __init__(self, descriptor: int, path: Path) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115 (lives as long as this object)
        self._head_bytes = 0
        self._tail = bytearray()
        self._dropped = 0
        self.ended = False

    def drain(self) -> None:
        """Read everything that is there now. Raises OSError when the file cannot be written."""
        while not self.ended:
            try:
                data = os.read(self.descriptor, 65536)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            head = data[: max(0, _KEPT_BYTES - self._head_bytes)]
            self._tail += data[len(head) :]
            excess = len(self._tail) - _KEPT_BYTES
            if excess > 0:
                del self._tail[:excess]
                self._dropped += excess
            if head:
                self._head_bytes += len(head)
                self._file.write(head)

    def close(self) -> None:
        """Write the rest and close both ends. Raises OSError when the file cannot be written."""
        try:
            if self._dropped:
                self._file.write(f"\n[{self._dropped} bytes left out]\n".encode())
            self._file.write(bytes(self._tail))
        finally:
            self._file.close()
            os.close(self.descriptor)


class RunnerProcess:
    """The runner. ``poll`` never waits; ``kill`` ends the whole group."""

    def __init__(self, argv: Sequence[str], folder: Path, environment: Mapping[str, str], lock: int) -> None:
        """Start ``argv`` in ``folder``. ``lock`` is the descriptor of the run's runner lock: the runner inherits it and so holds it
        for life.

        Raises OSError when the process cannot be started.
        """
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            pass_fds=(lock,),
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.outputs: Dict[str, BoundedOutput] = {
            "stdout": BoundedOutput(os.dup(self._process.stdout.fileno()), folder / "runner.stdout"),
            "stderr": BoundedOutput(os.dup(self._process.stderr.fileno()), folder / "runner.stderr"),
        }
        self._process.stdout.close()
        self._process.stderr.close()

    def poll(self) -> Optional[int]:
        """Return the exit status (negative: the signal) once the runner has ended, None before. Whatever it left in its group is killed."""
        if self._process.returncode is None:
            # Looked at without reaping first: as long as the dead leader is not reaped, its process group cannot belong to anybody else.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._kill_group()
            self._process.wait()
        return self._process.returncode

    def terminate(self) -> None:
        """Ask the runner itself (not its group) to end in an orderly way."""
        # Looked at without reaping: until it is reaped, its number cannot belong to anybody else.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> int:
        """Kill the group, wait for the runner's end and return its exit status (that of an end of its own, when it was first)."""
        if self._process.returncode is None:
            self._kill_group()
            self._process.wait()
        status: int = self._process.returncode
        return status

    def close(self) -> None:
        """Read what is left of the outputs and close them. Raises OSError when it cannot be written."""
        for output in self.outputs.values():
            try:
                output.drain()
            finally:
                output.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def start_ticks(pid: int) -> Optional[int]:
    """Return when a process was started, in clock ticks since boot: with the number it names a process for good.

    None when there is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])
