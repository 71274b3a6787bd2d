"""What runs a model here: interpreter, runtimes, numpy and native libraries, by version and by content."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from agent import layout, runtime_plugins

#: Distribution → its import name, for everything that can change a model's numbers or speed.
PACKAGES = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "tflite-runtime": "tflite_runtime",
    "ai-edge-litert": "ai_edge_litert",
    "psutil": "psutil",
}
#: What of the facts makes the environment's identity; the rest (paths, BLAS' own words) is for readers.
_IDENTITY = ("implementation", "python", "python_build", "machine", "libc", "packages", "native", "runtime_plugins")


def environment_facts(cache_file: Optional[Path] = None) -> Dict[str, Any]:
    """Return the facts of the environment this process runs in, with its ``digest``. No runtime is imported.

    Native libraries are told by SHA-256; ``cache_file`` remembers digests by size and modification time, so that the
    second call on a device costs milliseconds.
    """
    facts: Dict[str, Any] = {
        "implementation": platform.python_implementation(),
        "python": platform.python_version(),
        "python_build": sys.version,
        "executable": sys.executable,
        "machine": platform.machine(),
        "libc": _libc(),
        "packages": _package_versions(),
        "native": _native_libraries(cache_file),
        "numpy_blas": _numpy_blas(),
    }
    brought = runtime_plugins.facts()
    if brought:
        facts["runtime_plugins"] = brought
    facts["digest"] = environment_digest(facts)
    return facts


def environment_digest(facts: Dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of what identifies an environment: interpreter, libc, package versions, the content of native libraries,
    and that of packages which bring a runtime of their own, where there are any.
    """
    identity = {name: facts[name] for name in _IDENTITY if name in facts}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _libc() -> str:
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        told = None
    return told or " ".join(platform.libc_ver()).strip() or "unknown"


def _package_versions() -> Dict[str, str]:
    found = {}
    for distribution in PACKAGES:
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


def _native_libraries(cache_file: Optional[Path]) -> Dict[str, str]:
    remembered = _read_cache(cache_file)
    seen: Dict[str, Tuple[int, int, str]] = {}
    found = {}
    for name, path in sorted(_library_files()):
        state = path.stat()
        size, modified_ns, sha256 = remembered.get(str(path), (-1, -1, ""))
        if (size, modified_ns) != (state.st_size, state.st_mtime_ns):
            content = layout.file_digest(path.resolve())
            sha256 = content.sha256 if content is not None else "unreadable"
        seen[str(path)] = (state.st_size, state.st_mtime_ns, sha256)
        found[name] = sha256
    if cache_file is not None and any(remembered.get(path) != about for path, about in seen.items()):
        with contextlib.suppress(OSError):  # only a cache: the next call hashes again
            # Merged: several environments of one device share the cache.
            layout.write_file(cache_file, json.dumps({**remembered, **seen}).encode())
    return found


def _library_files() -> Iterator[Tuple[str, Path]]:
    for package in PACKAGES.values():
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec is not None else []:
            folder = Path(location)
            # auditwheel puts what a wheel carries along (OpenBLAS, libgfortran) into a folder beside the package.
            for place in (folder, folder.with_name(f"{package}.libs")):
                for path in place.rglob("*.so*"):
                    if path.is_file():
                        yield path.relative_to(folder.parent).as_posix(), path


def _read_cache(cache_file: Optional[Path]) -> Dict[str, Tuple[int, int, str]]:
    if cache_file is None:
        return {}
    try:
        data = layout.read_file(cache_file)
        return {
            str(path): (int(size), int(modified_ns), str(sha256)) for path, (size, modified_ns, sha256) in json.loads(data or b"{}").items()
        }
    except Exception:  # noqa: BLE001 (a damaged cache is no cache, whatever is wrong with it)
        return {}


def _numpy_blas() -> Dict[str, Any]:
    try:
        import numpy
    except ImportError as error:
        return {"unknown": f"numpy cannot be imported: {error}"}
    try:
        told: Any = numpy.show_config(mode="dicts")  # type: ignore[call-overload,unused-ignore]
        blas = told["Build Dependencies"]["blas"]
        facts: Dict[str, Any] = {key: blas[key] for key in ("name", "version", "openblas configuration") if key in blas}
    except Exception as error:  # noqa: BLE001 (numpy before 1.25 has no such mode, and the layout is no promise)
        facts = {"unknown": f"numpy does not tell: {error}"}
    return facts
