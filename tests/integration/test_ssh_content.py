"""Content on its way to a board over SSH: once, in parts, on from where a push broke, and away again when nobody needs it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DeviceUnreachable
from benchmarks.loopback.sshd import Sshd, sshd_program
from benchmarks.loopback.tcp_proxy import TcpProxy
from orchestrator.dispatch.agent_package import AgentPackage, build_agent_package
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.push import PART_BYTES
from orchestrator.service import device_storage
from orchestrator.transports.ssh import SshTransport
from tests.integration.boards import Board, CommandLine, make_context

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed (apt-get install openssh-server)")

SIZE_BYTES = 4 * PART_BYTES + 12345


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> AgentPackage:
    return build_agent_package(tmp_path_factory.mktemp("agents"))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "model"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


class Way:
    """A way to one folder on a board, over a link that counts and can be cut; ``agent`` is what a new worker process has."""

    def __init__(self, sshd: Sshd, link: TcpProxy, root: Path, package: AgentPackage) -> None:
        self.sshd, self.link, self.root, self._package = sshd, link, root, package
        self._wires: list[SshTransport] = []

    def agent(self) -> DeviceAgent:
        wire = SshTransport(self.sshd.address(port=self.link.port))
        self._wires.append(wire)
        made = DeviceAgent(wire, str(self.root), [sys.executable], self._package)
        made.push_agent()
        return made

    def close(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture
def way(sshd: Sshd, tmp_path: Path, package: AgentPackage) -> Iterator[Way]:
    with TcpProxy(sshd.port) as link:
        made = Way(sshd, link, tmp_path / "root", package)
        yield made
        made.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_content_arrives_as_it_is_and_a_second_push_moves_no_bytes_of_it(way: Way, source: Path) -> None:
    agent, sha256 = way.agent(), digest(source)
    assert agent.push_content(sha256, SIZE_BYTES, lambda: source)
    assert digest(way.root / "content" / sha256) == sha256
    before = way.link.forwarded_bytes
    assert agent.push_content(sha256, SIZE_BYTES, lambda: source)
    assert way.link.forwarded_bytes - before < 1000


def test_a_push_that_broke_goes_on_from_there_in_another_process(sshd: Sshd, way: Way, source: Path) -> None:
    agent, sha256 = way.agent(), digest(source)
    before = way.link.forwarded_bytes
    sent_whole = 0

    def after_two_parts() -> bool:
        nonlocal sent_whole
        sent_whole += 1
        if sent_whole == 2:  # in the middle of the third the board goes away, in front of who sends it
            sshd.stop()
        return False

    with pytest.raises(DeviceUnreachable):
        agent.push_content(sha256, SIZE_BYTES, lambda: source, after_two_parts)
    sshd.start()
    assert way.agent().push_content(sha256, SIZE_BYTES, lambda: source)
    assert digest(way.root / "content" / sha256) == sha256
    assert way.link.forwarded_bytes - before < SIZE_BYTES + 1.5 * PART_BYTES
    assert [path.name for path in (way.root / "content").iterdir()] == [sha256]


def test_a_push_that_has_no_time_left_goes_on_at_the_next_call(way: Way, source: Path) -> None:
    agent, sha256, calls = way.agent(), digest(source), 0
    before = way.link.forwarded_bytes
    while not agent.push_content(sha256, SIZE_BYTES, lambda: source, lambda: True):
        calls += 1
        assert calls < 10
    assert calls == 4
    assert digest(way.root / "content" / sha256) == sha256
    assert way.link.forwarded_bytes - before < 1.05 * SIZE_BYTES


def test_a_part_that_the_board_damaged_is_sent_again_and_no_other(way: Way, source: Path) -> None:
    agent, sha256 = way.agent(), digest(source)
    assert not agent.push_content(sha256, SIZE_BYTES, lambda: source, lambda: True)
    (part,) = (way.root / "content").glob("*/*")
    data = bytearray(part.read_bytes())
    data[1000] ^= 1
    part.write_bytes(data)
    before = way.link.forwarded_bytes
    assert agent.push_content(sha256, SIZE_BYTES, lambda: source)
    assert digest(way.root / "content" / sha256) == sha256
    assert way.link.forwarded_bytes - before < 1.05 * SIZE_BYTES


# --- a registered board ---------------------------------------------------------------------------------------


@pytest.fixture
def board(sshd: Sshd, tmp_path: Path, agent_python: Path) -> Iterator[Board]:
    context = make_context(tmp_path / "home")
    yield Board(tmp_path / "board", sshd, context)
    context.engine.dispose()


@pytest.fixture
def edgematrix(board: Board, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("EDGEMATRIX_HOME", str(board.context.settings.home))
    monkeypatch.setenv("COLUMNS", "1000")
    return CommandLine(capfd)


def test_a_script_adds_a_board_by_the_fingerprint_that_it_must_show(board: Board, edgematrix: CommandLine) -> None:
    asked = board.asked()
    options = ["--ssh", asked.target, "--profile", asked.profile, "--key", str(asked.key_file), "--root", str(board.root)]
    options += ["--interpreter", str(board.python), "--label", "rack=2"]
    unconfirmed = edgematrix("device", "add", "board", *options)
    assert unconfirmed.code == 2
    fingerprint = next(word for word in unconfirmed.err.split() if word.startswith("SHA256:"))
    assert f"if it is the right one: --host-key {fingerprint}" in unconfirmed.err
    wrong = edgematrix("device", "add", "board", *options, "--host-key", "SHA256:" + "A" * 43)
    assert wrong.code == 2
    assert "which is another key" in wrong.err
    assert "no devices yet" in edgematrix("device", "list").err
    added = edgematrix("device", "add", "board", *options, "--host-key", fingerprint)
    assert added.code == 0
    assert "environment default: onnx" in added.err
    assert board.health[0] == "good"
    twice = edgematrix("device", "add", "again", *options, "--host-key", fingerprint)
    assert twice.code == 2
    assert "is the device board already" in twice.err


def test_cleaning_a_board_removes_what_nobody_used_and_keeps_its_agent(board: Board, edgematrix: CommandLine) -> None:
    board.register()
    content = board.root / "content"
    content.mkdir(exist_ok=True)
    old, new = (content / (hashlib.sha256(name).hexdigest()) for name in (b"old", b"new"))
    for path in (old, new):
        path.write_bytes(b"x" * 1_000_000)
    forty_days = 40 * 86400
    os.utime(old, (old.stat().st_mtime - forty_days,) * 2)
    said = edgematrix("device", "clean", "board")
    assert said.code == 0
    assert "board: 1 files and folders removed, 1.0 MB freed" in said.err
    assert not old.exists()
    assert new.exists()
    report = device_storage.clean_device(board.context, "board", None, 0)
    assert report.removed == 1
    assert len(list((board.root / "agents").iterdir())) == 1
    assert edgematrix("device", "check", "board").code == 0
