"""Bundles of this installation: built, kept as artifacts, found by architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import ConfigurationError
from orchestrator.bundles import ARCHITECTURES, alone_in, build
from orchestrator.service.context import Context
from orchestrator.store.artifacts import record_artifacts
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Bundle, Device, Environment

_KIND = "bundle"


class NoBundle(ConfigurationError):
    code = "no_bundle"


@dataclass(frozen=True)
class BundleView:
    """A bundle as a person sees it; ``devices`` are those that have an environment of it."""

    sha256: str
    arch: str
    runtimes: tuple[str, ...]
    archive_bytes: int
    unpacked_bytes: int
    built_utc: str
    built_by: str
    devices: tuple[str, ...]
    contents: tuple[str, ...]


def build_bundle(context: Context, architecture: str, runtimes: Sequence[str]) -> BundleView:
    """Build a bundle for ``aarch64`` or ``x86_64`` and keep it. Takes about ten seconds once the packages are downloaded."""
    folder = context.settings.home / "cache" / "bundles"
    with alone_in(folder):
        built = build(architecture, runtimes, folder)
        payload = context.artifacts.put_file(built.archive, _KIND)
        seed = [(file, context.artifacts.put_file(file.path, _KIND)) for file in built.seed]
    manifest: dict[str, Any] = {
        **built.facts,
        "loader": built.loader,
        "seed": [
            {"name": file.name, "sha256": ref.sha256, "size_bytes": ref.size_bytes, "executable": file.executable} for file, ref in seed
        ],
    }
    now = context.clock()
    with open_session(context.engine) as session:
        record_artifacts(session, [payload, *(ref for _, ref in seed)], now)
        row = session.get(Bundle, payload.sha256)
        if row is None:
            row = Bundle(
                sha256=payload.sha256, arch=built.architecture, size_bytes=payload.size_bytes, manifest={}, built_at=0.0, built_by=""
            )
        row.manifest, row.built_at, row.built_by = manifest, now, context.actor
        session.add(row)
        session.flush()
        return _view(session, row)


def list_bundles(context: Context) -> list[BundleView]:
    """Every bundle, the newest first."""
    with read_session(context.engine) as session:
        return [_view(session, row) for row in session.exec(select(Bundle).order_by(col(Bundle.built_at).desc())).all()]


def get_bundle(context: Context, sha256: str) -> BundleView:
    """One bundle by the beginning of its digest; :class:`NoBundle` when none or several begin so."""
    found = [view for view in list_bundles(context) if view.sha256.startswith(sha256)]
    if len(found) != 1 or not sha256:
        raise NoBundle(f"{len(found)} bundles begin with {sha256!r}", "edgematrix bundle list")
    return found[0]


def bundle_for(context: Context, arch: str, sha256: str | None = None) -> Bundle:
    """The bundle for ``arm64`` or ``x86_64`` whose digest begins so, or the newest; :class:`NoBundle` says what to do without one."""
    name = next(key for key, about in ARCHITECTURES.items() if about.name == arch)
    if sha256 is not None:
        view = get_bundle(context, sha256)
        if view.arch != arch:
            raise NoBundle(
                f"the bundle {view.sha256[:12]} is for {view.arch}, and the device is {arch}", f"edgematrix bundle build --arch {name}"
            )
        sha256 = view.sha256
    with read_session(context.engine) as session:
        query = select(Bundle).where(col(Bundle.arch) == arch, *([] if sha256 is None else [col(Bundle.sha256) == sha256]))
        found = session.exec(query.order_by(col(Bundle.built_at).desc())).first()
    if found is None:
        raise NoBundle(f"there is no bundle for {arch} yet", f"edgematrix bundle build --arch {name}")
    return found


def _view(session: Session, row: Bundle) -> BundleView:
    devices = session.exec(
        select(Device.name).join(Environment).where(col(Environment.bundle_sha256) == row.sha256).distinct().order_by(col(Device.name))
    ).all()
    return BundleView(
        sha256=row.sha256,
        arch=row.arch,
        runtimes=tuple(row.manifest["runtimes"]),
        archive_bytes=row.size_bytes,
        unpacked_bytes=row.manifest["unpacked_bytes"],
        built_utc=datetime.fromtimestamp(row.built_at, UTC).isoformat(timespec="seconds"),
        built_by=row.built_by,
        devices=tuple(devices),
        contents=(*row.manifest["wheels"], *row.manifest["packages"]),
    )
