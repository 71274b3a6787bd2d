"""A bundle built by this machine's own package clients runs the agent where nothing else is: no Python, no C library, no shell."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import bundle as unpacking
from orchestrator.bundles import ARCHITECTURES
from orchestrator.dispatch.agent_package import build_agent_package
from tests.integration.conftest import make_home
from tests.integration.running import Home

#: The first build downloads some 40 MB.
BUILD_DEADLINE_SECS = 280.0

MAY_MOUNT = os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0

pytestmark = [
    pytest.mark.skipif(shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="bundles are built on Debian"),
    pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason=f"there are no bundles for {platform.machine()}"),
]


@dataclass(frozen=True)
class Built:
    home: Home
    view: dict[str, Any]
    #: An otherwise empty folder with the unpacked bundle and the agent, as a device would have them.
    root: Path

    def build_again(self, *arguments: str) -> dict[str, Any]:
        return build(self.home, *arguments)

    def agent(self, command: str) -> dict[str, Any]:
        """Run the agent from the bundle: as root with nothing in sight but what a kernel gives, else by the bundle's own loader."""
        place = "" if MAY_MOUNT else str(self.root)
        loader = ARCHITECTURES[platform.machine()].loader
        words = [f"{place}/bundle/lib/{loader}", "--library-path", f"{place}/bundle/lib", f"{place}/bundle/bin/python3", "-I"]
        jail = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount -t proc proc "$0/proc" && exec env -i "$(command -v chroot)" "$0" "$@"',
            str(self.root),
        ]
        ended = subprocess.run(
            [*(jail if MAY_MOUNT else []), *words, f"{place}/agent.pyz", command], capture_output=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout)
        return found


def build(home: Home, *arguments: str) -> dict[str, Any]:
    ended = home.start("bundle", "build", "--arch", platform.machine(), "--json", *arguments).end(BUILD_DEADLINE_SECS)
    if "packages_unavailable" in ended.stderr or "cannot be had" in ended.stderr:
        pytest.skip(f"no packages here: {ended.stderr[-300:]}")
    assert ended.code == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with make_home() as home:
        view = build(home)
        root = tmp_path_factory.mktemp("device")
        (root / "content").mkdir()
        shutil.copyfile(home.path / "cache" / "bundles" / platform.machine() / "bundle.tar.gz", root / "content" / view["sha256"])
        unpacking.unpack(root, view["sha256"])
        jail = tmp_path_factory.mktemp("jail")
        (jail / "proc").mkdir()
        (root / "bundles" / view["sha256"]).rename(jail / "bundle")
        shutil.copyfile(build_agent_package(home.path / "agents").path, jail / "agent.pyz")
        yield Built(home, view, jail)


def test_the_agent_answers_from_the_bundle_in_a_root_that_holds_nothing_else(built: Built) -> None:
    assert sorted(path.name for path in built.root.iterdir()) == ["agent.pyz", "bundle", "proc"]
    hello = built.agent("hello")
    assert (hello["ok"], hello["machine"]) == (True, platform.machine())


def test_its_runtimes_pass_their_self_tests_there_and_answer_the_golden_question(built: Built) -> None:
    facts = built.agent("facts")
    runtimes = facts["runtimes"]
    assert {name for name, about in runtimes.items() if about["available"]} == {"onnx", "tflite"}
    assert all(about["golden_sha256"] for about in runtimes.values())
    assert facts["environment"]["python"].startswith("3.11.")
    assert built.view["runtimes"] == ["onnx", "tflite"]


def test_nothing_of_the_host_is_in_it_and_what_is_said_of_its_size_is_true(built: Built) -> None:
    files = [path for path in (built.root / "bundle").rglob("*") if not path.is_dir() and "__pycache__" not in path.parts]
    assert not [path for path in files if path.is_symlink() or path.name == "sitecustomize.py"]
    assert sum(path.stat().st_size for path in files) == built.view["unpacked_bytes"]
    assert built.view["archive_bytes"] < 60e6


def test_building_again_gives_the_same_bundle_and_other_runtimes_another(built: Built) -> None:
    assert built.build_again()["sha256"] == built.view["sha256"]
    other = built.build_again("--runtime", "tflite")
    assert other["sha256"] != built.view["sha256"]
    assert other["runtimes"] == ["tflite"]
    assert not [name for name in other["contents"] if name.startswith("onnxruntime")]
    listed = json.loads(built.home.run("bundle", "list", "--json").stdout)
    assert {item["sha256"] for item in listed} == {built.view["sha256"], other["sha256"]}


def test_a_runtime_that_there_is_none_of_is_refused_with_those_there_are(built: Built) -> None:
    ended = built.home.run("bundle", "build", "--arch", platform.machine(), "--runtime", "torch")
    assert ended.code != 0
    assert "onnx, tflite, litert" in ended.stderr


def test_a_device_gets_the_bundle_once_beside_its_own_python_and_its_environment_says_so(built: Built) -> None:
    home = built.home
    assert home.run("device", "add", "board").code == 0
    arguments = ("env", "add", "bundled", "--bundle", built.view["sha256"][:12], "--device", "board", "--json")
    ended = home.start(*arguments).end(BUILD_DEADLINE_SECS)
    assert ended.code == 0, ended.stderr
    view = json.loads(ended.stdout)
    assert f"/bundles/{built.view['sha256']}/" in view["interpreter"][0]
    assert set(view["runtimes"]) == {"onnx", "tflite"}
    again = json.loads(home.run(*arguments).stdout)
    assert again["digest"] == view["digest"]
    shown = json.loads(home.run("bundle", "show", built.view["sha256"][:12], "--json").stdout)
    assert shown["devices"] == ["board"]


def test_a_bundle_that_is_not_there_or_of_another_cpu_is_refused(built: Built) -> None:
    ended = built.home.run("env", "add", "bundled", "--bundle", "0000", "--device", "this-computer")
    assert ended.code != 0
    assert "edgematrix bundle list" in ended.stderr or "edgematrix device add" in ended.stderr
