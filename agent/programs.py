"""Programs of the machine that tell what no file tells. One tiny interface, so that a captured text can stand for a board."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from typing import Optional, Sequence

MAX_OUTPUT_BYTES = 256 * 1024


#: Where boards keep the programs that the sensors ask, beside PATH: a service's PATH is often short.
_MORE_FOLDERS = ("/usr/bin", "/usr/sbin", "/opt/vc/bin", "/system/bin")
#: A program that gave no answer in so many readings is ended and started anew.
_PATIENCE_READINGS = 30


class Programs:
    """What is installed in these folders (None: in PATH and where boards keep such programs)."""

    def __init__(self, folders: Optional[Sequence[str]] = None) -> None:
        self._path = os.pathsep.join(folders if folders is not None else (os.environ.get("PATH", os.defpath), *_MORE_FOLDERS))

    def find(self, name: str) -> Optional[str]:
        """Return the absolute path of a program, None when there is none."""
        return shutil.which(name, path=self._path)

    def run(self, argv: Sequence[str], timeout_secs: float) -> str:
        """Run a program to its end and return its output. Raises OSError when it cannot run, fails, or is not done in time."""
        started = self.start(argv)
        try:
            return started.wait(timeout_secs)
        finally:
            started.close()

    def start(self, argv: Sequence[str]) -> Started:
        """Start a program without waiting for it. Raises OSError."""
        return Started(argv)


class Started:
    """A program that runs beside us. Its output goes to memory and not through a pipe, so that it never waits for us. It reads nothing,
    and its complaints are not kept.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._output = _memory_file()
        try:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True
            )
        except BaseException:
            os.close(self._output)
            raise

    def text(self) -> str:
        """Return what it has written so far, at most the last MAX_OUTPUT_BYTES."""
        size = os.fstat(self._output).st_size
        return os.pread(self._output, MAX_OUTPUT_BYTES, max(0, size - MAX_OUTPUT_BYTES)).decode("utf-8", "replace")

    def ended(self) -> bool:
        """Say whether it is done; never waits."""
        return self._process.poll() is not None

    def result(self) -> str:
        """Return the output of a program that has ended. Raises OSError when it failed."""
        if self._process.returncode != 0:
            raise OSError(f"{self._argv[0]} failed with exit status {self._process.returncode}")
        return self.text()

    def wait(self, timeout_secs: float) -> str:
        """Wait for the end and return the output. Raises OSError when it failed or is not done in time."""
        try:
            self._process.wait(timeout_secs)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{self._argv[0]} did not end in {timeout_secs:g} s") from error
        return self.result()

    def close(self) -> None:
        """End it if it still runs, with what it started itself."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        os.close(self._output)


def _memory_file() -> int:
    """Return the descriptor of a file without a name. Interpreters that were built for old systems do not know memfd_create."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edgematrix-output", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Polled:
    """A program that is asked again and again without ever waiting for it: each reading takes the answer to the one before and asks anew.

    What it returns is therefore as old as the time between two readings.
    """

    def __init__(self, programs: Programs, argv: Sequence[str]) -> None:
        self._programs = programs
        self._argv = list(argv)
        self._first: Optional[str] = None
        self._running: Optional[Started] = None
        self._unanswered = 0

    def wait_first(self, timeout_secs: float) -> str:
        """Return the first answer; the first reading gives it once more. Raises OSError."""
        self._first = self._programs.run(self._argv, timeout_secs)
        return self._first

    def read(self) -> str:
        """Return the newest answer. Raises OSError when there is none since the reading before."""
        answer, self._first = self._first, None
        try:
            if answer is None:
                answer = self._take()
        finally:
            if self._running is None:
                self._running = self._programs.start(self._argv)
        return answer

    def close(self) -> None:
        """End the program if it runs."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _take(self) -> str:
        if self._running is None:
            raise OSError(f"{self._argv[0]} was not asked yet")
        if not self._running.ended():
            self._unanswered += 1
            if self._unanswered >= _PATIENCE_READINGS:
                self._unanswered = 0
                self.close()
            raise OSError(f"{self._argv[0]} has not answered yet")
        self._unanswered = 0
        try:
            return self._running.result()
        finally:
            self.close()
