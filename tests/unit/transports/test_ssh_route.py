"""From what a person writes, and what their OpenSSH configuration says, to the way to a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.errors import RequestInvalid
from orchestrator.transports.ssh import HostKey, Target, parse_host_key, parse_target
from orchestrator.transports.ssh_errors import HostKeyUnknown
from orchestrator.transports.ssh_route import Route, find_route

CONFIG = """
Host pi
    HostName 192.0.2.7
    Port 2222
    User pi
    IdentityFile ~/.ssh/lab
    ProxyJump ada@bastion:2200,inner

Host inner
    HostName 198.51.100.9
    User carl

Host old
    ProxyCommand nc %h %p

Host alone
    IdentityFile ~/.ssh/lab
    IdentitiesOnly yes
    ProxyJump none
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))  # the library expands ~ by itself
    (tmp_path / ".ssh").mkdir()
    for name in ("lab", "id_ed25519"):
        (tmp_path / ".ssh" / name).write_text("a key")
    (tmp_path / ".ssh" / "config").write_text(CONFIG)
    return tmp_path


def route(home: Path, host: str, agent: bool = False, **about: Any) -> Route:
    environment = {"HOME": str(home), "USER": "grace"} | ({"SSH_AUTH_SOCK": "/run/agent"} if agent else {})
    return find_route({"host": host, **about}, home / ".ssh" / "config", environment)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("pi5", Target("pi5")),
        ("pi@192.0.2.7", Target("192.0.2.7", None, "pi")),
        ("pi@host:2222", Target("host", 2222, "pi")),
        ("pi@[2001:db8::1]:22", Target("2001:db8::1", 22, "pi")),
        ("2001:db8::1", Target("2001:db8::1")),
        ("ada@example.org@host", Target("host", None, "ada@example.org")),
        ("pi@2001:db8::1", Target("2001:db8::1", None, "pi")),
    ],
)
def test_a_target_is_read_as_openssh_reads_it(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "@", "a b", "host:0", "host:65536", "host:ssh", "-oProxyCommand=reboot", "-l@host", "pi@", "a@b@c d"])
def test_what_is_no_target_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        parse_target(text)
    assert "user@host:port" in caught.value.remedy


def test_an_alias_gives_host_port_user_key_and_the_hosts_in_between(home: Path) -> None:
    found = route(home, "pi")
    assert (found.device.host, found.device.port, found.device.user) == ("192.0.2.7", 2222, "pi")
    assert found.device.key_files == (home / ".ssh" / "lab",)
    assert [(hop.user, hop.host, hop.port) for hop in found.jumps] == [("ada", "bastion", 2200), ("carl", "198.51.100.9", 22)]


def test_what_a_person_wrote_comes_before_the_configuration(home: Path) -> None:
    found = route(home, "pi", port=22, user="root", key_file="/keys/mine", jump="inner")
    assert (found.device.host, found.device.port, found.device.user) == ("192.0.2.7", 22, "root")
    assert found.device.key_files == (Path("/keys/mine"),)
    assert [hop.host for hop in found.jumps] == ["198.51.100.9"]


def test_without_a_configuration_the_usual_keys_and_ones_own_name_are_used(home: Path) -> None:
    (home / ".ssh" / "config").unlink()
    found = route(home, "pi")
    assert found == Route((), found.device, None)
    assert (found.device.host, found.device.port, found.device.user) == ("pi", 22, "grace")
    assert found.device.key_files == (home / ".ssh" / "id_ed25519",)


def test_a_proxy_command_is_used_unless_a_jump_was_asked_for(home: Path) -> None:
    assert route(home, "old").proxy_command == "nc old 22"
    assert route(home, "old", jump="inner").proxy_command is None


def test_keys_of_the_agent_are_tried_unless_the_configuration_or_a_named_key_forbids_it(home: Path) -> None:
    assert route(home, "pi", agent=True).device.use_agent
    assert not route(home, "pi").device.use_agent
    assert not route(home, "alone", agent=True).device.use_agent
    assert not route(home, "pi", agent=True, key_file="/keys/mine").device.use_agent


def test_jumps_without_end_are_refused(home: Path) -> None:
    with pytest.raises(RequestInvalid, match="9 hosts in between"):
        route(home, "pi", jump=",".join(f"h{number}" for number in range(9)))


def test_a_configuration_that_cannot_be_read_is_named(home: Path) -> None:
    (home / ".ssh" / "config").write_bytes(b"Host \xff\n")
    with pytest.raises(RequestInvalid, match=r"config cannot be read"):
        route(home, "pi")


def test_a_host_key_is_written_as_openssh_writes_it() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIaI7+0rSY2s3c7rQYQWcR6u4pEjsFRdX1Z7kkMfyTXF"
    key = parse_host_key(f"{line} root@pi5")
    assert key.line == line
    assert key.fingerprint.startswith("SHA256:")
    assert not key.fingerprint.endswith("=")
    assert key == HostKey(*line.split())


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not-base64!", "SHA256:abc"])
def test_what_is_no_host_key_is_refused(line: str) -> None:
    with pytest.raises(HostKeyUnknown):
        parse_host_key(line)
