"""What kind of board this is, by what its maker wrote into the device tree or onto its system partition."""

from __future__ import annotations

from typing import List, Optional

from agent.host import HostFiles, exists, try_text


def model(host: HostFiles) -> Optional[str]:
    """Return the board's model from the device tree, None where there is none."""
    return _tree_text(host, "model")


def compatible(host: HostFiles) -> List[str]:
    """Return what the device tree says the board is compatible with, the most particular first; empty where there is none."""
    text = _tree_text(host, "compatible")
    return [item for item in text.split("\0") if item] if text is not None else []


def is_raspberry_pi(host: HostFiles) -> bool:
    return (model(host) or "").startswith("Raspberry Pi")


def is_tegra(host: HostFiles) -> bool:
    """Say whether this is a Jetson or another board with a Tegra."""
    return "jetson" in (model(host) or "").lower() or any(item.startswith("nvidia,tegra") for item in compatible(host))


def is_android(host: HostFiles) -> bool:
    return exists(host.system / "build.prop") or exists(host.system / "bin" / "getprop")


def _tree_text(host: HostFiles, name: str) -> Optional[str]:
    # The first is a link to the second; a machine that shows little of /proc may still show the second.
    return try_text(host.proc / "device-tree" / name) or try_text(host.sys / "firmware" / "devicetree" / "base" / name)
