"""What lies on this device under its digest: models, inputs and bundles; how it arrives in parts, and how room is made again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Optional

from agent import fence, layout, protocol
from agent.errors import DeviceBusy, DigestMismatch, EdgematrixError, RequestInvalid, storage_error

Reply = Dict[str, Any]

#: ``<index>-<sha256 of the part>``; the digest in the name is what makes a part verifiable by itself.
_PART_NAME = re.compile(r"([0-9]{6})-([0-9a-f]{64})\Z")
_MAX_PARTS = 100_000
_COPY_BYTES = 1024 * 1024


def contents(root: Path) -> Reply:
    """List the content on this device by the names it goes by; whether it is what its name says is for ``verify`` and for every start."""
    found = [{"sha256": path.name, "size_bytes": path.lstat().st_size} for path in _content_files(root)]
    return {"content": sorted(found, key=lambda item: str(item["sha256"]))}


def verify(root: Path, sha256: str) -> Reply:
    """Read a content file and say whether it is there and is what its name says; a wrong one is removed."""
    path = layout.content_path(root, sha256)
    found = layout.file_digest(path)
    if found is None:
        return {"present": False, "valid": False, "size_bytes": 0}
    if found.sha256 == sha256:
        return {"present": True, "valid": True, "size_bytes": found.size_bytes}
    with _storage_errors(path):
        os.unlink(path)
    return {"present": False, "valid": False, "size_bytes": found.size_bytes}


# --- parts ---------------------------------------------------------------------------------------------------


def join(root: Path, sha256: str, parts: int) -> Reply:
    """Make the content file ``sha256`` of its ``parts`` parts, each verified by the digest in its name, and remove them.

    Returns ``joined`` and the indices of ``missing`` parts; a damaged part is removed and counts as missing. Joining what is joined
    already is harmless. Raises :class:`DigestMismatch`, with all parts removed, when they are whole but not parts of this content.
    """
    if not 1 <= parts <= _MAX_PARTS:
        raise RequestInvalid(f"{parts} is no number of parts", f"a file has 1 to {_MAX_PARTS} parts")
    target = layout.content_path(root, sha256)
    folder = target.with_name(sha256 + protocol.PARTS_SUFFIX)
    with _storage_errors(folder):
        found = _parts(folder)
        missing = [index for index in range(parts) if index not in found]
        if target.exists() and not folder.exists():
            return {"joined": True, "missing": []}
        if missing:
            return {"joined": False, "missing": missing}
        joined = target.with_name(f".{sha256}.{os.getpid()}.joining")
        try:
            bad = _concatenate([found[index] for index in range(parts)], joined, sha256)
            if bad is None:
                os.replace(joined, target)
                shutil.rmtree(folder)
                return {"joined": True, "missing": []}
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(joined)
        if bad == _WHOLE:
            shutil.rmtree(folder)
            raise DigestMismatch(f"the parts of {sha256} are whole, but do not make it", "push it anew")
        os.unlink(found[bad])
        return {"joined": False, "missing": [bad]}


#: Stands for "every part is right and the whole is not".
_WHOLE = -1


def _concatenate(parts: List[Path], target: Path, sha256: str) -> Optional[int]:
    """Write the parts one after the other; return None when all is right, the index of the first damaged part, or ``_WHOLE``."""
    whole = hashlib.sha256()
    with open(target, "wb", opener=_private) as output:
        for index, path in enumerate(parts):
            digest = hashlib.sha256()
            with open(path, "rb", buffering=0, opener=_no_link) as source:
                while True:
                    data = source.read(_COPY_BYTES)
                    if not data:
                        break
                    digest.update(data)
                    whole.update(data)
                    output.write(data)
            if not path.name.endswith(digest.hexdigest()):
                return index
        output.flush()
        os.fsync(output.fileno())
    return None if whole.hexdigest() == sha256 else _WHOLE


def _parts(folder: Path) -> Dict[int, Path]:
    found: Dict[int, Path] = {}
    if not folder.is_symlink() and folder.is_dir():
        for entry in os.scandir(folder):
            name = _PART_NAME.match(entry.name)
            if name and entry.is_file(follow_symlinks=False):
                found[int(name.group(1))] = Path(entry.path)
    return found


# --- making room ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """Something that pruning may remove; ``used_at`` is when a run last used it, or it came."""

    path: Path
    size_bytes: int
    used_at: float


def prune(root: Path, keep: FrozenSet[str], unused_secs: Optional[float], max_bytes: Optional[int], now: float) -> Reply:
    """Remove agents, content and bundles that nobody used for ``unused_secs``, then the longest unused until ``max_bytes`` are left.

    What is named in ``keep`` (digests) stays; so does everything while a run is here: :class:`DeviceBusy`. Returns how many were
    removed, the bytes freed and the bytes left.
    """
    with fence.locked(root), _storage_errors(root):
        if layout.run_names(root):
            raise DeviceBusy("runs lie on this device, and they may need what would be removed", "prune when its jobs are done")
        found = sorted(_prunable(root, now), key=lambda item: item.used_at)
        left = sum(item.size_bytes for item in found)
        freed = count = 0
        for item in found:
            too_old = unused_secs is not None and now - item.used_at > unused_secs
            too_much = max_bytes is not None and left > max_bytes
            if item.path.name.split(".")[0] in keep or not (too_old or too_much):
                continue
            shutil.rmtree(item.path) if item.path.is_dir() else os.unlink(item.path)
            left, freed, count = left - item.size_bytes, freed + item.size_bytes, count + 1
        return {"removed": count, "freed_bytes": freed, "left_bytes": left}


def mark_used(path: Path) -> None:
    """Note that a run used this content; a read-only disk has nothing to prune."""
    with contextlib.suppress(OSError):
        os.utime(path, follow_symlinks=False)


def _prunable(root: Path, now: float) -> Iterator[_Kept]:
    for folder in (protocol.AGENTS_FOLDER, protocol.CONTENT_FOLDER, protocol.BUNDLES_FOLDER):
        try:
            entries = list(os.scandir(root / folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            state = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(state.st_mode):
                yield _Kept(Path(entry.path), state.st_size, state.st_mtime)
            elif stat.S_ISDIR(state.st_mode):
                yield _Kept(Path(entry.path), _tree_bytes(Path(entry.path)), state.st_mtime)


def _tree_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


# --- below ---------------------------------------------------------------------------------------------------


def _content_files(root: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(layout.content_path(root, "0" * 64).parent):
            if layout.is_sha256(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EdgematrixError:
        raise
    except OSError as error:
        raise storage_error(error, error.filename or path) from error
