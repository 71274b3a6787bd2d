"""Opens the database: SQLite for one computer, PostgreSQL for a lab. The rest of the program does not see which.

* :func:`open_database` — an engine with the pragmas and the error mapping that edgematrix relies on.
* :func:`session` / :func:`read_session` — one short transaction, to write or only to read.
* :func:`migrate` — brings the tables to this version.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlmodel import Session

from agent.errors import DiskFull, EdgematrixError, FolderUnwritable
from orchestrator.store.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseTooNew,
    DatabaseUnreachable,
    DatabaseUrlInvalid,
)
from orchestrator.store.migrations import HEAD_REVISION

#: How long a writer waits for another one before it gives up.
BUSY_TIMEOUT_SECS = 30.0
#: How long PostgreSQL may take to accept a connection.
CONNECT_TIMEOUT_SECS = 10

#: The key of the advisory lock that migrations take on PostgreSQL: an arbitrary constant ("edgematr" in ASCII).
_MIGRATION_LOCK = 0x656467656D617472
_READ_ONLY = "edgematrix_read_only"
_NOT_WAL = "the file system does not allow write-ahead logging"


def open_database(url: str) -> Engine:
    """Return an engine for ``sqlite:///PATH`` or ``postgresql://…``; no connection is made yet, except that a missing folder is created.

    Every error of the database driver that an operator can mend arrives as an edgematrix error: :class:`DatabaseUnreachable`,
    :class:`DatabaseBusy`, :class:`DatabaseDamaged`, :class:`~agent.errors.FolderUnwritable`, :class:`~agent.errors.DiskFull`.
    After a fork the child must call ``engine.dispose(close=False)``, as always with SQLAlchemy.

    Raises :class:`DatabaseUrlInvalid` for any other address.
    """
    parsed = _parse_url(url)
    engine = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _open_postgresql(parsed)
    event.listen(engine, "handle_error", _map_error)
    return engine


@contextmanager
def session(engine: Engine) -> Iterator[Session]:
    """One transaction that writes: committed at the end of the block, rolled back when it raises.

    On SQLite it takes the write lock at its first statement, so what it reads stays true until it commits; keep it short.
    Rows stay readable after the block.
    """
    with Session(engine, expire_on_commit=False) as opened, opened.begin():
        yield opened


@contextmanager
def read_session(engine: Engine) -> Iterator[Session]:
    """One transaction that only reads, and never waits for a writer; a write in it fails on both databases."""
    options: dict[str, Any] = {_READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    with Session(engine.execution_options(**options), expire_on_commit=False) as opened:
        yield opened


def migrate(engine: Engine) -> None:
    """Bring the tables to this version; two processes may do so at once. A database already there costs a
    query that waits for no writer.

    Everything happens in one transaction on both databases: a migration that fails leaves nothing half done.

    Raises :class:`DatabaseTooNew` when a newer edgematrix wrote the database, :class:`DatabaseForeign` when its tables are not ours.
    """
    with read_session(engine) as reading:
        if _revision(reading.connection()) == HEAD_REVISION:
            return
    with _migration_transaction(engine) as connection:
        found = _revision(connection)
        if found == HEAD_REVISION:  # another process was first
            return
        # Alembic takes as long to import as everything else here: only those who migrate pay for it.
        from orchestrator.store.migrations import known_revisions, upgrade

        if found is not None and found not in known_revisions():
            raise DatabaseTooNew(
                f"the database is at revision {found!r}; this edgematrix knows revisions up to {HEAD_REVISION!r}",
                "install the edgematrix that wrote it (or a newer one), or name another database in EDGEMATRIX_DATABASE_URL",
            )
        strangers = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"}) if found is None else []
        if strangers:
            raise DatabaseForeign(
                f"the database holds tables that edgematrix did not make: {', '.join(strangers[:5])}",
                "name an empty database in EDGEMATRIX_DATABASE_URL",
            )
        upgrade(connection, "head")


def _parse_url(url: str) -> URL:
    remedy = "use sqlite:////absolute/path.db or postgresql://user@host/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseUrlInvalid(f"not the address of a database: {error}", remedy) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise DatabaseUrlInvalid(f"edgematrix does not use {parsed.drivername!r} databases", remedy)
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseUrlInvalid("a database in memory cannot be shared by the processes of edgematrix", remedy)
    return parsed


def _json(value: Any) -> str:
    # PostgreSQL refuses NaN in JSON and SQLite would keep it: refused here, it is refused on both.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


# --- SQLite --------------------------------------------------------------------------------------------------


def _open_sqlite(url: URL) -> Engine:
    assert url.database is not None
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnwritable(f"cannot create the folder of the database {url.database}: {error}", _folder_remedy(folder)) from error
    engine = create_engine(url, json_serializer=_json, connect_args={"timeout": BUSY_TIMEOUT_SECS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # By itself the sqlite3 module opens no transaction before a SELECT, so a compare-and-set could read outside of the transaction it
    # writes in. With isolation_level None it leaves BEGIN to `_begin_sqlite`.
    connection.isolation_level = None
    _use_wal(connection)
    # NORMAL skips the fsync at each commit. In WAL mode that cannot damage the file, and a killed process loses nothing; after a power
    # cut the last commits may be gone, which the next `drive` repeats from what the device and the artifacts still hold.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, where readers and a writer do not wait for one another; the file remembers it.

    SQLite does not call its busy handler for this switch, so processes that open a new file at once wait here.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(_NOT_WAL)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    cursor: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    cursor.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    # A deferred transaction that reads first and writes later fails at once when another process wrote in between, whatever the
    # timeout; IMMEDIATE makes it wait at the start instead.
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


# --- PostgreSQL ----------------------------------------------------------------------------------------------

#: A process that froze, or whose host lost its power, in the middle of a transaction would keep its rows locked for hours: the server ends
#: it. A writer waits as long as SQLite lets it wait.
_PG_OPTIONS = f"-c idle_in_transaction_session_timeout=20s -c lock_timeout={BUSY_TIMEOUT_SECS:.0f}s"
#: The other way round: a server that vanished is noticed within half a minute instead of two hours.
_PG_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}


def _open_postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            json_serializer=_json,
            pool_pre_ping=True,
            # As many as a gateway's slots, so that a busy one does not open a connection for each drive; they are opened when needed.
            pool_size=16,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_SECS,
                "application_name": "edgematrix",
                "options": _PG_OPTIONS,
                **_PG_KEEPALIVES,
            },
        )
    except (ImportError, NoSuchModuleError) as error:
        raise DatabaseUrlInvalid(f"PostgreSQL needs the psycopg package: {error}", "pip install 'edgematrix[postgres]'") from error


# --- errors --------------------------------------------------------------------------------------------------


def _map_error(context: ExceptionContext) -> None:
    """Replace a driver's error by ours, where an operator can do something about it; the driver's stays its cause."""
    engine = context.engine
    original = context.original_exception
    if engine is None or isinstance(original, EdgematrixError):
        return
    if context.connection is not None and context.connection.get_execution_options().get(_READ_ONLY) and "read" in str(original):
        return  # a write in a read_session is our own mistake, and no folder's
    if isinstance(original, sqlite3.Error):
        mapped = _sqlite_error(original, engine.url.database or "")
    else:
        mapped = _postgresql_error(original, engine.url, broken=context.is_disconnect or context.connection is None)
    if mapped is not None:
        raise mapped from original


def _sqlite_error(error: sqlite3.Error, file: str) -> EdgematrixError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    folder = Path(file).parent
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(folder)):
        return DiskFull(f"no room for the database {file}: {error}", f"free some space on the disk of {folder}, then run again")
    if code == sqlite3.SQLITE_BUSY:
        return DatabaseBusy(
            f"the database {file} was locked by another process for {BUSY_TIMEOUT_SECS:.0f} s",
            "find the process that holds it (fuser FILE); on a network disk move it to a local one, or use PostgreSQL",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamaged(f"{file} is not a whole SQLite database: {error}", "restore it from a backup, or name another file")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or str(error) == _NOT_WAL:
        return FolderUnwritable(f"the database {file} cannot be opened for writing: {error}", _folder_remedy(folder))
    if code == sqlite3.SQLITE_IOERR:
        return DatabaseUnreachable(f"the disk under the database {file} fails: {error}", "check the disk (dmesg), then run again")
    return None


def _is_full(folder: Path) -> bool:
    import shutil

    try:
        return shutil.disk_usage(folder).free < 1024 * 1024
    except OSError:
        return False


def _postgresql_error(error: BaseException, url: URL, *, broken: bool) -> EdgematrixError | None:
    state = str(getattr(error, "sqlstate", None) or "")
    where = url.render_as_string(hide_password=True)
    if state == "53100":
        return DiskFull(f"the database server has no room left: {error}", f"free some space on the disk of the server of {where}")
    if broken or state.startswith(("08", "57P", "53")):
        detail = str(error).strip().splitlines()
        return DatabaseUnreachable(
            f"cannot reach the database {where}: {detail[0] if detail else type(error).__name__}",
            "check that the server runs, that the address, user and password in EDGEMATRIX_DATABASE_URL are right, and the network between",
        )
    if state in ("55P03", "40P01"):
        return DatabaseBusy(f"the database {where} was locked by another process: {error}", "run again; if it stays: pg_stat_activity")
    return None


def _folder_remedy(folder: Path) -> str:
    return f"make {folder} writable for this user, or name another place in EDGEMATRIX_DATABASE_URL"


# --- migrations ----------------------------------------------------------------------------------------------


def _revision(connection: Connection) -> str | None:
    """The revision the database says it is at; None for a database without ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


@contextmanager
def _migration_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that excludes every other migration (on SQLite every other writer)."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                yield connection
            return
        # SQLite changes a table by copying and dropping it, which with foreign keys on would delete the rows that refer to it.
        # The pragma does nothing inside of a transaction.
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.execute(text("PRAGMA foreign_key_check")).first()
                if broken is not None:
                    raise DatabaseDamaged(f"a row of {broken[0]!r} refers to a row that is gone", "restore the database from a backup")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
