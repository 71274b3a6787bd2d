"""Unpacks a bundle: an interpreter with everything below it, for a device that has nothing of the kind.

It came as content, and is unpacked by its own seed: the loader, the interpreter and the standard library in one file.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any, Dict

from agent import layout, protocol
from agent.errors import DigestMismatch, EdgematrixError, RequestInvalid, storage_error

_MAX_FILES = 20_000
_MAX_BYTES = 2 * 1024 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_REMEDY = "build it anew: edgematrix bundle build"


def unpack(root: Path, sha256: str) -> Dict[str, Any]:
    """Unpack the content ``sha256`` into ``bundles/<sha256>``, whole or not at all, and remove it and the seed.

    Doing it again is harmless. Raises :class:`DigestMismatch` for content that is missing or wrong (a wrong one is removed),
    :class:`RequestInvalid` for an archive that holds anything but plain files inside, DiskFull and FolderUnwritable.
    """
    archive = layout.content_path(root, sha256)
    target = root / protocol.BUNDLES_FOLDER / sha256
    incoming = target.with_name(f"{sha256}.incoming")
    try:
        if not target.is_dir():
            _verify(archive, sha256)
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(mode=0o700, parents=True)
            _extract(archive, incoming)
            os.sync()
            os.rename(incoming, target)
            unpacked = True
        else:
            unpacked = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(archive)
    except EdgematrixError:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise storage_error(error, error.filename or target) from error
    # This very process may run from the seed: open files stay readable until it ends.
    shutil.rmtree(target.with_name(f"{sha256}{protocol.SEED_SUFFIX}"), ignore_errors=True)
    return {"unpacked": unpacked}


def _verify(archive: Path, sha256: str) -> None:
    found = layout.file_digest(archive)
    if found is None:
        raise DigestMismatch(f"the bundle {sha256} is not on the device", "push it, then unpack")
    if found.sha256 != sha256:
        os.unlink(archive)
        raise DigestMismatch(f"the bundle {sha256} arrived as {found.sha256} and was removed", "push it again")


def _extract(archive: Path, target: Path) -> None:
    """Write every member by our own hand: what an archive says of links, owners and places outside is never believed."""
    try:
        with tarfile.open(archive, "r:gz") as packed:
            _write_members(packed, target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise RequestInvalid(f"the bundle is no archive: {error}", _REMEDY) from error


def _write_members(packed: tarfile.TarFile, target: Path) -> None:
    total = 0
    for number, member in enumerate(packed):
        total += max(member.size, 0)
        parts = member.name.split("/")
        if not member.isreg() or any(part in ("", ".", "..") for part in parts) or "\0" in member.name:
            raise RequestInvalid(f"the bundle holds {member.name[:80]!r}, which is no plain file inside it", _REMEDY)
        if number >= _MAX_FILES or total > _MAX_BYTES:
            raise RequestInvalid(f"the bundle is larger than {_MAX_FILES} files or {_MAX_BYTES} bytes", "build it with fewer runtimes")
        source = packed.extractfile(member)
        assert source is not None, "a regular file has content"
        path = target.joinpath(*parts)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700 if member.mode & 0o100 else 0o600
            )
        except (FileExistsError, NotADirectoryError) as error:
            raise RequestInvalid(f"the bundle holds {member.name[:80]!r} twice", _REMEDY) from error
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
