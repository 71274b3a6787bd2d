"""What a lab needs: reservations, decisions of people about a device, checks on a schedule, power cycling, bundles, device caps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_DEVICE = (
    ("health_set_by", sa.String(), "system"),
    ("health_until", sa.Float(), None),
    ("next_check_at", sa.Float(), None),
    ("check_asked_at", sa.Float(), None),
    ("power_cycle", sa.JSON(), None),
    ("power_cycled_at", sa.Float(), None),
)


def upgrade() -> None:
    with op.batch_alter_table("experiment") as table:
        table.add_column(sa.Column("max_devices", sa.Integer()))
    with op.batch_alter_table("device") as table:
        for name, kind, default in _DEVICE:
            table.add_column(sa.Column(name, kind, nullable=default is None, server_default=default))
    with op.batch_alter_table("device") as table:
        # It was only there to give the rows of before a value.
        table.alter_column("health_set_by", server_default=None)
    with op.batch_alter_table("environment") as table:
        table.add_column(sa.Column("golden_digest", sa.String()))
        table.add_column(sa.Column("bundle_sha256", sa.String()))
    op.create_table(
        "reservation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("begins_at", sa.Float(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("ended_by", sa.String()),
        sa.Column("ended_why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reservation"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_reservation_device_id"),
    )
    op.create_index("ix_reservation_device_id", "reservation", ["device_id"])
    op.create_table(
        "bundle",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("arch", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("built_at", sa.Float(), nullable=False),
        sa.Column("built_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_bundle"),
    )
    op.drop_index("ix_job_device_id", "job")
    op.create_index("ix_job_device", "job", ["device_id", "state", "experiment_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_job_device", "job")
    op.create_index("ix_job_device_id", "job", ["device_id"])
    op.drop_table("bundle")
    op.drop_table("reservation")
    with op.batch_alter_table("environment") as table:
        table.drop_column("bundle_sha256")
        table.drop_column("golden_digest")
    with op.batch_alter_table("device") as table:
        for name, _, _ in reversed(_DEVICE):
            table.drop_column(name)
    with op.batch_alter_table("experiment") as table:
        table.drop_column("max_devices")
