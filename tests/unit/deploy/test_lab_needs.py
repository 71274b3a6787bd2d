"""What a lab needs of its machine: refused with a remedy where it is missing, and nothing done before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from deploy.lab import Lab, load_definition, needs
from deploy.lab.errors import LabBroken, LabBusy, LabImpossible


def test_anybody_but_root_is_refused_before_anything_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lab = Lab(load_definition(), tmp_path / "lab")
    with pytest.raises(LabImpossible) as caught, lab.held():
        pytest.fail("the lab must not be held")
    assert "sudo -E edgematrix lab up" in caught.value.remedy
    assert not (tmp_path / "lab").exists()
    with pytest.raises(LabImpossible):
        needs.provide()


def test_what_cannot_be_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*command: str, **settings: object) -> str:
        raise LabBroken("apt-get failed: no network", "")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "machine_is_right", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda program: None if "qemu" in program or program == "mmdebstrap" else program)
    monkeypatch.setattr(needs, "run", no_network)
    with pytest.raises(LabImpossible, match="no network") as caught:
        needs.provide()
    assert caught.value.remedy == "apt-get install mmdebstrap qemu-user-static"


def test_a_machine_that_is_neither_debian_nor_x86_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text("ID=fedora\n")
    with pytest.raises(LabImpossible, match="neither Debian nor Ubuntu"):
        needs.machine_is_right(release, "x86_64")
    release.write_text("ID=ubuntu\nID_LIKE=debian\n")
    needs.machine_is_right(release, "x86_64")
    with pytest.raises(LabImpossible, match="aarch64"):
        needs.machine_is_right(release, "aarch64")


def test_one_command_at_a_time_changes_the_labs_of_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lab = Lab(load_definition(), tmp_path)
    with lab.held(), pytest.raises(LabBusy), Lab(load_definition(), tmp_path).held():
        pytest.fail("two hold it")
    with lab.held():
        pass


def test_a_folder_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").touch()
    with pytest.raises(LabImpossible, match="cannot be used"), Lab(load_definition(), tmp_path / "file" / "lab").held():
        pytest.fail("held")


def test_purging_one_lab_keeps_the_roots_until_the_last_one_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "labs-of-this-machine"
    lab = Lab(load_definition(), folder)
    for home in (lab.home, folder / "labs" / "second"):
        home.mkdir(parents=True)
    (folder / "roots").mkdir()
    lab.purge()
    assert not lab.home.exists()
    assert (folder / "roots").is_dir()
    shutil.rmtree(folder / "labs" / "second")
    lab.purge()
    assert not folder.exists()
