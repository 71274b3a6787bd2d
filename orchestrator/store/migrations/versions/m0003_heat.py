"""What soaks need: how a device's surroundings are set, what an attempt left that has no result, and traces of external meters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("device") as table:
        table.add_column(sa.Column("surroundings", sa.JSON()))
    with op.batch_alter_table("attempt") as table:
        table.add_column(sa.Column("traces", sa.JSON()))
    op.create_table(
        "imported_trace",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("alignment", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_imported_trace"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_imported_trace_job_id"),
    )
    op.create_index("ix_imported_trace_job_id", "imported_trace", ["job_id"])


def downgrade() -> None:
    op.drop_table("imported_trace")
    with op.batch_alter_table("attempt") as table:
        table.drop_column("traces")
    with op.batch_alter_table("device") as table:
        table.drop_column("surroundings")
