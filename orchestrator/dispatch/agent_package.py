"""The agent as one file that any device's Python can run, named by its content."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import agent
from agent.errors import DiskFull, FolderUnwritable, InternalError

_MAIN = b"from agent.__main__ import main\n\nraise SystemExit(main())\n"


@dataclass(frozen=True)
class AgentPackage:
    """A zipapp of the ``agent`` package: ``PYTHON path COMMAND``. ``sha256`` names its content and therefore its version."""

    sha256: str
    path: Path


def build_agent_package(folder: Path) -> AgentPackage:
    """Build the agent's zipapp in ``folder`` as ``<sha256>.pyz``, unless it is there already.

    The same sources give the same bytes on every machine: members are sorted, stored without compression (which differs between zlib
    builds) and carry no times. Raises :class:`agent.errors.DiskFull` or :class:`agent.errors.FolderUnwritable`.
    """
    data = _archive(Path(agent.__file__).parent)
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha256}.pyz"
    try:
        if not (path.is_file() and path.read_bytes() == data):
            _publish(data, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room to write {path}: {error.strerror}", "free space on that disk, then try again") from error
        raise FolderUnwritable(f"{path} cannot be written: {error.strerror}", f"make {folder} writable for this user") from error
    return AgentPackage(sha256, path)


def _archive(source: Path) -> bytes:
    members = {f"agent/{file.relative_to(source).as_posix()}": file.read_bytes() for file in source.rglob("*.py")}
    if "agent/__main__.py" not in members:
        raise InternalError(f"{source} holds no agent sources", "install edgematrix from a checkout or an unzipped wheel")
    members["__main__.py"] = _MAIN
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever this runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def _publish(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".agent-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
