"""Who is let in, whom we believe, and by which way, with real OpenSSH servers, keys, agents and configurations."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import DeviceUnreachable
from benchmarks.loopback.sshd import Sshd, sshd_program
from orchestrator.transports.ssh import SshTransport, probe_host_key
from orchestrator.transports.ssh_errors import HostKeyChanged, HostKeyUnknown, KeyUnusable, LoginRefused
from tests.integration.ssh_talk import logins, say, until

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed (apt-get install openssh-server)")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


def test_a_host_without_a_pinned_key_and_one_with_another_are_refused(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnknown) as unknown:
        say(SshTransport(sshd.address(host_key=None)), "x")
    assert "edgematrix device trust" in unknown.value.remedy
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    pinned = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    before = logins(sshd)
    with pytest.raises(HostKeyChanged) as changed:
        say(SshTransport(sshd.address(host_key=pinned)), "x")
    assert "edgematrix device trust" in changed.value.remedy
    assert logins(sshd) == before  # nobody logged in to who is not the host


def test_a_host_tells_its_key_to_who_asks_without_a_login(sshd: Sshd) -> None:
    before = logins(sshd)
    seen = probe_host_key(sshd.address(host_key=None, key_file="/nowhere"))
    told = subprocess.run(["ssh-keygen", "-lf", f"{sshd.folder}/host_key.pub"], capture_output=True, text=True, check=True).stdout
    assert seen.line == sshd.host_key
    assert seen.fingerprint == told.split()[1]
    assert logins(sshd) == before


def test_keys_that_cannot_be_used_are_named_with_the_remedy(sshd: Sshd, tmp_path: Path) -> None:
    locked, garbage = tmp_path / "locked", tmp_path / "garbage"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    garbage.write_text("no key")
    for path, words in ((tmp_path / "missing", "there is no key file"), (locked, "asks for a passphrase"), (garbage, "no private key")):
        with pytest.raises(KeyUnusable, match=words) as caught:
            say(SshTransport(sshd.address(key_file=str(path))), "x")
        assert caught.value.remedy


def test_a_user_that_may_not_log_in_is_told_which_keys_were_tried(sshd: Sshd) -> None:
    with pytest.raises(LoginRefused) as caught:
        say(SshTransport(sshd.address(user="nobody-of-that-name")), "x")
    assert str(sshd.client_key) in caught.value.message
    assert f"ssh-copy-id -p {sshd.port} nobody-of-that-name@127.0.0.1" in caught.value.remedy


@pytest.fixture
def openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A home with an OpenSSH configuration of its own."""
    folder = tmp_path / "person"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return lambda text: (folder / ".ssh" / "config").write_text(text) and None


def alias(sshd: Sshd, name: str, more: str = "") -> str:
    about = sshd.address()
    return f"Host {name}\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {about['user']}\n  IdentityFile {sshd.client_key}\n{more}\n"


def named(sshd: Sshd, name: str) -> SshTransport:
    """As a device that was added by an alias: everything but the host key comes from the configuration."""
    return SshTransport({"host": name, "port": None, "user": None, "host_key": sshd.host_key, "key_file": None, "jump": None})


def test_a_host_of_the_openssh_configuration_is_reached_by_its_name(sshd: Sshd, openssh: Callable[[str], None]) -> None:
    openssh(alias(sshd, "pi"))
    wire = named(sshd, "pi")
    assert say(wire, "x") == "x|"
    wire.close()


def test_a_proxy_command_is_the_way_there(sshd: Sshd, openssh: Callable[[str], None]) -> None:
    relay = "import os,socket,sys,threading;s=socket.create_connection((sys.argv[1],int(sys.argv[2])));"
    relay += "threading.Thread(target=lambda:[s.sendall(d) for d in iter(lambda:os.read(0,65536),b'')],daemon=True).start();"
    relay += "[os.write(1,d) for d in iter(lambda:s.recv(65536),b'')]"
    openssh(alias(sshd, "pi", f'  ProxyCommand {sys.executable} -c "{relay}" %h %p'))
    wire = named(sshd, "pi")
    assert say(wire, "x") == "x|"
    wire.close()
    openssh(alias(sshd, "pi", "  ProxyCommand /nowhere/nc %h %p"))
    with pytest.raises(DeviceUnreachable, match="ProxyCommand '/nowhere/nc"):
        say(named(sshd, "pi"), "x")
    openssh(alias(sshd, "pi", "  ProxyCommand false"))
    with pytest.raises(DeviceUnreachable, match="does not speak SSH with us"):
        say(named(sshd, "pi"), "x")


def test_a_jump_host_leads_to_a_device_and_must_be_known_itself(sshd: Sshd, openssh: Callable[[str], None], tmp_path: Path) -> None:
    with Sshd(tmp_path / "bastion") as bastion:
        openssh(alias(sshd, "pi", "  ProxyJump bastion") + alias(bastion, "bastion"))
        with pytest.raises(HostKeyUnknown, match="does not know the host in between"):
            say(named(sshd, "pi"), "x")
        known = Path(os.environ["HOME"]) / ".ssh" / "known_hosts"
        known.write_text(f"[127.0.0.1]:{bastion.port} {bastion.host_key}\n")
        wire = named(sshd, "pi")
        assert say(wire, "x") == "x|"
        assert logins(bastion) == 1
        wire.close()
        bastion.replace_host_key()
        with pytest.raises(HostKeyChanged, match="which is not what"):
            say(named(sshd, "pi"), "x")


def test_a_key_of_the_agent_opens_the_door(
    sshd: Sshd, openssh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    socket = str(tmp_path / "agent.sock")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        until(lambda: os.path.exists(socket) or None)
        subprocess.run(["ssh-add", "-q", str(sshd.client_key)], env={**os.environ, "SSH_AUTH_SOCK": socket}, check=True)
        wire = SshTransport(sshd.address(key_file=None))
        with pytest.raises(LoginRefused, match="no key, for there is none"):
            say(wire, "x")
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        wire = SshTransport(sshd.address(key_file=None))
        assert say(wire, "x") == "x|"
        wire.close()
    finally:
        agent.terminate()
        agent.wait()
