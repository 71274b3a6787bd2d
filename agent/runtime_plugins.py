"""Runtimes that an environment brings itself: packages with an entry point in the group ``edgematrix.runtimes`` (docs/runtimes.md).

The entry point's name is the runtime's; a built-in one of the same name gives way. It points to a pair: the driver, a class derived from
``agent.runtimes.base.Runtime``, and the proof that it works here, which returns a ``RuntimeAvailability``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple, Type

from agent.errors import MissingRuntime

if TYPE_CHECKING:
    # What lists an environment must work without numpy, which the drivers need.
    from agent.runtimes.base import Runtime, RuntimeAvailability

GROUP = "edgematrix.runtimes"

#: What a package manager writes beside the package, and caches: none of it changes what the package does.
_NOT_CONTENT = (".pyc", "/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")

_REMEDY = "see the package in the device's environment, or remove it there"

Driver = Tuple["Type[Runtime]", "Callable[[], RuntimeAvailability]"]


@dataclass(frozen=True)
class Plugin:
    """One entry point: the runtime's name, and the package it comes from."""

    name: str
    package: str
    version: str
    entry: Any

    def load(self) -> Driver:
        """Import the driver and its proof. Raises :class:`MissingRuntime` for whatever goes wrong in the package."""
        from agent.runtimes.base import Runtime, first_line

        try:
            driver, proof = self.entry.load()
            is_sound = issubclass(driver, Runtime) and callable(proof)
        except Exception as error:
            raise MissingRuntime(f"{self.told}: {type(error).__name__}: {first_line(error)}", _REMEDY) from error
        if not is_sound:
            raise MissingRuntime(f"{self.told} gives no pair of a driver and a proof", _REMEDY)
        return driver, proof

    @property
    def told(self) -> str:
        return f"the runtime {self.name!r} of the package {self.package} {self.version}"


def find() -> Dict[str, Plugin]:
    """Return the plug-ins of this environment by the runtime's name; nothing of them is imported.

    Raises :class:`MissingRuntime` when two packages bring the same runtime: which of them would run must not be left to chance.
    """
    found: Dict[str, Plugin] = {}
    for distribution in _distributions():
        for entry in distribution.entry_points:
            if entry.group != GROUP:
                continue
            plugin = Plugin(entry.name, str(distribution.metadata["Name"]), str(distribution.version), entry)
            if entry.name in found:
                message = f"{found[entry.name].told}, and another in {plugin.package} {plugin.version}: only one can be meant"
                raise MissingRuntime(message, "remove one of the packages from the device's environment")
            found[entry.name] = plugin
    return found


def facts() -> Dict[str, Dict[str, str]]:
    """Return each package with plug-ins by name: its version, the runtimes it brings, and the SHA-256 over all of its files."""
    found: Dict[str, Dict[str, str]] = {}
    for distribution in _distributions():
        names = sorted(entry.name for entry in distribution.entry_points if entry.group == GROUP)
        if names:
            found[str(distribution.metadata["Name"])] = {
                "version": str(distribution.version),
                "runtimes": ", ".join(names),
                "sha256": _content(distribution),
            }
    return found


def _distributions() -> List[metadata.Distribution]:
    """Return every installed package once: the first on the path is the one that is imported."""
    found: Dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        found.setdefault(str(distribution.metadata["Name"]).lower().replace("_", "-"), distribution)
    return list(found.values())


def _content(distribution: metadata.Distribution) -> str:
    digester = hashlib.sha256()
    for file in sorted(distribution.files or [], key=str):
        if f"/{file}".endswith(_NOT_CONTENT):
            continue
        try:
            data = file.read_binary()
        except OSError:
            data = b""
        digester.update(f"{file}\0{len(data)}\0".encode() + data)
    return digester.hexdigest()
