"""What is written down of a device over SSH must hold in another folder and for another process."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.service.ssh_devices import NewSshDevice


def test_a_key_is_kept_as_the_shell_of_its_owner_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    kept = [
        NewSshDevice("pi", "ada@pi", "raspberry-pi-5", key).address(None)["key_file"] for key in ("keys/pi", "~/.ssh/pi", "/etc/pi", None)
    ]
    assert kept == [str(tmp_path / "keys/pi"), "/home/ada/.ssh/pi", "/etc/pi", None]
