"""What may be relied on when files are kept by content."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import DigestMismatch, DiskFull, FolderUnwritable, RequestInvalid
from orchestrator.store.artifacts import ArtifactRef, ArtifactStore
from orchestrator.store.errors import ArtifactMissing, ArtifactsUnreachable, ArtifactsUrlInvalid

DATA = b"an INT8 model" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["folder", "file-url", "memory", "renaming"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A folder by path and by URL, and two drivers that are no folder: one whose puts are whole, and one that needs a rename."""
    where = {
        "folder": str(tmp_path / "artifacts"),
        "file-url": f"file://{tmp_path}/artifacts",
        "memory": f"memory://{tmp_path.name}",
        "renaming": f"dir::file://{tmp_path}/artifacts",
    }
    return ArtifactStore(where[request.param], cache_folder=tmp_path / "cache")


@pytest.fixture
def folder_store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_stored_is_read_back_by_its_digest(store: ArtifactStore) -> None:
    assert not store.exists(SHA)
    assert store.put_bytes(DATA, "model") == ArtifactRef(SHA, len(DATA), "model")
    assert store.exists(SHA)
    assert store.size_bytes(SHA) == len(DATA)
    assert store.get_bytes(SHA) == DATA
    with store.open(SHA) as source:
        assert source.read() == DATA


def test_a_file_is_stored_as_its_bytes_are(store: ArtifactStore, tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(DATA)
    assert store.put_file(file, "model") == store.put_bytes(DATA, "model")
    assert store.local_path(SHA).read_bytes() == DATA


def test_storing_twice_changes_nothing(store: ArtifactStore) -> None:
    assert store.put_bytes(DATA, "model") == store.put_bytes(DATA, "model")
    assert store.get_bytes(SHA) == DATA


def test_empty_content_is_content(store: ArtifactStore) -> None:
    assert store.get_bytes(store.put_bytes(b"", "log").sha256) == b""


def test_what_was_never_stored_is_missing(store: ArtifactStore) -> None:
    for read in (store.get_bytes, store.open, store.local_path, store.size_bytes):
        with pytest.raises(ArtifactMissing, match=SHA):
            read(SHA)


@pytest.mark.parametrize("name", ["", "..", "../" * 30 + "etc/passwd", SHA.upper(), SHA[:-1], SHA + "0", SHA + "\n", "/" + SHA[1:]])
def test_a_name_that_is_no_digest_touches_no_file(store: ArtifactStore, name: str) -> None:
    for use in (store.get_bytes, store.open, store.local_path, store.exists, store.size_bytes):
        with pytest.raises(RequestInvalid, match="is not the SHA-256"):
            use(name)


def test_the_layout_is_two_hex_digits_and_the_digest(folder_store: ArtifactStore, tmp_path: Path) -> None:
    folder_store.put_bytes(DATA, "model")
    assert files(tmp_path / "artifacts") == [f"{SHA[:2]}/{SHA}"]


def test_a_damaged_artifact_is_never_handed_out_and_storing_it_again_mends_it(folder_store: ArtifactStore) -> None:
    folder_store.put_bytes(DATA, "model")
    place = folder_store.local_path(SHA)
    place.write_bytes(b"X" + DATA[1:])
    with pytest.raises(DigestMismatch, match=SHA):
        folder_store.get_bytes(SHA)
    folder_store.put_bytes(DATA, "model")
    assert folder_store.get_bytes(SHA) == DATA


def test_a_damaged_artifact_does_not_reach_the_cache(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path.name}", cache_folder=tmp_path / "cache")
    store.put_bytes(DATA, "model")
    store._fs.pipe_file(store._place(SHA), b"X" + DATA[1:])
    with pytest.raises(DigestMismatch):
        store.local_path(SHA)
    assert files(tmp_path / "cache") == []


def test_many_writers_of_the_same_content_leave_one_whole_file(folder_store: ArtifactStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        refs = set(pool.map(lambda _: folder_store.put_bytes(DATA, "model"), range(64)))
    assert refs == {ArtifactRef(SHA, len(DATA), "model")}
    assert files(tmp_path / "artifacts") == [f"{SHA[:2]}/{SHA}"]
    assert folder_store.get_bytes(SHA) == DATA


def test_a_large_file_is_stored_and_cached_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as target:
        target.truncate(200 * 1024 * 1024)
    script = (
        "import resource, sys; from pathlib import Path; from orchestrator.store.artifacts import ArtifactStore\n"
        "store = ArtifactStore(sys.argv[2]); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "ref = store.put_file(Path(sys.argv[1]), 'model'); assert store.size_bytes(ref.sha256) == 200 * 1024 * 1024\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", script, str(file), str(tmp_path / "artifacts")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 64 * 1024  # KiB


def test_a_file_that_changes_while_it_is_stored_is_refused(
    folder_store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(DATA)
    holds = folder_store._holds

    def edit_between(ref: ArtifactRef) -> bool:
        file.write_bytes(b"another model")
        return holds(ref)

    monkeypatch.setattr(folder_store, "_holds", edit_between)
    with pytest.raises(DigestMismatch, match="changed while it was stored"):
        folder_store.put_file(file, "model")
    assert files(tmp_path / "artifacts") == []


# --- disks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_files(tmp_path: Path) -> Iterator[None]:
    """No file of this process may grow over 4 KiB; Python ignores the signal that comes with it, so that a write fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_fills_up_leaves_nothing_behind(folder_store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught:
        folder_store.put_bytes(DATA, "model")
    assert "free some space" in caught.value.remedy
    assert files(tmp_path / "artifacts") == []
    assert not folder_store.exists(SHA)


def test_a_store_that_cannot_be_written_is_named_with_the_remedy() -> None:
    # Even root cannot create a folder here.
    with pytest.raises(FolderUnwritable) as caught:
        ArtifactStore("/proc/self/artifacts").put_bytes(DATA, "model")
    assert "EDGEMATRIX_ARTIFACTS_URL" in caught.value.remedy


def test_a_store_whose_folder_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(FolderUnwritable):
        ArtifactStore(str(tmp_path / "artifacts")).put_bytes(DATA, "model")


def test_a_driver_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ArtifactsUrlInvalid):
        ArtifactStore("nosuch://bucket/prefix")


def test_whatever_a_remote_driver_raises_is_one_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(f"memory://{tmp_path.name}")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("credentials expired")

    monkeypatch.setattr(store._fs, "exists", fail)
    with pytest.raises(ArtifactsUnreachable, match="credentials expired"):
        store.exists(SHA)


def test_a_store_that_is_no_folder_needs_a_cache_for_local_paths(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path.name}")
    store.put_bytes(DATA, "model")
    with pytest.raises(ArtifactsUrlInvalid, match="cache"):
        store.local_path(SHA)


def test_stored_files_follow_the_umask(folder_store: ArtifactStore) -> None:
    before = os.umask(0o027)
    try:
        folder_store.put_bytes(DATA, "model")
    finally:
        os.umask(before)
    assert folder_store.local_path(SHA).stat().st_mode & 0o777 == 0o640
