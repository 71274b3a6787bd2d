"""Files named by their content: models, inputs, traces. Written once, whole, and never changed.

:class:`ArtifactStore` keeps each under ``<first two hex digits>/<sha256>`` of a folder, or of any place that fsspec reaches. A file appears
there only when it is complete, so two writers of the same content do not disturb one another, and a writer that dies leaves nothing that
looks whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from agent.errors import DigestMismatch, DiskFull, EdgematrixError, FolderUnwritable, RequestInvalid
from orchestrator.store.errors import ArtifactMissing, ArtifactsUnreachable, ArtifactsUrlInvalid
from orchestrator.store.tables import Artifact

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1024 * 1024
#: Where a put shows its object only when it is whole; elsewhere a file is written beside its place and renamed.
_PUTS_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A stored file: SHA-256 (64 lower-case hex digits), size in bytes, and what it is (``model``, ``inputs``, ``trace``, …)."""

    sha256: str
    size_bytes: int
    kind: str


class ArtifactStore:
    """Content-addressed files in a folder (a path or ``file://``) or behind any fsspec URL (``s3://bucket/prefix``, with its driver).

    ``cache_folder`` holds copies of what :meth:`local_path` was asked for when the store itself is not a folder of this computer.

    Methods raise :class:`ArtifactMissing`, :class:`~agent.errors.DigestMismatch`, :class:`~agent.errors.DiskFull`,
    :class:`~agent.errors.FolderUnwritable` or :class:`ArtifactsUnreachable`; a digest that is not 64 hex digits raises
    :class:`~agent.errors.RequestInvalid` before any file is touched.
    """

    def __init__(self, url: str, cache_folder: Path | None = None) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ArtifactsUrlInvalid(
                f"cannot use {url!r} to keep artifacts: {error}",
                "use a folder, or a URL whose fsspec driver is installed (pip install s3fs for s3://)",
            ) from error
        self._folder = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None
        self._cache = cache_folder

    def put_bytes(self, data: bytes | memoryview, kind: str) -> ArtifactRef:
        """Store ``data`` and return its name; content that is there already is left alone, unless it is damaged: then it is replaced."""
        ref = ArtifactRef(hashlib.sha256(data).hexdigest(), len(data), kind)
        if not self._holds(ref):
            with self._errors(), self._publish(ref.sha256) as target:
                target.write(data)
        return ref

    def put_file(self, path: Path, kind: str) -> ArtifactRef:
        """Store a file of any size by streaming it.

        Raises :class:`~agent.errors.DigestMismatch` when the file changes while it is read, and OSError when it cannot be read.
        """
        with path.open("rb") as source:
            ref = ArtifactRef(hashlib.file_digest(source, "sha256").hexdigest(), source.tell(), kind)
            if self._holds(ref):
                return ref
            source.seek(0)
            with self._errors(), self._publish(ref.sha256) as target:
                if _copy(source, target) != ref.sha256:
                    raise DigestMismatch(f"{path} changed while it was stored", "let nothing write to it, then run again")
        return ref

    def put_written(self, write: Callable[[BinaryIO], None], kind: str) -> ArtifactRef:
        """Store what ``write`` writes, without holding it in memory: into a file aside first, since its name is known when it is whole."""
        with self._errors():
            aside = None
            if self._folder is not None:
                aside = self._folder / "incoming"
                aside.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=aside) as file:
                write(cast(BinaryIO, file))
                file.flush()
                return self.put_file(Path(file.name), kind)

    def get_bytes(self, sha256: str) -> bytes:
        """Return the content, checked against its name."""
        with self.open(sha256) as source, self._errors(sha256):
            data = source.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self._damaged(sha256)
        return data

    def open(self, sha256: str) -> BinaryIO:
        """Open the content to be streamed; it is for the reader to check the digest when it has read all."""
        place = self._place(sha256)
        with self._errors(sha256):
            return cast(BinaryIO, open(place, "rb") if self._folder is not None else self._fs.open(place, "rb"))

    def exists(self, sha256: str) -> bool:
        """Whether an artifact of that name is in the store."""
        place = self._place(sha256)
        with self._errors(sha256):
            return os.path.exists(place) if self._folder is not None else bool(self._fs.exists(place))

    def size_bytes(self, sha256: str) -> int:
        """Return the size of the content."""
        place = self._place(sha256)
        with self._errors(sha256):
            return os.path.getsize(place) if self._folder is not None else int(self._fs.size(place))

    def local_path(self, sha256: str) -> Path:
        """Return a file of this computer with the content, to be read only: the stored one, else a checked copy in the cache folder."""
        place = self._place(sha256)
        if self._folder is not None:
            if not os.path.exists(place):
                raise self._missing(sha256)
            return Path(place)
        if self._cache is None:
            raise ArtifactsUrlInvalid(f"{self.url} is not a folder of this computer and no cache folder was given", "give a cache folder")
        cache = ArtifactStore(str(self._cache))
        if not cache.exists(sha256):
            with self.open(sha256) as source, cache._errors(), cache._publish(sha256) as target:
                if _copy(source, target) != sha256:
                    raise self._damaged(sha256)
        return Path(cache._place(sha256))

    # --- below -----------------------------------------------------------------------------------------------

    def _place(self, sha256: str) -> str:
        if not _DIGEST.fullmatch(sha256):
            raise RequestInvalid(f"{sha256[:80]!r} is not the SHA-256 of an artifact", "give 64 lower-case hex digits")
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _holds(self, ref: ArtifactRef) -> bool:
        """Whether the whole content is there. A folder is read again, so that storing content anew mends a damaged file."""
        place = self._place(ref.sha256)
        with self._errors(ref.sha256):
            if self._folder is None:
                return bool(self._fs.exists(place)) and int(self._fs.size(place)) == ref.size_bytes
            try:
                if os.path.getsize(place) != ref.size_bytes:
                    return False
                with open(place, "rb") as stored:
                    return hashlib.file_digest(stored, "sha256").hexdigest() == ref.sha256
            except FileNotFoundError:
                return False

    @contextmanager
    def _publish(self, sha256: str) -> Iterator[BinaryIO]:
        """Yield a file to write; it becomes the artifact when the block ends well, and is gone when it does not."""
        place = self._place(sha256)
        if self._folder is not None:
            with _publish_local(Path(place), self._folder / "incoming") as target:
                yield target
            return
        # Written to a file of this computer first: most remote drivers would publish what was written so far when the block fails.
        with tempfile.TemporaryFile() as spooled:
            yield cast(BinaryIO, spooled)
            spooled.seek(0)
            protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
            aside = place if protocols & _PUTS_WHOLE else f"{self._root}/incoming/{uuid.uuid4().hex}"
            self._fs.makedirs(os.path.dirname(aside), exist_ok=True)
            with self._fs.open(aside, "wb") as target:
                shutil.copyfileobj(spooled, target, _CHUNK_BYTES)
            if aside != place:
                self._fs.makedirs(os.path.dirname(place), exist_ok=True)
                self._fs.mv(aside, place)

    @contextmanager
    def _errors(self, reading: str | None = None) -> Iterator[None]:
        """Map what a disk or a remote driver raises while an artifact is read, or written; ours pass."""
        try:
            yield
        except EdgematrixError:
            raise
        except OSError as error:
            if reading is not None and isinstance(error, FileNotFoundError):
                raise self._missing(reading) from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull(f"no room for artifacts in {self.url}: {error}", f"free some space in {self.url}, then run again") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
                raise FolderUnwritable(
                    f"cannot keep artifacts in {self.url}: {error}",
                    f"make {self.url} writable for this user, or name another place in EDGEMATRIX_ARTIFACTS_URL",
                ) from error
            raise self._unreachable(error) from error
        except Exception as error:
            if self._folder is not None:
                raise
            raise self._unreachable(error) from error

    def _missing(self, sha256: str) -> ArtifactMissing:
        return ArtifactMissing(
            f"no artifact {sha256} in {self.url}", "check EDGEMATRIX_ARTIFACTS_URL; if the file was deleted, submit its experiment again"
        )

    def _damaged(self, sha256: str) -> DigestMismatch:
        return DigestMismatch(
            f"artifact {sha256} in {self.url} does not hold what its name says", "restore it from a backup, or submit its experiment again"
        )

    def _unreachable(self, error: Exception) -> ArtifactsUnreachable:
        return ArtifactsUnreachable(
            f"cannot use the artifacts in {self.url}: {type(error).__name__}: {error}",
            "check EDGEMATRIX_ARTIFACTS_URL, its credentials and the network",
        )


def record_artifacts(session: Session, refs: Iterable[ArtifactRef], now: float) -> None:
    """Note in SQL that the store holds these files; what is noted already stays as it is. ``now`` in Unix seconds."""
    rows = [{"sha256": ref.sha256, "size_bytes": ref.size_bytes, "kind": ref.kind, "created_at": now} for ref in refs]
    if not rows:
        return
    insert: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.connection().execute(insert(Artifact).on_conflict_do_nothing(), rows)


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy to the end in bounded memory and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


@contextmanager
def _publish_local(place: Path, incoming: Path) -> Iterator[BinaryIO]:
    incoming.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(exist_ok=True)
    aside = incoming / uuid.uuid4().hex
    try:
        with aside.open("xb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.replace(aside, place)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
