"""What a bundle holds, from packages laid out as Debian's are: the same every time, no links, and nothing of the host that builds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import threading
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from orchestrator.bundles import ARCHITECTURES, RUNTIMES, alone_in, build, fetch
from orchestrator.bundles.build import pack
from orchestrator.bundles.errors import BundleRefused, BundleToolMissing, PackagesUnavailable
from orchestrator.bundles.layout import lay_out, lay_out_seed
from orchestrator.bundles.recipe import COMMON_WHEELS

ABOUT = ARCHITECTURES["aarch64"]
LIBRARIES = ("libc.so.6", "libm.so.6", "libz.so.1.2.13", "libexpat.so.1.8.10", "libstdc++.so.6.0.30", "libssl.so.3", ABOUT.loader)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Unpacked packages: a loader, libraries with their links, an interpreter, and a standard library with what nobody needs."""
    system = tmp_path / "system"
    folder = system / "lib" / ABOUT.triplet
    folder.mkdir(parents=True)
    for name in LIBRARIES:
        (folder / name).write_text(f"library {name}")
    (folder / "libz.so.1").symlink_to("libz.so.1.2.13")
    (folder / "libexpat.so.1").symlink_to("libexpat.so.1.8.10")
    (system / "usr" / "bin").mkdir(parents=True)
    (system / "usr" / "bin" / "python3.11").write_text("interpreter")
    library = system / "usr" / "lib" / "python3.11"
    for name in ("os.py", "json/__init__.py", "tkinter/__init__.py", "json/tests/test_it.py", "lib-dynload/math.so", "lib-dynload/_ssl.so"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(f"module {name}")
    return system


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    return path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_holds_loader_interpreter_libraries_modules_and_wheels_and_nothing_unused(system: Path, tmp_path: Path) -> None:
    found = wheel(tmp_path, "numpy", {"numpy/core.py": "x", "numpy/core/tests/test_core.py": "x", "numpy/core/include/api.h": "x"})
    lay_out(system, [found], ABOUT, tmp_path / "bundle")
    assert names(tmp_path / "bundle") == {
        "bin/python3",
        f"lib/{ABOUT.loader}",
        "lib/libc.so.6",
        "lib/libm.so.6",
        "lib/libz.so.1",
        "lib/libexpat.so.1",
        "lib/python3.11/os.py",
        "lib/python3.11/json/__init__.py",
        "lib/python3.11/lib-dynload/math.so",
        "lib/python3/dist-packages/numpy/core.py",
    }
    assert os.access(tmp_path / "bundle" / "bin" / "python3", os.X_OK)
    assert os.access(tmp_path / "bundle" / "lib" / ABOUT.loader, os.X_OK)


def test_libraries_are_files_under_the_name_that_programs_ask_for_and_no_links(system: Path, tmp_path: Path) -> None:
    lay_out(system, [], ABOUT, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "lib" / "libz.so.1").read_text() == "library libz.so.1.2.13"
    assert not [path for path in (tmp_path / "bundle").rglob("*") if path.is_symlink()]


def test_a_link_out_of_the_packages_brings_no_file_of_this_host_into_a_bundle(system: Path, tmp_path: Path) -> None:
    secret = tmp_path / "sitecustomize.py"
    secret.write_text("of the host")
    (system / "usr" / "lib" / "python3.11" / "sitecustomize.py").symlink_to(secret)
    (system / "lib" / ABOUT.triplet / "libffi.so.8").symlink_to(secret)
    lay_out(system, [], ABOUT, tmp_path / "bundle")
    lay_out_seed(system, ABOUT, tmp_path / "seed")
    assert not [name for name in names(tmp_path / "bundle") if "sitecustomize" in name or "libffi" in name]
    with zipfile.ZipFile(tmp_path / "seed" / "lib" / "python311.zip") as archive:
        assert archive.namelist() == ["json/__init__.py", "os.py"]


def test_packages_without_a_library_that_the_interpreter_needs_are_refused(system: Path, tmp_path: Path) -> None:
    (system / "lib" / ABOUT.triplet / "libz.so.1").unlink()
    with pytest.raises(BundleRefused, match=r"libz\.so"):
        lay_out_seed(system, ABOUT, tmp_path / "seed")


def test_a_wheel_writes_nothing_outside_of_the_bundle(system: Path, tmp_path: Path) -> None:
    lay_out(system, [wheel(tmp_path, "bad", {"../../../../../escaped.py": "x", "/absolute.py": "x"})], ABOUT, tmp_path / "a" / "bundle")
    assert names(tmp_path / "a") == {f"bundle/{name}" for name in names(tmp_path / "a" / "bundle")}
    assert not (tmp_path / "escaped.py").exists()
    assert not Path("/absolute.py").exists()


def test_the_same_inputs_give_the_same_bytes_whenever_they_were_unpacked(system: Path, tmp_path: Path) -> None:
    archives = []
    for number in range(2):
        tree, seed = tmp_path / f"bundle{number}", tmp_path / f"seed{number}"
        lay_out(system, [wheel(tmp_path, "numpy", {"numpy/core.py": "x"})], ABOUT, tree)
        lay_out_seed(system, ABOUT, seed)
        archives.append((tmp_path / f"{number}.tar.gz", seed / "lib" / "python311.zip"))
        pack(tree, archives[-1][0])
        copy = tmp_path / "copied"
        shutil.copytree(system, copy, symlinks=True)
        shutil.rmtree(system)
        copy.rename(system)
        for path in system.rglob("*.py"):
            os.utime(path, (number, number))
    assert archives[0][0].read_bytes() == archives[1][0].read_bytes()
    assert archives[0][1].read_bytes() == archives[1][1].read_bytes()


def test_an_archive_has_plain_files_only_without_times_and_owners(system: Path, tmp_path: Path) -> None:
    lay_out(system, [], ABOUT, tmp_path / "bundle")
    (tmp_path / "bundle" / "lib" / "link").symlink_to("/etc/passwd.that.is.not")
    pack(tmp_path / "bundle", tmp_path / "bundle.tar.gz")
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        members = archive.getmembers()
    assert all(member.isreg() for member in members)
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert {member.name for member in members if member.mode & 0o100} == {"bin/python3", f"lib/{ABOUT.loader}"}
    assert [member.name for member in members] == sorted(member.name for member in members)


@pytest.mark.parametrize(("architecture", "runtimes", "named"), [("riscv64", [], "riscv64"), ("aarch64", ["onnx", "torch"], "torch")])
def test_what_no_bundle_can_be_of_is_refused_with_what_there_is(tmp_path: Path, architecture: str, runtimes: list[str], named: str) -> None:
    with pytest.raises(BundleRefused, match=named) as caught:
        build(architecture, runtimes, tmp_path)
    assert "aarch64, x86_64" in caught.value.remedy
    assert "onnx, tflite, litert" in caught.value.remedy


def test_the_lock_pins_every_distribution_of_every_runtime_with_hashes() -> None:
    lock = (resources.files("orchestrator.bundles") / "wheels.lock").read_text()
    pinned = set(re.findall(r"(?m)^([A-Za-z0-9_.-]+)==[0-9.]+ \\\n    --hash=sha256:[0-9a-f]{64}", lock))
    assert pinned >= {*COMMON_WHEELS, *RUNTIMES.values()}
    assert "://" not in lock


def test_only_the_runtimes_asked_for_are_fetched_each_with_its_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(fetch, "_run", lambda command, *rest: asked.append(list(command)))
    fetch.fetch_wheels(ABOUT, ["tflite"], tmp_path)
    lock = (tmp_path / "wheels.lock").read_text()
    assert set(re.findall(r"(?m)^([a-z-]+)==", lock)) == {"numpy", "psutil", "tflite-runtime"}
    (command,) = asked
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} <= set(command)
    assert "manylinux2014_aarch64" in command


def test_without_apt_the_remedy_says_where_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(BundleToolMissing) as caught:
        build("aarch64", [], tmp_path)
    assert "Debian" in caught.value.remedy


def test_what_a_package_client_says_when_it_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: tool)

    def fails(command: list[str], **settings: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 100, b"", b"E: no network\nat all")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(PackagesUnavailable, match="E: no network at all"):
        build("aarch64", [], tmp_path)


def test_a_second_build_in_the_same_folder_waits_for_the_first(tmp_path: Path) -> None:
    second_is_in = threading.Event()

    def second() -> None:
        with alone_in(tmp_path / "bundles"):
            second_is_in.set()

    waiting = threading.Thread(target=second)
    with alone_in(tmp_path / "bundles"):
        waiting.start()
        assert not second_is_in.wait(0.2)
    waiting.join(30)
    assert second_is_in.is_set()
