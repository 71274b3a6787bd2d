"""The migrations of the database, run by Alembic without a configuration file.

A new one is a new file in ``versions/``, named ``mNNNN_what_it_does.py`` after the one before it; then HEAD_REVISION is raised. It runs in
one transaction, with foreign keys off on SQLite, so a table is changed with ``op.batch_alter_table``. Tests hold that models and migrations
agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

#: The newest revision of ``versions/``; kept as a constant so that asking whether a database is up to date does not import Alembic.
HEAD_REVISION = "0003"


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; migrations run on ``connection``, in its transaction."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def known_revisions() -> frozenset[str]:
    """Return every revision of this version of edgematrix."""
    from alembic.script import ScriptDirectory

    return frozenset(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def upgrade(connection: Connection, revision: str) -> None:
    """Migrate up to ``revision`` (``head`` is the newest)."""
    from alembic import command

    command.upgrade(config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Migrate down to ``revision`` (``base`` drops everything)."""
    from alembic import command

    command.downgrade(config(connection), revision)
