"""Devices that are wrong, broken or hostile, through the real SSH transport: each is a clear error with a remedy, and the right health.

A board that worked turns bad (``device check``), and one that was always bad is met for the first time (``device add``).
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.loopback.sshd import Sshd, sshd_program
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.domain.states import DeviceHealth
from orchestrator.transports import ssh_channel, ssh_files, ssh_greeting
from tests.integration.boards import Board, CommandLine, Said, impostor, make_context
from tests.integration.running import AGENT_PYTHON, GOOD, Home, measured_for, write_spec

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed (apt-get install openssh-server)")

INFRASTRUCTURE, WRONG_INPUT = 3, 2


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory, agent_python: Path) -> Iterator[Board]:
    """A board that was registered while it was good."""
    folder = tmp_path_factory.mktemp("board")
    with Sshd(folder / "sshd") as sshd:
        context = make_context(folder / "home")
        board = Board(folder, sshd, context)
        assert board.register().device.health == DeviceHealth.GOOD
        yield board
        context.engine.dispose()


@pytest.fixture
def board(worked: Board) -> Iterator[Board]:
    """The board, as good as it was after each test."""
    yield worked
    worked.becomes_good()
    worked.sshd.stop()
    worked.sshd.start()


@pytest.fixture
def edgematrix(worked: Board, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("EDGEMATRIX_HOME", str(worked.folder / "home"))
    monkeypatch.setenv("COLUMNS", "1000")
    return CommandLine(capfd)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes up to half a minute in the field takes a second here."""
    monkeypatch.setitem(DeviceAgent._command.__kwdefaults__, "timeout_secs", 2.0)
    monkeypatch.setattr(ssh_greeting, "LOGIN_TIMEOUT_SECS", 1.0)
    monkeypatch.setattr(ssh_files, "REPLY_TIMEOUT_SECS", 1.0)
    monkeypatch.setattr(ssh_channel, "REPLY_TIMEOUT_SECS", 1.0)


def add(board: Board, edgematrix: CommandLine, name: str, *options: str, host_key: str | None = None) -> Said:
    asked = board.asked()
    words = ["device", "add", name, "--ssh", asked.target, "--host-key", host_key or board.sshd.host_key]
    given = {
        "--profile": "linux-x86_64",
        "--key": str(asked.key_file),
        "--root": str(board.folder / name),
        "--interpreter": str(board.python),
    }
    given |= dict(zip(options[::2], options[1::2], strict=True))
    return edgematrix(*words, *(word for pair in given.items() for word in pair))


def assert_bad(board: Board, said: Said, *words: str) -> None:
    """The command failed and said all of ``words``; the device is bad and its reason says so, too."""
    assert said.code == INFRASTRUCTURE, said.text
    health, why = board.health
    assert health == DeviceHealth.BAD
    assert said.out.isprintable()
    for word in words:
        assert word in said.out
        assert word in why


# --- who is there ---------------------------------------------------------------------------------------------


def test_a_key_that_the_board_does_not_know_is_refused_and_the_remedy_puts_one_there(
    board: Board, edgematrix: CommandLine, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    said = add(board, edgematrix, "stranger", "--key", str(stranger))
    assert said.code == INFRASTRUCTURE
    assert f"does not let {board.sshd.address()['user']} in; tried: {stranger}" in said.err
    assert "ssh-copy-id" in said.err
    assert "stranger" not in edgematrix("device", "list").out


def test_a_board_that_takes_our_key_no_longer_is_bad(board: Board, edgematrix: CommandLine) -> None:
    known = board.sshd.folder / "authorized_keys"
    kept = known.read_text()
    known.write_text("")
    try:
        assert_bad(board, edgematrix("device", "check", "board"), "does not let", "ssh-copy-id")
    finally:
        known.write_text(kept)


def test_a_board_with_another_host_key_is_refused_until_a_person_has_pinned_it(board: Board, edgematrix: CommandLine) -> None:
    before = board.sshd.host_key
    board.sshd.replace_host_key()
    said = edgematrix("device", "check", "board")
    assert_bad(board, said, "shows the host key SHA256:", "somebody is in between", "edgematrix device trust board")
    assert edgematrix("device", "trust", "board", "--host-key", "SHA256:wrong").code == WRONG_INPUT
    assert edgematrix("device", "trust", "board", "--host-key", board.sshd.host_key, "--why", "new SD card").code == 0
    assert edgematrix("device", "check", "board").code == 0
    assert board.health[0] == DeviceHealth.GOOD
    refused = add(board, edgematrix, "other-key", host_key=before)
    assert refused.code == INFRASTRUCTURE
    assert "--host-key" in refused.err
    assert "other-key" not in edgematrix("device", "list").out


# --- what the board is ----------------------------------------------------------------------------------------


def test_a_profile_of_another_architecture_is_said_to_be_the_wrong_one(board: Board, edgematrix: CommandLine) -> None:
    said = add(board, edgematrix, "mistaken", "--profile", "linux-arm64")
    assert said.code == INFRASTRUCTURE
    assert "it says x86_64, but its profile linux-arm64 is for arm64" in said.out
    assert "edgematrix profile list" in said.out


def test_an_interpreter_for_another_processor_is_named_with_the_remedy(board: Board, edgematrix: CommandLine) -> None:
    board.python.write_bytes(_foreign_program())
    board.python.chmod(0o755)
    assert_bad(board, edgematrix("device", "check", "board"), f"the device cannot run {board.python}", "a bundle needs nothing installed")


def test_a_32_bit_system_is_refused_with_a_clear_word(board: Board, edgematrix: CommandLine) -> None:
    board.becomes(f'exec setarch i686 {AGENT_PYTHON} "$@"')
    said = edgematrix("device", "check", "board")
    assert_bad(board, said, "this machine is i686; edgematrix measures on 64-bit ARM", "install a 64-bit operating system")
    refused = add(board, edgematrix, "small")
    assert refused.code in (INFRASTRUCTURE, WRONG_INPUT)
    assert "this machine is i686" in refused.err


def test_a_missing_interpreter_is_named_with_the_remedy(board: Board, edgematrix: CommandLine) -> None:
    board.python.unlink()
    assert_bad(board, edgematrix("device", "check", "board"), f"the device cannot run {board.python}", "a bundle needs nothing installed")


def test_a_board_added_without_a_working_interpreter_is_there_bad_and_says_why(board: Board, edgematrix: CommandLine) -> None:
    said = add(board, edgematrix, "empty", "--interpreter", "/nowhere/python3")
    assert said.code == WRONG_INPUT
    assert "the device cannot run /nowhere/python3" in said.out
    shown = edgematrix("device", "show", "empty")
    assert "bad" in shown.out
    assert "the device cannot run /nowhere/python3" in shown.out
    checked = edgematrix("device", "check", "empty")
    assert checked.code == INFRASTRUCTURE
    assert "edgematrix env add default --python PATH --device empty" in checked.out


def test_a_clock_that_is_an_hour_off_is_said_with_how_far(board: Board, edgematrix: CommandLine) -> None:
    ahead = board.folder / "ahead"
    ahead.mkdir(exist_ok=True)
    (ahead / "sitecustomize.py").write_text("import time\n_real = time.time\ntime.time = lambda: _real() + 3600.0\n")
    board.becomes(f'PYTHONPATH={ahead} exec {AGENT_PYTHON} "$@"')
    assert_bad(board, edgematrix("device", "check", "board"), "clock: +3600.", "timedatectl set-ntp true")


# --- its storage ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(board: Board) -> Iterator[Callable[[int], None]]:
    """Put a file system of so many MB where the board keeps its things."""
    if os.geteuid() != 0:
        pytest.skip("a file system is mounted: needs root")
    mounted: list[Path] = []

    def mount(size_mb: int) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "edgematrix-test", str(board.root)], capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
        mounted.append(board.root)

    yield mount
    board.sshd.stop()
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_less_room_than_its_profile_demands_is_bad(board: Board, edgematrix: CommandLine, small_disk: Callable[[int], None]) -> None:
    small_disk(64)
    assert_bad(board, edgematrix("device", "check", "board"), "MB are free in", "500 MB are demanded", "edgematrix device clean board")


def test_a_full_disk_is_told_from_a_broken_one(board: Board, edgematrix: CommandLine, small_disk: Callable[[int], None]) -> None:
    small_disk(1)
    (board.root / "filler").write_bytes(b"x" * 1024 * 1020)
    assert_bad(board, edgematrix("device", "check", "board"), "no room to write", "edgematrix device clean board")


def test_a_read_only_file_system_is_told_from_a_full_one(board: Board, edgematrix: CommandLine, small_disk: Callable[[int], None]) -> None:
    small_disk(64)
    subprocess.run(["mount", "-o", "remount,ro", str(board.root)], check=True)
    assert_bad(board, edgematrix("device", "check", "board"), "its file system is read-only")


# --- what it answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("head -c 5000 /dev/urandom", "answered no JSON (exit code 0)"),
        ("echo Welcome to Debian; exec false", "it said 'Welcome to Debian\\n'"),
        (r"printf '\033]0;owned\007 oops' >&2; exit 3", "answered no JSON (exit code 3): \\x1b]0;owned\\x07 oops"),
        ("echo '[]'", "answered no object"),
        ("""echo '{"ok": true, "utc_unix_secs": "late"}'""", "are not told as the protocol has them"),
        ("exec tr '\\0' x </dev/zero", "and was cut off after"),
        ("kill -9 $PPID", "the connection broke while"),
        ("kill -9 $$", "answered no JSON (exit code -1): it said nothing"),
    ],
    ids=["bytes", "a greeting", "escape sequences", "a list", "nonsense", "endless output", "hangs up", "dies"],
)
def test_an_answer_that_is_none_is_an_error_of_that_device(board: Board, edgematrix: CommandLine, script: str, words: str) -> None:
    board.becomes(script)
    assert_bad(board, edgematrix("device", "check", "board"), words)
    assert _living(board) == []


@pytest.mark.parametrize("script", ["exec cat /dev/zero >&2", "exec sleep 60"], ids=["endless complaints", "silence"])
@pytest.mark.usefixtures("impatient")
def test_a_board_that_never_answers_is_given_up(board: Board, edgematrix: CommandLine, script: str) -> None:
    board.becomes(script)
    assert_bad(board, edgematrix("device", "check", "board"), "did not answer within 2 s", "overloaded or its storage hangs")
    if os.geteuid() != 0:  # OpenSSH passes signals on to users, and not to root, who has no privilege separation
        assert _living(board) == []


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (lambda end: None, "does not speak SSH with us"),
        (lambda end: end.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"), "does not speak SSH with us"),
        (lambda end: end.sendall(b"SSH-\x1b]0;owned\x07\r\n"), "does not speak SSH with us"),
        (lambda end: _send_for_ever(end, b"x" * 65536), "bytes and has not said who it is"),
        (
            lambda end: _send_for_ever(end, b"SSH-2.0-OpenSSH_9.9\r\n" + struct.pack(">I", 2**31) + b"x" * 65536),
            "does not speak SSH with us",
        ),
        (lambda end: time.sleep(60.0), "does not speak SSH with us"),
        (lambda end: (end.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"), time.sleep(60.0)), "it does not answer within 1 s"),
    ],
    ids=[
        "closes at once",
        "a web server",
        "escape sequences",
        "a line without end",
        "a packet without end",
        "silence",
        "silence after its name",
    ],
)
@pytest.mark.usefixtures("impatient")
def test_what_stands_on_the_port_and_is_no_ssh_server_is_said_to_be_none(
    board: Board, edgematrix: CommandLine, serve: Callable[[socket.socket], None], words: str
) -> None:
    board.sshd.stop()
    with impostor(board.sshd.port, serve):
        assert_bad(board, edgematrix("device", "check", "board"), words, "ssh -v")
    assert "refuses port" in edgematrix("device", "check", "board").out


@pytest.mark.parametrize(
    ("sftp", "words"),
    [
        ("/bin/cat /dev/urandom", "answers what is no SFTP"),
        ("/bin/echo hello", "answers what is no SFTP"),
        ("/bin/sleep 60", "the host offers no SFTP: no answer in time"),
        ("/bin/true", "the host offers no SFTP"),
    ],
    ids=["garbage", "a greeting", "silence", "nothing"],
)
@pytest.mark.usefixtures("impatient")
def test_a_board_whose_files_cannot_be_reached_says_what_to_mend(board: Board, edgematrix: CommandLine, sftp: str, words: str) -> None:
    board.sshd.stop()
    board.sshd.sftp = sftp
    try:
        board.sshd.start()
        assert_bad(board, edgematrix("device", "check", "board"), words, "sftp")
    finally:
        board.sshd.sftp = "internal-sftp"


# --- in a run -------------------------------------------------------------------------------------------------


def test_a_board_that_answers_garbage_in_a_run_costs_its_own_job_and_neither_the_worker_nor_the_other_boards(
    home: Home, tmp_path: Path
) -> None:
    context = make_context(home.path)
    with Sshd(tmp_path / "good-sshd") as good_sshd, Sshd(tmp_path / "bad-sshd") as bad_sshd:
        good, bad = (Board(tmp_path / name, sshd, context, name) for name, sshd in (("good", good_sshd), ("bad", bad_sshd)))
        for board in (good, bad):
            assert board.register(labels={"kind": "board"}).device.health == DeviceHealth.GOOD
        bad.becomes(f'case "$2" in start) head -c 5000 /dev/urandom;; *) exec {AGENT_PYTHON} "$@";; esac')
        spec = write_spec(
            home.specs,
            [GOOD],
            devices=[{"each": 'label.kind == "board"'}],
            scenarios=measured_for(1.0),
            limits={"timeout_secs": 60, "max_attempts": 2},
        )
        command = home.start_spec(spec)
        workers: set[int] = set()
        while command.running:
            workers |= {pid for pid, words in home.processes().items() if "-m orchestrator.worker worker" in words}
            time.sleep(0.1)
        assert command.end().code == 1
        context.engine.dispose()
    jobs = home.jobs()
    assert sorted((str(job.outcome), job.attempts) for job in jobs) == [("completed", 1), ("error", 2)]
    assert {job.error["code"] for job in jobs if job.error} == {"device_reply_invalid"}
    assert len(workers) == 1


# --- below ----------------------------------------------------------------------------------------------------


def _send_for_ever(end: socket.socket, data: bytes) -> None:
    while True:
        end.sendall(data)


def _foreign_program() -> bytes:
    """The head of a 64-bit program for a processor that no Linux machine has (an Elbrus)."""
    own = Path("/bin/true").read_bytes()
    return own[:18] + struct.pack("<H", 175) + own[20:4096]


def _living(board: Board) -> list[str]:
    """What was started through the board's SSH server and still runs, once there was time for it to end."""
    mark = f" 127.0.0.1 {board.sshd.port}\0".encode()  # the end of SSH_CONNECTION
    deadline = time.monotonic() + 20.0
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):  # gone meanwhile
                    if mark in (entry / "environ").read_bytes():
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
