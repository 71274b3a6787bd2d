"""This computer as a device that will not take, or does not hold, what belongs there."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import DeviceReplyInvalid, DeviceUnreachable, DiskFull, FolderUnwritable
from orchestrator.transports import LocalTransport


@pytest.fixture
def transport() -> LocalTransport:
    return LocalTransport()


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_device_without_room_is_told_and_keeps_what_it_had(transport: LocalTransport, tmp_path: Path) -> None:
    target = tmp_path / "device" / "model"
    transport.put_bytes(b"old", str(target))
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    with files_of_at_most(1000):
        with pytest.raises(DiskFull, match="model"):
            transport.put(source, str(target))
        with pytest.raises(DiskFull):
            transport.put_bytes(b"x" * 100_000, str(target))
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_folder_that_takes_nothing_is_told(transport: LocalTransport) -> None:
    with pytest.raises(FolderUnwritable) as caught:
        transport.put_bytes(b"x", "/proc/edgematrix/file")
    assert "/proc/edgematrix" in caught.value.remedy


def test_our_own_missing_file_is_not_the_device_s_fault(transport: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        transport.put(tmp_path / "absent", str(tmp_path / "device" / "file"))
    assert not (tmp_path / "device").exists()


def test_a_reader_sees_the_old_file_or_the_new_one_and_nothing_between(transport: LocalTransport, tmp_path: Path) -> None:
    target = tmp_path / "request.json"
    contents = {letter.encode() * 300_000 for letter in "ab"}
    transport.put_bytes(min(contents), str(target))
    done = threading.Event()

    def write() -> None:
        for _ in range(100):
            for content in contents:
                transport.put_bytes(content, str(target))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert transport.read_from(str(target), 0, 1_000_000) in contents
        assert transport.size_of(str(target)) == 300_000
    writer.join()


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [_folder, _pipe, _link])
def test_what_is_no_file_is_neither_read_nor_waited_for(transport: LocalTransport, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "outcome.json")
    with pytest.raises(DeviceReplyInvalid, match=r"outcome\.json"):
        transport.read_from(str(tmp_path / "outcome.json"), 0, 100)
    assert transport.size_of(str(tmp_path / "outcome.json")) is None


def test_below_a_file_there_is_no_file(transport: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "jobs").touch()
    assert transport.read_from(str(tmp_path / "jobs" / "a.1" / "progress"), 0, 10) is None
    assert transport.size_of(str(tmp_path / "jobs" / "a.1" / "progress")) is None


def test_an_argument_that_no_command_can_have_is_refused(transport: LocalTransport) -> None:
    with pytest.raises(DeviceUnreachable):
        transport.run((sys.executable, "-c", "pass", "a\0b"), timeout_secs=10, max_output_bytes=10)


def test_the_exit_code_and_both_outputs_come_back_apart(transport: LocalTransport) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = transport.run((sys.executable, "-c", program), timeout_secs=30, max_output_bytes=100)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (3, b"out\n", b"err\n")
