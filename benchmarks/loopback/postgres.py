"""A PostgreSQL of its own on a Unix socket, for benchmarks that need the fleet's database; gone with the process that started it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_START_SECS = 60.0


def postgres_programs() -> Path | None:
    """The folder of the server's programs, None where it cannot be started. Debian keeps them out of PATH, by version."""
    if os.geteuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall()):
        return None
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return None if found is None else Path(found).parent


class Postgres:
    """An empty database ``edgematrix``; ``start`` and ``stop``. What it holds is gone with ``stop``."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # A folder of its own: the server runs as another user when we are root, and the path of a Unix socket may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="edgematrix-pg-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@/edgematrix?host={self.folder}"

    @property
    def pid(self) -> int | None:
        """The server's main process."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Make the database and wait until it answers."""
        as_postgres = ["setpriv"]
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            shutil.chown(self.folder, "postgres", "postgres")
            as_postgres += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = self.folder / "data"
        make = [self._programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*as_postgres, *map(str, make)], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        settings = ["-c", "listen_addresses=", "-c", "max_connections=200"]
        command = [*as_postgres, "--pdeathsig", "INT", str(self._programs / "postgres"), "-D", str(data), "-k", str(self.folder), *settings]
        with (self.folder / "server.log").open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder)
        deadline = time.monotonic() + _START_SECS
        while subprocess.call([str(self._programs / "pg_isready"), "-q", "-h", str(self.folder)]) != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'server.log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        subprocess.run([str(self._programs / "createdb"), "-h", str(self.folder), "-U", "postgres", "edgematrix"], check=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(2)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
