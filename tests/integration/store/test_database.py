"""What every process of edgematrix relies on when it opens the database, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlmodel import SQLModel, select

from agent.errors import DiskFull, FolderUnwritable
from orchestrator.store import database as database_module
from orchestrator.store import migrations
from orchestrator.store.database import migrate, open_database, read_session, session
from orchestrator.store.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseTooNew,
    DatabaseUnreachable,
    DatabaseUrlInvalid,
)
from orchestrator.store.tables import Device, Experiment, Lock

BOTH = pytest.mark.parametrize("address", ["sqlite_url", "postgres_url"])


@pytest.fixture
def empty(request: pytest.FixtureRequest, address: str) -> Iterator[Engine]:
    engine = open_database(request.getfixturevalue(address))
    yield engine
    engine.dispose()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def run_at_once(script: str, arguments: list[list[str]]) -> list[str]:
    """Run a Python script in one process per list of arguments, all released together when every one is ready; return what they print."""
    prelude = "import sys\nfrom orchestrator.store.database import *\nfrom orchestrator.store.tables import *\n"
    barrier = "print('ready', flush=True)\nsys.stdin.readline()\n"
    command = [sys.executable, "-W", "error", "-c", prelude + script.replace("BARRIER", barrier)]
    running = [subprocess.Popen([*command, *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in arguments]
    outputs = []
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in running:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
            outputs.append(output.strip())
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return outputs


# --- migrations ----------------------------------------------------------------------------------------------


def test_the_migrated_tables_are_those_of_the_models(database: Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_column_that_no_migration_made_is_noticed(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE device DROP COLUMN root"))
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) != []


def test_the_head_revision_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations.config()).get_heads() == [migrations.HEAD_REVISION]


def test_every_migration_goes_down_and_up_again(database: Engine) -> None:
    tables = set(inspect(database).get_table_names())
    with database.begin() as connection:
        migrations.downgrade(connection, "base")
    assert set(inspect(database).get_table_names()) == {"alembic_version"}
    migrate(database)
    assert set(inspect(database).get_table_names()) == tables


def test_a_database_at_head_is_asked_for_its_revision_and_nothing_else(database: Engine) -> None:
    written = []
    event.listen(database, "before_cursor_execute", lambda *call: written.append(call[2]))
    migrate(database)
    assert not [statement for statement in written if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "BEGIN"))]
    assert len(written) <= 4


def test_a_database_at_head_does_not_wait_for_a_writer(database: Engine) -> None:
    with session(database) as writing:
        writing.add(Lock(name="scheduler", holder="a", expires_at=0))
        writing.flush()
        migrate(database)  # would end as busy


def test_asking_for_the_revision_does_not_import_alembic(database_url: str) -> None:
    script = "engine = open_database(sys.argv[1]); migrate(engine); engine.dispose()\nBARRIER\nprint('alembic' in sys.modules)"
    assert run_at_once(script, [[database_url]]) == ["False"]


@BOTH
def test_processes_that_start_at_once_migrate_once(empty: Engine, request: pytest.FixtureRequest, address: str) -> None:
    url = request.getfixturevalue(address)
    script = "BARRIER\nengine = open_database(sys.argv[1]); migrate(engine); engine.dispose(); print('done')"
    assert run_at_once(script, [[url]] * 6) == ["done"] * 6
    with empty.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(migrations.HEAD_REVISION,)]


@BOTH
def test_a_migration_that_fails_leaves_nothing_behind(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrations.upgrade

    def fail_late(connection: Any, revision: str) -> None:
        real(connection, revision)
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrations, "upgrade", fail_late)
    with pytest.raises(RuntimeError, match="power cut"):
        migrate(empty)
    assert inspect(empty).get_table_names() == []
    monkeypatch.undo()
    migrate(empty)
    assert "job" in inspect(empty).get_table_names()


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match="'9999'") as caught:
        migrate(database)
    assert "install the edgematrix that wrote it" in caught.value.remedy


@BOTH
def test_a_database_of_another_program_is_left_alone(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (id INTEGER)"))
    with pytest.raises(DatabaseForeign, match="invoices"):
        migrate(empty)
    assert inspect(empty).get_table_names() == ["invoices"]


# --- transactions --------------------------------------------------------------------------------------------


def test_of_many_processes_exactly_one_takes_a_free_lease(database: Engine, database_url: str, rows: Any) -> None:
    script = """
from sqlalchemy import update
engine = open_database(sys.argv[1])
BARRIER
won = []
for device in range(1, 21):
    with session(engine) as opened:
        seen = opened.get(Device, device)  # reading first is what breaks a deferred SQLite transaction
        free = update(Device).where(Device.id == device, Device.lease_job_id.is_(None))
        taken = opened.connection().execute(free.values(lease_job_id=sys.argv[2], fence=Device.fence + 1))
        if taken.rowcount == 1:
            won.append(device)
engine.dispose()
print(*won)
"""
    with session(database) as opening:
        for number in range(20):
            rows.device(opening, f"bench-{number}")
    outputs = run_at_once(script, [[database_url, f"job-{number}"] for number in range(8)])
    assert sorted(int(device) for output in outputs for device in output.split()) == list(range(1, 21))
    with read_session(database) as reading:
        owners = {device.id: (device.lease_job_id, device.fence) for device in reading.exec(select(Device))}
    assert owners == {int(device): (f"job-{number}", 1) for number, output in enumerate(outputs) for device in output.split()}


def test_a_process_killed_in_a_transaction_leaves_what_it_committed_and_no_more(database: Engine, database_url: str) -> None:
    script = """
import os, signal
engine = open_database(sys.argv[1])
with session(engine) as opened:
    opened.add(Lock(name="committed", holder="a", expires_at=0))
with session(engine) as opened:
    opened.add(Lock(name="half", holder="a", expires_at=0))
    opened.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    prelude = "import sys\nfrom orchestrator.store.database import *\nfrom orchestrator.store.tables import *\n"
    assert subprocess.run([sys.executable, "-c", prelude + script, database_url], timeout=120).returncode == -9
    with session(database) as opened_again:
        assert [lock.name for lock in opened_again.exec(select(Lock))] == ["committed"]


def test_a_block_that_raises_is_rolled_back(database: Engine) -> None:
    def fail_after_writing() -> None:
        with session(database) as writing:
            writing.add(Lock(name="scheduler", holder="a", expires_at=0))
            writing.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_writing()
    with read_session(database) as reading:
        assert reading.get(Lock, "scheduler") is None


def test_rows_stay_readable_after_their_session(database: Engine) -> None:
    with session(database) as writing:
        lock = Lock(name="scheduler", holder="a", expires_at=0)
        writing.add(lock)
    assert lock.holder == "a"


def test_a_reader_sees_the_state_before_an_open_write_without_waiting(database: Engine) -> None:
    with session(database) as writing:
        writing.add(Lock(name="scheduler", holder="a", expires_at=0))
        writing.flush()
        with read_session(database) as reading:
            assert reading.get(Lock, "scheduler") is None


def test_a_read_session_cannot_write_and_does_not_spoil_its_connection(database: Engine) -> None:
    with read_session(database) as reading:
        reading.add(Lock(name="scheduler", holder="a", expires_at=0))
        with pytest.raises(DBAPIError, match=r"read-?only"):
            reading.flush()
    with session(database) as writing:
        writing.add(Lock(name="scheduler", holder="a", expires_at=0))


def test_a_row_that_refers_to_nothing_is_refused(database: Engine, rows: Any) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"), session(database) as writing:
        rows.job(writing, "j1", experiment_id="nowhere")


def test_nan_in_a_document_is_refused_on_both_databases(database: Engine, rows: Any) -> None:
    with session(database) as writing:
        writing.get_one(Device, rows.device(writing)).facts = {"temperature_c": math.nan}
        with pytest.raises((StatementError, ValueError), match="Out of range float"):
            writing.flush()
        writing.rollback()


def test_text_of_any_language_and_large_counts_come_back_as_they_were(database: Engine, rows: Any) -> None:
    with session(database) as writing:
        device = rows.device(writing, "Gerät №5 — 実験")
        found = writing.get_one(Device, device)
        found.fence = 2**62
        found.facts = {"Prüfer": "Åsa", "deep": [{"x": None}]}
    with read_session(database) as reading:
        again = reading.get_one(Device, device)
        assert (again.name, again.fence, again.facts) == ("Gerät №5 — 実験", 2**62, {"Prüfer": "Åsa", "deep": [{"x": None}]})


def test_times_keep_their_microseconds(database: Engine, rows: Any) -> None:
    with session(database) as writing:
        rows.experiment(writing, submitted_at=1_763_687_000.123456)
    with read_session(database) as reading:
        assert reading.get_one(Experiment, "e1").submitted_at == 1_763_687_000.123456


# --- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://h/d", "http://example.org"]
)
def test_an_address_that_is_no_database_of_ours_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        open_database(url)
    assert "sqlite:///" in caught.value.remedy


def test_a_server_that_does_not_answer_is_unreachable_and_no_password_is_shown(tmp_path: Path) -> None:
    with (
        opened(f"postgresql://ada:secret@/edgematrix?host={tmp_path}") as engine,
        pytest.raises(DatabaseUnreachable) as caught,
        session(engine) as writing,
    ):
        writing.execute(text("SELECT 1"))
    assert "EDGEMATRIX_DATABASE_URL" in caught.value.remedy
    assert "secret" not in caught.value.message


def test_an_unknown_database_on_the_server_is_unreachable(postgres_url: str) -> None:
    name = postgres_url.split("/")[-1].split("?")[0]
    with opened(postgres_url.replace(name, "nowhere")) as engine, pytest.raises(DatabaseUnreachable, match="nowhere"):
        migrate(engine)


def test_connections_that_the_server_dropped_are_replaced(postgres_url: str) -> None:
    with opened(postgres_url) as engine, opened(postgres_url) as other:
        migrate(engine)
        with other.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
        with session(engine) as writing:
            writing.add(Lock(name="scheduler", holder="a", expires_at=0))


def test_a_connection_that_breaks_inside_a_transaction_is_unreachable(postgres_url: str) -> None:
    with opened(postgres_url) as engine, opened(postgres_url) as other:
        migrate(engine)

        def lose_the_connection() -> None:
            with session(engine) as writing:
                pid = writing.execute(text("SELECT pg_backend_pid()")).scalar_one()
                with other.begin() as connection:
                    connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                writing.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnreachable):
            lose_the_connection()
        with session(engine) as writing:
            writing.add(Lock(name="scheduler", holder="a", expires_at=0))


def test_a_process_that_froze_in_a_transaction_keeps_its_rows_from_others_for_a_while_only(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_PG_OPTIONS", database_module._PG_OPTIONS.replace("=20s", "=1s"))
    with opened(postgres_url) as frozen, opened(postgres_url) as other:
        migrate(frozen)
        with session(frozen) as first:
            first.add(Lock(name="scheduler", holder="nobody", expires_at=0.0))

        def freeze_and_thaw() -> None:
            with session(frozen) as first:
                first.execute(text("UPDATE lock SET holder = 'frozen'"))
                with session(other) as second:  # waits for the row until the server ends the transaction that says nothing more
                    second.execute(text("UPDATE lock SET holder = 'other'"))
                first.execute(text("UPDATE lock SET holder = 'thawed'"))

        with pytest.raises(DatabaseUnreachable):
            freeze_and_thaw()
        with read_session(other) as reading:
            assert reading.get_one(Lock, "scheduler").holder == "other"


def test_a_writer_waits_for_a_row_no_longer_than_it_would_on_sqlite(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_PG_OPTIONS", database_module._PG_OPTIONS.replace("lock_timeout=30s", "lock_timeout=1s"))
    with opened(postgres_url) as engine, opened(postgres_url) as other:
        migrate(engine)
        with session(engine) as first:
            first.add(Lock(name="scheduler", holder="nobody", expires_at=0.0))
        with session(engine) as first:
            first.execute(text("UPDATE lock SET holder = 'first'"))
            with pytest.raises(DatabaseBusy), session(other) as second:
                second.execute(text("UPDATE lock SET holder = 'second'"))


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnwritable, match="file"):
        open_database(f"sqlite:///{tmp_path}/file/edgematrix.db")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    # Even root cannot create a file here.
    with opened("sqlite:////proc/self/edgematrix.db") as engine, pytest.raises(FolderUnwritable, match="/proc/self") as caught:
        migrate(engine)
    assert "writable" in caught.value.remedy


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "edgematrix.db").write_bytes(b"not a database at all " * 500)
    with opened(f"sqlite:///{tmp_path}/edgematrix.db") as engine, pytest.raises(DatabaseDamaged, match=r"edgematrix\.db"):
        migrate(engine)


def test_a_database_file_cut_short_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "edgematrix.db"
    with opened(f"sqlite:///{file}") as engine:
        migrate(engine)
    os.truncate(file, file.stat().st_size // 2)

    def read_everything(engine: Engine) -> None:
        with session(engine) as writing:
            for table in SQLModel.metadata.sorted_tables:
                writing.execute(table.select())

    with opened(f"sqlite:///{file}") as engine, pytest.raises(DatabaseDamaged):
        read_everything(engine)


def test_a_lock_held_for_too_long_is_busy(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECS", 0.1)
    with opened(sqlite_url) as engine:
        migrate(engine)
        with session(engine) as holding:
            holding.execute(text("SELECT 1"))
            with pytest.raises(DatabaseBusy), session(engine) as waiting:
                waiting.execute(text("SELECT 1"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_apart_and_the_database_goes_on_when_there_is_room(tiny_disk: Path) -> None:
    def fill(engine: Engine) -> None:
        with session(engine) as writing:
            for number in range(2_000):
                writing.add(Lock(name=f"{number}", holder="x" * 1000, expires_at=0))

    with opened(f"sqlite:///{tiny_disk}/edgematrix.db") as engine:
        migrate(engine)
        with pytest.raises(DiskFull) as caught:
            fill(engine)
        assert "free some space" in caught.value.remedy
        with session(engine) as writing:
            assert writing.exec(select(Lock)).all() == []
