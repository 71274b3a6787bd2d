"""The lab's network: a bridge of its own, and for each device a namespace with one end of a cable. Nothing leaves this machine."""

from __future__ import annotations

import ipaddress
import json
from contextlib import suppress

from deploy.lab.commands import run, succeeds
from deploy.lab.errors import LabBroken, LabImpossible

BRIDGE = "emlab0"
NETWORK = ipaddress.ip_network("10.213.0.0/24")
_FIRST_DEVICE = 10


def namespace_of(name: str) -> str:
    return f"emlab-{name}"


def address_of(number: int) -> str:
    """The address of the lab's device of that number, counted from 0."""
    return str(NETWORK[_FIRST_DEVICE + number])


def make_bridge() -> None:
    """Make the bridge unless it is there; :class:`LabImpossible` when somebody else uses the lab's addresses."""
    if succeeds("ip", "link", "show", BRIDGE):
        return
    for link in json.loads(run("ip", "-json", "address")):
        for about in link.get("addr_info", ()):
            if about.get("family") == "inet" and ipaddress.ip_address(about["local"]) in NETWORK:
                raise LabImpossible(
                    f"{link['ifname']} uses {about['local']}, which is the lab's network {NETWORK}", "take that address away first"
                )
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{NETWORK[1]}/{NETWORK.prefixlen}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def remove_bridge() -> None:
    if succeeds("ip", "link", "show", BRIDGE):
        run("ip", "link", "delete", BRIDGE)


def connect(name: str, number: int) -> None:
    """Give a device its namespace and its cable, unless it has them."""
    space, near = namespace_of(name), _cable(number)
    if not namespace_exists(name):
        run("ip", "netns", "add", space)
    if succeeds("ip", "link", "show", near):
        return
    run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", space)
    run("ip", "link", "set", near, "master", BRIDGE, "up")
    run("ip", "-netns", space, "address", "add", f"{address_of(number)}/{NETWORK.prefixlen}", "dev", "eth0")
    run("ip", "-netns", space, "link", "set", "lo", "up")
    run("ip", "-netns", space, "link", "set", "eth0", "up")


def disconnect(name: str, number: int) -> None:
    """Take the cable and the namespace away; what is not there is fine."""
    with suppress(LabBroken):
        run("ip", "link", "delete", _cable(number))
    if namespace_exists(name):
        run("ip", "netns", "delete", namespace_of(name))


def cut(number: int) -> None:
    """Pull the device's cable."""
    run("ip", "link", "set", _cable(number), "down")


def restore(number: int) -> None:
    """Put the device's cable back."""
    run("ip", "link", "set", _cable(number), "up")


def namespace_exists(name: str) -> bool:
    return namespace_of(name) in [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line]


def _cable(number: int) -> str:
    return f"emlab-c{number}"
