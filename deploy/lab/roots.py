"""The roots that devices stand on: one minimal Debian for each architecture with Python and the agent's packages, made once."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.lab.commands import run
from deploy.lab.errors import LabBroken
from orchestrator.bundles.fetch import fetch_debian_packages, unpack_debian_package
from orchestrator.bundles.recipe import ARCHITECTURES

#: Raised when roots are made in another way, so that those of before are made anew.
_RECIPE = 1
_SUITE = "bookworm"
_MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
_LOCK = Path(__file__).resolve().parents[2] / "requirements" / "agent.lock"
_AGENT_PACKAGES = ("numpy", "onnxruntime", "tflite-runtime", "psutil")
_GLIBC_MINORS = range(17, 37)
_MAKE_SECS = 1200.0


def make_roots(names: Iterable[str], folder: Path) -> None:
    """Make those of the named roots that are not there yet, side by side."""
    wanted = sorted(set(names))
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        list(pool.map(lambda name: _make_root(name, folder), wanted))


def root_place(name: str, folder: Path) -> Path:
    """Where that root is, or will be. Roots of another recipe are elsewhere: no device ever stands on one that changes."""
    return folder / "roots" / _recipe() / name


def is_made(name: str, folder: Path) -> bool:
    """Whether the root is complete: its mark is written last."""
    return _mark(root_place(name, folder)).exists()


def forget_roots(folder: Path, keep: Iterable[Path]) -> None:
    """Remove roots of earlier recipes on which nothing in ``keep`` stands."""
    used = {_recipe(), *(path.parent.name for path in keep)}
    for place in (folder / "roots").iterdir():
        if place.name not in used:
            shutil.rmtree(place)


def _make_root(name: str, folder: Path) -> None:
    place = root_place(name, folder)
    if _mark(place).exists():
        return
    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    if name == "bare-arm64":
        _make_bare(place, folder / "cache")
    else:
        _make_debian(name, place, folder / "cache")
    _mark(place).touch()


def _mark(place: Path) -> Path:
    return place.with_name(f"{place.name}.made")


def _recipe() -> str:
    return hashlib.sha256(f"{_RECIPE} {_SUITE} {_agent_lock()}".encode()).hexdigest()[:12]


def _make_debian(name: str, place: Path, cache: Path) -> None:
    sources = _sources()
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=python3", f"--architectures={name}", _SUITE, str(place),
        *sources, timeout_secs=_MAKE_SECS,
    )  # fmt: skip
    packages = place / "usr" / "local" / "lib" / "python3.11" / "dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    lock = cache / f"agent-{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(_agent_lock())
    platforms = [word for minor in _GLIBC_MINORS for word in ("--platform", f"manylinux_2_{minor}_{_MACHINES[name]}")]
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-compile",
        "--only-binary=:all:", "--require-hashes", "--python-version", "3.11", "--implementation", "cp", *platforms,
        "--platform", f"manylinux2014_{_MACHINES[name]}", "--target", str(packages), "--requirement", str(lock),
        timeout_secs=_MAKE_SECS,
    )  # fmt: skip


def _make_bare(place: Path, cache: Path) -> None:
    """Nothing but a static shell, and the empty folders that the kernel's file systems are mounted on."""
    shelf = cache / "busybox"
    (package,) = fetch_debian_packages(ARCHITECTURES["aarch64"], shelf, ["busybox-static"])
    unpacked = shelf / "unpacked"
    unpacked.mkdir(exist_ok=True)
    unpack_debian_package(package, unpacked)
    for empty in ("bin", "dev", "proc", "sys", "tmp", "root"):
        (place / empty).mkdir(parents=True)
    found = [path for path in (unpacked / "bin" / "busybox", unpacked / "usr" / "bin" / "busybox") if path.is_file()]
    if not found:
        raise LabBroken("busybox-static holds no busybox", "please report this with the version of your Debian")
    shutil.copyfile(found[0], place / "bin" / "sh")
    (place / "bin" / "sh").chmod(0o755)


def _sources() -> list[str]:
    """This machine's own sources when it is the same release; else the tool's default."""
    release = Path("/etc/os-release").read_text()
    if f"VERSION_CODENAME={_SUITE}" not in release:
        return []
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources"))]
    return [str(path) for path in places if path.is_file() and path.stat().st_size > 0]


def _agent_lock() -> str:
    """The entries of the agent's lock that a device with Python 3.11 needs."""
    kept: list[str] = []
    keeping = False
    for line in _LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            name, _, marker = line.partition("==")[0], *line.partition(";")[1:]
            keeping = name in _AGENT_PACKAGES and _means_3_11(marker)
        if keeping and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _means_3_11(marker: str) -> bool:
    from packaging.markers import Marker

    text = marker.strip().rstrip("\\").strip()
    return not text or Marker(text).evaluate({"python_version": "3.11", "python_full_version": "3.11.2", "platform_machine": "aarch64"})
