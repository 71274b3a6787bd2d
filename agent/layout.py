"""Where things lie under a device's root (the plan is in ``agent.protocol``), and the only way to reach them.

Names are checked before they become paths and no link below the root is followed, so nothing outside the root can be read, written
or removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import List, Optional

from agent import protocol
from agent.errors import RequestInvalid, storage_error

#: ``<job_id>.<attempt>``
_RUN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.[0-9]{1,4}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

SUPERVISOR_LOCK_FILE = "supervisor.lock"
RUNNER_LOCK_FILE = "runner.lock"
RUNNER_PID_FILE = "runner_pid.json"
OWNER_FILE = "owner.json"
SUPERVISOR_LOG_FILE = "supervisor.log"

#: Size of the small files that must be writable on a full disk; well within one block of any file system.
NOTE_BYTES = 64
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def jobs_folder(root: Path) -> Path:
    """Return the folder of all runs; raises :class:`RequestInvalid` when a link or a file stands in its place."""
    return _real_folder(root / protocol.JOBS_FOLDER)


def run_folder(root: Path, name: str) -> Path:
    """Return the folder of one run, which need not exist; raises :class:`RequestInvalid` for a bad name or a link in its place."""
    if not _RUN_NAME.match(name):
        raise RequestInvalid(f"{name[:80]!r} is no name of a run", "a run is named JOB_ID.ATTEMPT, of letters, digits, '_' and '-'")
    return _real_folder(jobs_folder(root) / name)


def run_names(root: Path) -> List[str]:
    """Return the names of all run folders on this device, sorted; links and foreign files are left out."""
    try:
        entries = list(os.scandir(jobs_folder(root)))
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if _RUN_NAME.match(entry.name) and entry.is_dir(follow_symlinks=False))


def content_path(root: Path, sha256: str) -> Path:
    """Return where content of that digest lies; raises :class:`RequestInvalid` for anything but 64 lower-case hex digits."""
    if not _SHA256.match(sha256):
        raise RequestInvalid(f"{sha256[:80]!r} is no SHA-256", "give 64 lower-case hex digits")
    return _real_folder(root / protocol.CONTENT_FOLDER) / sha256


def is_sha256(name: str) -> bool:
    """Say whether a file name can be a digest."""
    return _SHA256.match(name) is not None


def read_file(path: Path, max_bytes: int = protocol.MAX_MESSAGE_BYTES) -> Optional[bytes]:
    """Return the bytes of a regular file, None when there is none.

    Raises :class:`RequestInvalid` for a link, for what is no regular file and for more than ``max_bytes``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RequestInvalid(f"{path} is a link; links are not followed", "remove it") from error
        raise storage_error(error, path) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RequestInvalid(f"{path} is no regular file", "remove it")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise RequestInvalid(f"{path} holds more than the {max_bytes} bytes allowed")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all (temporary file, fsync, rename). Raises OSError that names the file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_note(path: Path, data: bytes) -> None:
    """Like :func:`write_file` for a few bytes, also on a full disk: then a note that exists is overwritten in its place, which needs
    no room.

    Without this a full disk could not be cleaned by the next owner. Raises OSError; ValueError for more than NOTE_BYTES.
    """
    if len(data) > NOTE_BYTES:
        raise ValueError(f"a note has at most {NOTE_BYTES} bytes, not {len(data)}")
    padded = data.ljust(NOTE_BYTES)
    try:
        write_file(path, padded)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise error from None
        try:
            os.pwrite(descriptor, padded, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def touch(path: Path) -> None:
    """Create a file or renew its modification time, without following a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> Optional[protocol.ContentRef]:
    """Return SHA-256 and size of a regular file, None when there is none (or a link)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise storage_error(error, path) from error
    digest = hashlib.sha256()
    size = 0
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        buffer = bytearray(1024 * 1024)
        view = memoryview(buffer)
        while True:
            count = file.readinto(buffer)
            if not count:
                return protocol.ContentRef(digest.hexdigest(), size)
            digest.update(view[:count])
            size += count


def _real_folder(path: Path) -> Path:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise storage_error(error, path) from error
    if not stat.S_ISDIR(mode):
        raise RequestInvalid(f"{path} is no folder (links are not followed)", "remove what is in its place")
    return path
