"""This computer as a device: no shell, whole files, bounded answers, and errors that say what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.errors import DeviceUnreachable, FolderUnwritable, RequestInvalid
from orchestrator.transports import LocalTransport, open_transport

ECHO = (sys.executable, "-c", "import sys; sys.stdout.write(sys.argv[1])")


@pytest.fixture
def transport() -> LocalTransport:
    return LocalTransport()


@pytest.mark.parametrize("name", ["$(touch owned)", "`touch owned`", "; touch owned", "a b\tc", "*", "'\"", "ü\n"])
def test_an_argument_arrives_as_it_is_whatever_a_shell_would_make_of_it(
    transport: LocalTransport, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = transport.run((*ECHO, name), timeout_secs=30, max_output_bytes=1000)
    assert ended.stdout.decode() == name
    assert list(tmp_path.iterdir()) == []


def test_a_command_sees_nothing_of_our_settings(transport: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEMATRIX_DATABASE_URL", "postgresql://secret")
    ended = transport.run((sys.executable, "-c", "import os; print(sorted(os.environ))"), timeout_secs=30, max_output_bytes=10_000)
    assert b"EDGEMATRIX" not in ended.stdout


def test_an_endless_answer_is_cut_at_the_limit(transport: LocalTransport) -> None:
    ended = transport.run((sys.executable, "-c", "print('x' * 100_000)"), timeout_secs=30, max_output_bytes=10)
    assert ended.stdout == b"x" * 10


def test_a_command_that_does_not_end_or_does_not_exist_is_a_device_that_cannot_be_reached(transport: LocalTransport) -> None:
    with pytest.raises(DeviceUnreachable):
        transport.run((sys.executable, "-c", "import time; time.sleep(60)"), timeout_secs=0.2, max_output_bytes=10)
    with pytest.raises(DeviceUnreachable) as caught:
        transport.run(("/no/such/python",), timeout_secs=5, max_output_bytes=10)
    assert "env add" in caught.value.remedy


def test_a_file_appears_whole_and_nothing_is_left_of_one_that_fails(transport: LocalTransport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    transport.put(source, str(tmp_path / "device" / "deep" / "file"))
    assert (tmp_path / "device" / "deep" / "file").read_bytes() == b"content"
    (tmp_path / "taken").write_text("")
    with pytest.raises(FolderUnwritable):
        transport.put_bytes(b"x", str(tmp_path / "taken" / "file"))
    assert sorted(path.name for path in (tmp_path / "device" / "deep").iterdir()) == ["file"]


def test_a_file_is_read_from_an_offset_and_an_absent_one_is_none(transport: LocalTransport, tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b"0123456789")
    assert transport.read_from(str(path), 4, 3) == b"456"
    assert transport.read_from(str(path), 10, 3) == b""
    assert transport.size_of(str(path)) == 10
    assert transport.read_from(str(tmp_path / "absent"), 0, 3) is None
    assert transport.size_of(str(tmp_path / "absent")) is None


def test_a_link_in_a_device_s_folder_is_never_followed(transport: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outcome.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Exception, match=r"outcome\.json"):
        transport.read_from(str(tmp_path / "outcome.json"), 0, 100)


def test_an_unknown_transport_names_those_there_are() -> None:
    with pytest.raises(RequestInvalid) as caught:
        open_transport("carrier-pigeon", {})
    assert "local" in caught.value.remedy
