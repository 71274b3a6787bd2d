"""This computer as the device: commands are child processes, files are files."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agent.errors import DeviceReplyInvalid, DeviceUnreachable, DiskFull, FolderUnwritable
from orchestrator.transports.base import CommandResult, Transport

#: What a command on the device may see of this process' environment: paths and locale, never our settings or secrets.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")

#: What reading says of a link, a folder and a pipe.
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ESPIPE)


class LocalTransport(Transport):
    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            try:
                ended = subprocess.run(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    timeout=timeout_secs,
                    env=environment,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise DeviceUnreachable(
                    f"this computer has no command {argv[0]}", "name an interpreter that exists: edgematrix env add NAME --python PATH"
                ) from error
            # ValueError: an argument holds a NUL byte.
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                raise DeviceUnreachable(
                    f"{argv[0]} did not answer: {error}", "see whether this computer is overloaded, then: edgematrix doctor"
                ) from error
            return CommandResult(ended.returncode, _head(stdout, max_output_bytes), _head(stderr, max_output_bytes))

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        # Opened first: that our own file cannot be read is not the device's fault.
        with source.open("rb") as data:
            _replace(Path(target), lambda file: shutil.copyfileobj(data, file, 1024 * 1024), 0o700 if executable else 0o600)

    def put_bytes(self, data: bytes, target: str) -> None:
        _replace(Path(target), lambda file: file.write(data))

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        with _read_errors(path):
            try:
                # O_NOFOLLOW: a device's folder is untrusted even here, and nothing of ours is a link.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                # Refuses a folder and a pipe, which the open above does not.
                return os.pread(descriptor, max_bytes, offset)
            finally:
                os.close(descriptor)

    def size_of(self, path: str) -> int | None:
        with _read_errors(path):
            try:
                found = os.stat(path, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def close(self) -> None:
        """Nothing is held open."""


def _head(file: IO[bytes], max_bytes: int) -> bytes:
    file.seek(0)
    return file.read(max_bytes)


def _replace(target: Path, fill: Callable[[IO[bytes]], object], mode: int = 0o600) -> None:
    with _write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".incoming-", delete=False) as file:
            try:
                fill(file)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_FILE:
            raise DeviceReplyInvalid(f"{path} is a link, a folder or a pipe where a file belongs", "remove what is in its place") from error
        raise DeviceUnreachable(f"{path} cannot be read: {error.strerror}", "remove what is in its place") from error


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"no room to write {target}: {error.strerror}", "free space on that disk, then: edgematrix resume") from error
        raise FolderUnwritable(f"{target} cannot be written: {error.strerror}", f"make {target.parent} writable for this user") from error
