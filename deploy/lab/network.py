"""The lab's network: a bridge of its own, and for each device a namespace with one end of a cable. Nothing leaves this machine."""

from __future__ import annotations

import ipaddress
import json
from contextlib import suppress
from dataclasses import dataclass

from deploy.lab.commands import run, succeeds
from deploy.lab.errors import LabBroken, LabImpossible

_FIRST_DEVICE = 10


@dataclass(frozen=True)
class Network:
    """``lab`` begins the names of everything that this network makes; ``subnet`` holds the addresses."""

    lab: str
    subnet: ipaddress.IPv4Network

    @property
    def bridge(self) -> str:
        return f"em-{self.lab}"

    def space(self, device: str) -> str:
        """The name of a device's namespace."""
        return f"em-{self.lab}-{device}"

    def cable(self, number: int) -> str:
        """The name of the near end of a device's cable: at most 15 characters, since the kernel takes no more."""
        return f"em-{self.lab}-{number}"

    def address(self, number: int) -> str:
        """The address of the lab's device of that number, counted from 0."""
        return str(self.subnet[_FIRST_DEVICE + number])

    def hardware_address(self, number: int) -> str:
        """Of the address: whoever has the address next has this one too, and is found where neighbours remember it."""
        return ":".join(f"{octet:02x}" for octet in (0x02, 0x00, *self.subnet[_FIRST_DEVICE + number].packed))

    def make_bridge(self) -> None:
        """Make the bridge unless it is there; :class:`LabImpossible` when somebody else uses the lab's addresses."""
        if not succeeds("ip", "link", "show", self.bridge):
            self._refuse_taken_addresses()
            run("ip", "link", "add", self.bridge, "type", "bridge")
        # Whoever was killed half-way left the rest undone; both are harmless twice.
        run("ip", "address", "replace", f"{self.subnet[1]}/{self.subnet.prefixlen}", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def remove_bridge(self) -> None:
        if succeeds("ip", "link", "show", self.bridge):
            run("ip", "link", "delete", self.bridge)

    def connect(self, device: str, number: int) -> None:
        """Give a device that is down its namespace and its cable, both new: what is left of before may be half of it."""
        self.disconnect(device, number)
        space, near = self.space(device), self.cable(number)
        run("ip", "netns", "add", space)
        run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "address", self.hardware_address(number), "netns", space)
        run("ip", "link", "set", near, "master", self.bridge, "up")
        run("ip", "-netns", space, "address", "add", f"{self.address(number)}/{self.subnet.prefixlen}", "dev", "eth0")
        run("ip", "-netns", space, "link", "set", "lo", "up")
        run("ip", "-netns", space, "link", "set", "eth0", "up")

    def disconnect(self, device: str, number: int) -> None:
        """Take the cable and the namespace away; what is not there is fine."""
        with suppress(LabBroken):
            run("ip", "link", "delete", self.cable(number))
        if self.space(device) in self.spaces():
            run("ip", "netns", "delete", self.space(device))

    def cut(self, number: int) -> None:
        """Pull the device's cable."""
        run("ip", "link", "set", self.cable(number), "down")

    def restore(self, number: int) -> None:
        """Put the device's cable back."""
        run("ip", "link", "set", self.cable(number), "up")

    def spaces(self) -> list[str]:
        """The namespaces that this lab has on this machine now, also those of an earlier definition."""
        names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.split()]
        return [name for name in names if name.startswith(f"em-{self.lab}-")]

    def _refuse_taken_addresses(self) -> None:
        for link in json.loads(run("ip", "-json", "address")):
            for about in link.get("addr_info", ()):
                if about.get("family") == "inet" and _overlap(self.subnet, about):
                    raise LabImpossible(
                        f"{link['ifname']} uses {about['local']}/{about.get('prefixlen')}, which meets the lab's network {self.subnet}",
                        "give the lab another one: a file of your own with 'network: 10.214.0.0/24' (docs/lab.md)",
                    )


def _overlap(subnet: ipaddress.IPv4Network, about: dict[str, object]) -> bool:
    return subnet.overlaps(ipaddress.ip_network(f"{about['local']}/{about.get('prefixlen', 32)}", strict=False))
