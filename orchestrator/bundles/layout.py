"""Lays out a bundle: the interpreter where it finds its own standard library, pruned of what no run needs."""

from __future__ import annotations

import fnmatch
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.bundles.errors import BundleRefused
from orchestrator.bundles.recipe import (
    LIBRARIES,
    PYTHON,
    SEED_LIBRARIES,
    UNUSED_EXTENSIONS,
    UNUSED_IN_WHEELS,
    UNUSED_MODULES,
    Architecture,
)

_PYTHON_FOLDER = f"python{PYTHON}"


def lay_out(system: Path, wheels: Iterable[Path], architecture: Architecture, target: Path) -> None:
    """Make the bundle at ``target`` from unpacked Debian packages and wheels.

    ``lib/`` holds the loader and every library, ``bin/python3`` the interpreter, ``lib/python3.11`` its standard library and
    ``lib/python3/dist-packages`` the rest: where Debian's interpreter looks for them, seen from its own place. There are no links.
    """
    (target / "lib").mkdir(parents=True)
    (target / "bin").mkdir()
    _copy_libraries(system, architecture, LIBRARIES, target / "lib")
    _copy_program(system, target)
    modules = target / "lib" / _PYTHON_FOLDER
    for path in _standard_library(system / "usr" / "lib" / _PYTHON_FOLDER):
        name = path.relative_to(system / "usr" / "lib" / _PYTHON_FOLDER)
        _copy(path, modules / name)
    packages = target / "lib" / "python3" / "dist-packages"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not any(fnmatch.fnmatch(member.filename, pattern) for pattern in UNUSED_IN_WHEELS):
                    archive.extract(member, packages)


def lay_out_seed(system: Path, architecture: Architecture, target: Path) -> None:
    """Make the seed at ``target``: the loader, the interpreter and its standard library in one file, which is all that unpacking needs."""
    (target / "lib").mkdir(parents=True)
    (target / "bin").mkdir()
    _copy_libraries(system, architecture, SEED_LIBRARIES, target / "lib")
    _copy_program(system, target)
    source = system / "usr" / "lib" / _PYTHON_FOLDER
    with zipfile.ZipFile(target / "lib" / f"{_PYTHON_FOLDER.replace('.', '')}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _standard_library(source):
            if path.suffix == ".py":
                about = zipfile.ZipInfo(path.relative_to(source).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
                about.compress_type = zipfile.ZIP_DEFLATED
                about.external_attr = 0o644 << 16
                archive.writestr(about, path.read_bytes())


def _copy_program(system: Path, target: Path) -> None:
    program = target / "bin" / "python3"
    _copy(system / "usr" / "bin" / _PYTHON_FOLDER, program)
    program.chmod(0o755)


def _copy_libraries(system: Path, architecture: Architecture, wanted: tuple[str, ...], target: Path) -> None:
    found: set[str] = set()
    for folder in (system / "lib" / architecture.triplet, system / "usr" / "lib" / architecture.triplet, system / "lib64", system / "lib"):
        for path in sorted(folder.glob("*.so*")) if folder.is_dir() else ():
            beginning = next((name for name in wanted if path.name.startswith(name)), None)
            # Only the names that programs ask for (libz.so.1), not the files behind them (libz.so.1.2.13).
            if beginning is None or path.name in found or not _is_asked_for(path) or _leaves(path, system):
                continue
            _copy(path.resolve(), target / path.name)
            found.add(path.name)
    (target / architecture.loader).chmod(0o755)
    missing = [name for name in SEED_LIBRARIES if not any(item.startswith(name) for item in found)]
    if missing:
        raise BundleRefused(f"the packages hold no {', '.join(missing)}", "please report this with the version of your Debian")


def _is_asked_for(path: Path) -> bool:
    parts = path.name.partition(".so")[2].strip(".").split(".")
    return len(parts) <= 1 or path.name.startswith("ld-linux")


def _standard_library(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if (
            not path.is_file()
            or _leaves(path, folder)
            or parts[0] in UNUSED_MODULES
            or "__pycache__" in parts
            or "test" in parts
            or "tests" in parts
        ):
            continue
        if parts[0] == "lib-dynload" and path.name.startswith(UNUSED_EXTENSIONS):
            continue
        yield path


def _leaves(path: Path, tree: Path) -> bool:
    """Whether a link leads out of the packages, to a file of this host: what that holds is in no package."""
    return path.is_symlink() and not path.resolve().is_relative_to(tree.resolve())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
