"""Builds a bundle: fetch, lay out, prune, and pack into one archive under its digest, beside the seed that can unpack it."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.bundles.errors import BundleRefused
from orchestrator.bundles.fetch import fetch_debian_packages, fetch_wheels, unpack_debian_package
from orchestrator.bundles.layout import lay_out, lay_out_seed
from orchestrator.bundles.recipe import ARCHITECTURES, DEFAULT_RUNTIMES, PYTHON, RUNTIMES


@dataclass(frozen=True)
class SeedFile:
    """One file of the seed: where it goes below the seed's folder, where it lies here, and whether it is a program."""

    name: str
    path: Path
    executable: bool


@dataclass(frozen=True)
class BuiltBundle:
    """A bundle on this host. ``sha256`` is of ``archive`` (a gzipped tar); ``facts`` say what is in it, for people."""

    sha256: str
    architecture: str
    archive: Path
    seed: tuple[SeedFile, ...]
    loader: str
    facts: dict[str, Any]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only one that builds below ``folder``, for the body; a second one waits, and finds what the first has downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def build(architecture: str, runtimes: Sequence[str], folder: Path) -> BuiltBundle:
    """Build a bundle for ``aarch64`` or ``x86_64`` below ``folder``, which also caches what is downloaded.

    The same packages and wheels give the same bytes. The files stay until the next build there: see :func:`alone_in`.
    Raises :class:`BundleRefused`, and what fetching raises.
    """
    chosen = tuple(dict.fromkeys(runtimes or DEFAULT_RUNTIMES))
    unknown = [name for name in chosen if name not in RUNTIMES]
    if architecture not in ARCHITECTURES or unknown:
        raise BundleRefused(
            f"there is no bundle of {', '.join([architecture] if architecture not in ARCHITECTURES else unknown)}",
            f"architectures: {', '.join(ARCHITECTURES)}; runtimes: {', '.join(RUNTIMES)}",
        )
    about = ARCHITECTURES[architecture]
    place = folder / architecture
    packages = fetch_debian_packages(about, place)
    wheels = fetch_wheels(about, chosen, place)
    system, tree, seed = place / "system", place / "bundle", place / "seed"
    for made in (system, tree, seed):
        if made.exists():
            shutil.rmtree(made)
        made.mkdir()
    for package in packages:
        unpack_debian_package(package, system)
    lay_out(system, wheels, about, tree)
    lay_out_seed(system, about, seed)
    archive = place / "bundle.tar.gz"
    pack(tree, archive)
    with archive.open("rb") as packed:
        sha256 = hashlib.file_digest(packed, "sha256").hexdigest()
    files = [path for path in tree.rglob("*") if path.is_file()]
    facts = {
        "python": PYTHON,
        "runtimes": list(chosen),
        "packages": [path.name for path in packages],
        "wheels": [path.name for path in wheels],
        "file_count": len(files),
        "unpacked_bytes": sum(path.stat().st_size for path in files),
    }
    return BuiltBundle(sha256, about.name, archive, tuple(_seed_files(seed)), about.loader, facts)


def pack(tree: Path, archive: Path) -> None:
    """Pack the files of ``tree`` into a gzipped tar without times, owners or links, in the order of their names."""
    with archive.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(tree).as_posix())
                member.size = path.stat().st_size
                member.mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)


def _seed_files(seed: Path) -> Iterator[SeedFile]:
    for path in sorted(seed.rglob("*")):
        if path.is_file():
            yield SeedFile(path.relative_to(seed).as_posix(), path, bool(path.stat().st_mode & stat.S_IXUSR))
