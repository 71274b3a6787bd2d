"""Fetches Debian packages and wheels of another architecture through this host's own configured clients, without root."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from orchestrator.bundles.errors import BundleToolMissing, PackagesUnavailable
from orchestrator.bundles.recipe import COMMON_WHEELS, DEBIAN_PACKAGES, GLIBC_MINORS, PYTHON, RUNTIMES, Architecture

_TIMEOUT_SECS = 600.0
#: Hooks of the host would act on the host's own package state.
_APT_CONFIGURATION = "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n"


def fetch_debian_packages(architecture: Architecture, folder: Path, names: Sequence[str] = DEBIAN_PACKAGES) -> list[Path]:
    """Download packages of ``architecture`` into ``folder``; return their files, by name.

    apt runs with state of its own below ``folder`` and the host's sources and keys, so the host needs no foreign architecture configured.
    Raises :class:`BundleToolMissing` and :class:`PackagesUnavailable`.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise BundleToolMissing(f"there is no {tool} here", "build bundles on a Debian or Ubuntu machine; devices need neither")
    packages = folder / "packages"
    state = folder / "apt"
    for needed in (packages, state / "lists" / "partial", state / "cache" / "archives" / "partial"):
        needed.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "apt.conf").write_text(_APT_CONFIGURATION)
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Architecture": architecture.debian,
        "APT::Architectures": architecture.debian,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", f"-c={state / 'apt.conf'}", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], packages, "apt-get update", "see that apt-get update works on this machine")
    for old in packages.glob("*.deb"):
        old.unlink()
    what = f"the {architecture.debian} packages {', '.join(names)}"
    _run([*apt, "download", *names], packages, what, f"build on a release of Debian that has Python {PYTHON} (Debian 12)")
    return sorted(packages.glob("*.deb"))


def unpack_debian_package(package: Path, target: Path) -> None:
    """Unpack a package's files below ``target``; nothing of it is run."""
    _run(["dpkg-deb", "--extract", str(package), str(target)], target, package.name, "remove it from the cache; it is fetched anew")


def fetch_wheels(architecture: Architecture, runtimes: Sequence[str], folder: Path) -> list[Path]:
    """Download the wheels of ``runtimes`` for ``architecture`` into ``folder``, each checked against the hashes that edgematrix ships."""
    wheels = folder / "wheels"
    if wheels.exists():
        shutil.rmtree(wheels)
    wheels.mkdir(parents=True)
    chosen = folder / "wheels.lock"
    chosen.write_text(_lock_of((*COMMON_WHEELS, *(RUNTIMES[name] for name in runtimes))))
    platforms = [word for minor in GLIBC_MINORS for word in ("--platform", f"manylinux_2_{minor}_{architecture.machine}")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += [
        "--require-hashes",
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        "--platform",
        f"manylinux2014_{architecture.machine}",
    ]
    command += [*platforms, "--dest", str(wheels), "--requirement", str(chosen)]
    _run(command, folder, f"the wheels for {architecture.machine}", "see that pip download works on this machine")
    return sorted(wheels.glob("*.whl"))


def _lock_of(distributions: Sequence[str]) -> str:
    lock = (resources.files("orchestrator.bundles") / "wheels.lock").read_text(encoding="utf-8")
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return "".join(entry for entry in entries if entry.partition("==")[0] in distributions)


def _run(command: Sequence[str], folder: Path, what: str, remedy: str) -> None:
    try:
        ended = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_SECS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesUnavailable(f"{what}: {error}", remedy) from error
    if ended.returncode != 0:
        told = " ".join((ended.stderr or ended.stdout).decode("utf-8", "replace").split())[-600:]
        raise PackagesUnavailable(f"{what} cannot be had: {told or f'exit status {ended.returncode}'}", remedy)
