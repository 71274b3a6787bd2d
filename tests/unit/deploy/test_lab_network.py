"""The names and addresses of a lab: apart from those of every other, and short enough for the kernel."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from deploy.lab import network
from deploy.lab.errors import LabImpossible
from deploy.lab.network import Network

SUBNET = IPv4Network("10.213.0.0/24")
LONGEST = Network("abcdefgh", SUBNET)


def test_names_of_links_fit_into_the_fifteen_characters_of_the_kernel() -> None:
    assert len(LONGEST.bridge) <= 15
    assert len(LONGEST.cable(199)) <= 15


def test_two_hundred_devices_have_addresses_of_their_own_inside_the_network() -> None:
    addresses = [LONGEST.address(number) for number in range(200)]
    assert len(set(addresses)) == 200
    assert not {str(SUBNET[0]), str(SUBNET[1]), str(SUBNET[-1])} & set(addresses)
    assert all(SUBNET.supernet_of(IPv4Network(address)) for address in addresses)


def test_whoever_gets_an_address_gets_its_hardware_address_which_is_locally_administered_and_no_multicast() -> None:
    assert LONGEST.hardware_address(0) == "02:00:0a:d5:00:0a"
    assert len({LONGEST.hardware_address(number) for number in range(200)}) == 200


def test_no_name_of_one_lab_begins_like_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Network("lab", SUBNET), Network("lab2", SUBNET)
    monkeypatch.setattr(network, "run", lambda *command: f"{first.space('a')} (id: 1)\n{second.space('a')}\nother\n")
    assert first.spaces() == ["em-lab-a"]
    assert second.spaces() == ["em-lab2-a"]


@pytest.mark.parametrize(("local", "prefix", "meets"), [("10.213.0.7", 24, True), ("10.0.0.1", 8, True), ("10.214.0.1", 24, False)])
def test_a_network_that_this_machine_uses_is_refused_with_the_way_to_take_another(
    monkeypatch: pytest.MonkeyPatch, local: str, prefix: int, meets: bool
) -> None:
    asked: list[tuple[str, ...]] = []
    links = [
        {"ifname": "eth0", "addr_info": [{"family": "inet6", "local": "::1"}, {"family": "inet", "local": local, "prefixlen": prefix}]}
    ]

    def run(*command: str) -> str:
        asked.append(command)
        return json.dumps(links) if command == ("ip", "-json", "address") else ""

    monkeypatch.setattr(network, "run", run)
    monkeypatch.setattr(network, "succeeds", lambda *command: False)
    if meets:
        with pytest.raises(LabImpossible, match=f"eth0 uses {local}") as caught:
            LONGEST.make_bridge()
        assert "network:" in caught.value.remedy
        assert len(asked) == 1
    else:
        LONGEST.make_bridge()
        assert ("ip", "link", "add", "em-abcdefgh", "type", "bridge") in asked
