"""The SSH transport against real OpenSSH servers, and links that a test can cut."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DeviceReplyInvalid, DeviceUnreachable, DiskFull, FolderUnwritable
from benchmarks.loopback.sshd import Sshd, sshd_program
from benchmarks.loopback.tcp_proxy import TcpProxy
from orchestrator.transports import ssh_command
from orchestrator.transports.ssh import SshTransport
from orchestrator.transports.ssh_errors import LinkLost
from tests.integration.ssh_talk import MEGABYTE, logins, say, until

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed (apt-get install openssh-server)")

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
