"""The SSH transport against real OpenSSH servers, and links that a test can cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import DeviceReplyInvalid, DeviceUnreachable, DiskFull, FolderUnwritable
from benchmarks.loopback.sshd import Sshd, sshd_program
from benchmarks.loopback.tcp_proxy import TcpProxy
from orchestrator.transports import ssh_command
from orchestrator.transports.ssh import SshTransport, probe_host_key
from orchestrator.transports.ssh_errors import HostKeyChanged, HostKeyUnknown, KeyUnusable, LinkLost, LoginRefused

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed (apt-get install openssh-server)")

MEGABYTE = 1024 * 1024
HOSTILE = ["$(touch owned)", "`touch owned`", "; touch owned", "a\nb", "'\"\\", "*", "", "-rf", "ü\x1b[31m"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
def wire(sshd: Sshd) -> Iterator[SshTransport]:
    transport = SshTransport(sshd.address())
    yield transport
    transport.close()


@pytest.fixture
def link(sshd: Sshd) -> Iterator[TcpProxy]:
    with TcpProxy(sshd.port) as proxy:
        yield proxy


@pytest.fixture
def linked(sshd: Sshd, link: TcpProxy) -> Iterator[SshTransport]:
    """The same host behind a link that can be cut."""
    transport = SshTransport(sshd.address(port=link.port))
    yield transport
    link.restore()
    transport.close()


def say(wire: SshTransport, *words: str) -> str:
    return wire.run(["printf", "%s|", *words], timeout_secs=30.0, max_output_bytes=MEGABYTE).stdout.decode()


def logins(sshd: Sshd) -> int:
    return (sshd.folder / "sshd.log").read_text().count("Accepted publickey")


# --- commands -------------------------------------------------------------------------------------------------


def test_arguments_arrive_as_they_are_whatever_a_shell_would_make_of_them(wire: SshTransport, tmp_path: Path) -> None:
    assert say(wire, *HOSTILE) == "|".join([*HOSTILE, ""])


def test_a_command_tells_its_status_and_both_its_outputs_and_reads_nothing_from_us(wire: SshTransport) -> None:
    ended = wire.run(["sh", "-c", "cat; echo out; echo err >&2; exit 7"], timeout_secs=30.0, max_output_bytes=100)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize(("command", "status"), [(["/nowhere/python3"], 127), (["/etc/passwd"], 126)])
def test_a_command_that_cannot_be_run_is_told_as_a_shell_tells_it(wire: SshTransport, command: list[str], status: int) -> None:
    assert wire.run(command, timeout_secs=30.0, max_output_bytes=100).exit_code == status


def test_an_endless_answer_is_cut_at_the_limit_and_ends_the_command(wire: SshTransport) -> None:
    ended = wire.run(["sh", "-c", "exec tr '\\0' x </dev/zero"], timeout_secs=60.0, max_output_bytes=100_000)
    assert ended.stdout == b"x" * 100_000
    assert say(wire, "on") == "on|"


def test_endless_complaints_hold_up_neither_the_answer_nor_us(wire: SshTransport) -> None:
    script = "head -c 3000000 /dev/zero >&2; echo done"
    ended = wire.run(["sh", "-c", script], timeout_secs=60.0, max_output_bytes=1000)
    assert ended.stdout == b"done\n"
    assert len(ended.stderr) == 1000


def test_a_command_that_does_not_end_is_given_up_at_its_deadline(wire: SshTransport) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceUnreachable, match=r"sleep did not answer within 0\.5 s"):
        wire.run(["sleep", "30"], timeout_secs=0.5, max_output_bytes=100)
    assert time.monotonic() - began < 20.0
    assert say(wire, "on") == "on|"


def test_many_commands_at_once_take_one_login(sshd: Sshd, wire: SshTransport) -> None:
    before = logins(sshd)
    told: list[str] = []
    threads = [threading.Thread(target=lambda number=number: told.append(say(wire, str(number)))) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == sorted(f"{number}|" for number in range(12))
    assert logins(sshd) == before + 1


# --- files ----------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole_with_its_folders_and_for_its_owner_alone(wire: SshTransport, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "a" / "b c" / "$(x)"
    source.write_bytes(os.urandom(3 * MEGABYTE + 17))
    wire.put(source, str(target))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    wire.put(source, str(target), executable=True)
    assert target.stat().st_mode & 0o777 == 0o700
    assert list(target.parent.iterdir()) == [target]


def test_a_file_is_replaced_at_once_and_an_empty_one_is_a_file_too(wire: SshTransport, tmp_path: Path) -> None:
    target = tmp_path / "file"
    wire.put_bytes(b"first", str(target))
    with target.open("rb") as reader:
        wire.put_bytes(b"", str(target))
        assert reader.read() == b"first"
    assert target.read_bytes() == b""
    assert wire.size_of(str(target)) == 0


@pytest.mark.parametrize(
    ("offset", "count", "found"), [(0, 5, b"01234"), (7, 100, b"789"), (10, 5, b""), (99, 5, b""), (3, 0, b""), (0, 10, b"0123456789")]
)
def test_reading_from_an_offset_gives_what_is_there(wire: SshTransport, tmp_path: Path, offset: int, count: int, found: bytes) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert wire.read_from(str(tmp_path / "file"), offset, count) == found


def test_a_large_file_is_read_as_it_is_from_any_offset(wire: SshTransport, tmp_path: Path) -> None:
    data = os.urandom(2 * MEGABYTE)
    (tmp_path / "file").write_bytes(data)
    assert wire.read_from(str(tmp_path / "file"), 12345, MEGABYTE) == data[12345 : 12345 + MEGABYTE]
    assert wire.read_from(str(tmp_path / "file"), 1, 10 * MEGABYTE) == data[1:]


def test_a_file_that_is_not_there_is_none(wire: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "missing", tmp_path / "no" / "folder", tmp_path / "file" / "below"):
        assert wire.size_of(str(path)) is None
        assert wire.read_from(str(path), 0, 10) is None


def test_a_link_a_folder_and_a_pipe_are_no_files(wire: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "link", tmp_path, tmp_path / "pipe"):
        with pytest.raises(DeviceReplyInvalid, match="a link, a folder or a pipe"):
            wire.read_from(str(path), 0, 10)
        with pytest.raises(DeviceReplyInvalid):
            wire.size_of(str(path))


def test_a_file_that_cannot_be_put_says_why(wire: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FolderUnwritable) as caught:
        wire.put_bytes(b"x", str(tmp_path / "file" / "below"))
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy


@pytest.mark.skipif(not os.path.exists("/dev/shm") or os.geteuid() != 0, reason="a small file system is mounted: needs root")
@pytest.mark.parametrize("size_mb", [2, 30])
def test_a_disk_that_fills_up_on_the_way_is_an_error_and_leaves_nothing(wire: SshTransport, tmp_path: Path, size_mb: int) -> None:
    disk, source = tmp_path / "disk", tmp_path / "source"
    disk.mkdir()
    source.write_bytes(os.urandom(size_mb * MEGABYTE))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "edgematrix-test", str(disk)], check=True)
    try:
        with pytest.raises(DiskFull, match="no room to write"):
            wire.put(source, str(disk / "file"))
        assert list(disk.iterdir()) == []
        wire.put_bytes(b"small", str(disk / "file"))
    finally:
        wire.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_server_that_tells_no_limits_is_served_in_blocks_that_every_server_takes(tmp_path: Path) -> None:
    data = os.urandom(MEGABYTE)
    with Sshd(tmp_path / "sshd") as old:
        old.stop()
        old.sftp = "internal-sftp -P limits"
        old.start()
        wire = SshTransport(old.address())
        wire.put_bytes(data, str(tmp_path / "file"))
        assert wire.read_from(str(tmp_path / "file"), 0, 2 * MEGABYTE) == data
        wire.close()


# --- links that break -----------------------------------------------------------------------------------------


def test_a_connection_that_was_reset_while_idle_is_not_noticed_by_who_uses_it(linked: SshTransport, link: TcpProxy, tmp_path: Path) -> None:
    assert say(linked, "before") == "before|"
    link.reset()
    assert say(linked, "after") == "after|"
    link.reset()
    linked.put_bytes(b"data", str(tmp_path / "file"))
    link.reset()
    assert linked.read_from(str(tmp_path / "file"), 0, 10) == b"data"


def test_a_server_that_restarted_is_logged_in_to_again(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as own:
        wire = SshTransport(own.address())
        assert say(wire, "before") == "before|"
        own.stop()
        with pytest.raises(DeviceUnreachable, match="refuses port"):
            say(wire, "meanwhile")
        own.start()
        assert until(lambda: say(wire, "after")) == "after|"
        wire.close()


def test_a_link_that_is_cut_in_the_middle_of_a_file_leaves_no_half_file(sshd: Sshd, link: TcpProxy, tmp_path: Path) -> None:
    wire = SshTransport(sshd.address(port=link.port))
    target = tmp_path / "target" / "file"
    wire.put_bytes(b"whole", str(target))
    link.cut_after_bytes = link.forwarded_bytes + MEGABYTE
    errors: list[Exception] = []

    def put() -> None:
        try:
            wire.put_bytes(os.urandom(8 * MEGABYTE), str(target))
        except DeviceUnreachable as error:
            errors.append(error)

    putting = threading.Thread(target=put)
    putting.start()
    until(lambda: link.is_cut or None)
    assert target.read_bytes() == b"whole"
    sshd.kill_sessions()
    link.reset()
    link.close()
    putting.join(60.0)
    assert not putting.is_alive()
    assert isinstance(errors[0], DeviceUnreachable)
    assert target.read_bytes() == b"whole"
    wire.close()


def test_a_link_that_is_cut_and_restored_loses_nothing(linked: SshTransport, link: TcpProxy, tmp_path: Path) -> None:
    data = os.urandom(2 * MEGABYTE)
    link.cut_after_bytes = link.forwarded_bytes + MEGABYTE // 2
    restoring = threading.Thread(target=lambda: (until(lambda: link.is_cut or None), link.restore()))
    restoring.start()
    linked.put_bytes(data, str(tmp_path / "file"))
    restoring.join()
    assert (tmp_path / "file").read_bytes() == data


def test_a_session_that_dies_with_every_command_is_lost_and_not_tried_for_ever(wire: SshTransport) -> None:
    with pytest.raises(LinkLost, match="the connection broke while sh ran"):
        wire.run(["sh", "-c", "kill -9 $PPID; sleep 30"], timeout_secs=60.0, max_output_bytes=100)
    assert say(wire, "on") == "on|"


def test_a_session_that_hangs_is_left_for_a_new_one(
    sshd: Sshd, wire: SshTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ssh_command, "REPLY_TIMEOUT_SECS", 1.0)
    assert say(wire, "before") == "before|"
    sshd.signal_sessions(signal.SIGSTOP)
    try:
        assert say(wire, "after") == "after|"
        wire.put_bytes(b"data", str(tmp_path / "file"))
    finally:
        sshd.kill_sessions()


def test_a_host_that_is_away_is_asked_once_and_everybody_else_hears_the_same_at_once(sshd: Sshd) -> None:
    now = [100.0]
    with TcpProxy(sshd.port) as proxy:
        port = proxy.port
    wire = SshTransport(sshd.address(port=port), clock=lambda: now[0])
    with pytest.raises(DeviceUnreachable, match="refuses port"):
        say(wire, "x")
    wire._address["port"] = sshd.port  # the host is back
    with pytest.raises(DeviceUnreachable, match="refuses port"):
        say(wire, "x")
    now[0] += 3.0
    assert say(wire, "x") == "x|"
    wire.close()


# --- keys, and the way there ----------------------------------------------------------------------------------


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


def until(look: Callable[[], object]) -> object:
    """Look until there is something; what cannot be reached yet is looked for again."""
    end = time.monotonic() + 60.0
    while True:
        try:
            found = look()
        except DeviceUnreachable:
            found = None
        if found is not None:
            return found
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)
