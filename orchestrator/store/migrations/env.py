"""What Alembic runs: the migrations, on the connection and in the transaction that :mod:`orchestrator.store.database` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from orchestrator.store import tables

__all__ = ["tables"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
