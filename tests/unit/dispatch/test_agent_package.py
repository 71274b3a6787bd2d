"""The agent's digest names its sources: the same sources give the same file on any machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import agent
from agent.errors import FolderUnwritable
from orchestrator.dispatch.agent_package import build_agent_package


def test_the_same_sources_give_the_same_bytes_whenever_and_wherever_built(tmp_path: Path) -> None:
    first = build_agent_package(tmp_path / "a")
    imports = "import sys; from pathlib import Path; from orchestrator.dispatch.agent_package import build_agent_package"
    code = f"{imports}; print(build_agent_package(Path(sys.argv[1])).sha256)"
    environment = {"PYTHONPATH": str(Path(agent.__file__).parents[1]), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LANG": "C"}
    second = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.umask(0o077),
    )
    assert second.stdout.strip() == first.sha256
    assert (tmp_path / "b" / f"{first.sha256}.pyz").read_bytes() == first.path.read_bytes()


def test_a_package_is_named_by_its_content_and_built_once(tmp_path: Path) -> None:
    package = build_agent_package(tmp_path)
    assert package.path == tmp_path / f"{package.sha256}.pyz"
    assert hashlib.sha256(package.path.read_bytes()).hexdigest() == package.sha256
    before = package.path.stat()
    assert build_agent_package(tmp_path) == package
    assert package.path.stat().st_ino == before.st_ino
    assert [path.name for path in tmp_path.iterdir()] == [package.path.name], "no temporary file stays"


def test_a_damaged_package_is_built_anew(tmp_path: Path) -> None:
    package = build_agent_package(tmp_path)
    package.path.write_bytes(package.path.read_bytes()[:-100])
    assert hashlib.sha256(build_agent_package(tmp_path).path.read_bytes()).hexdigest() == package.sha256


def test_a_package_holds_the_agents_sources_and_nothing_of_this_machine(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_agent_package(tmp_path).path) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {"__main__.py", "agent/__main__.py", "agent/protocol.py", "agent/sensors/linux.py"} <= set(names)
        assert all(name.endswith(".py") for name in names)
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o644
            assert os.fsencode(Path(agent.__file__).parents[1]) not in archive.read(info)


def test_the_package_runs_and_knows_its_own_digest(tmp_path: Path) -> None:
    package = build_agent_package(tmp_path)
    told = subprocess.run([sys.executable, str(package.path), "hello"], env={}, cwd="/", capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["agent_sha256"] == package.sha256


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderUnwritable):
        build_agent_package(tmp_path / "file")
