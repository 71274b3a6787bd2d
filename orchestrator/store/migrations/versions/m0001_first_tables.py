"""The tables of the first release.

Every constraint has a name here, so that a later migration can say on both databases which one it means.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec_file", sa.String(), nullable=False),
        sa.Column("spec_text", sa.Text(), nullable=False),
        sa.Column("spec_sha256", sa.String(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("submitted_by", sa.String(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.Column("cancel_requested_by", sa.String()),
        sa.Column("edgematrix_version", sa.String(), nullable=False),
        sa.Column("agent_sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiment"),
    )
    op.create_index("ix_experiment_name", "experiment", ["name"])
    op.create_index("ix_experiment_submitted_at", "experiment", ["submitted_at"])

    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("transport", sa.String(), nullable=False),
        sa.Column("address", sa.JSON(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("emulated", sa.String(), nullable=False),
        sa.Column("health", sa.String(), nullable=False),
        sa.Column("health_reason", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_job_id", sa.String()),
        sa.Column("lease_expires_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.UniqueConstraint("name", name="uq_device_name"),
    )
    op.create_index("ix_device_lease_job_id", "device", ["lease_job_id"])

    op.create_table(
        "environment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("interpreter", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_environment"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_environment_device_id"),
        sa.UniqueConstraint("device_id", "name", name="uq_environment_device_id_name"),
    )

    op.create_table(
        "job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("experiment_id", sa.String(), nullable=False),
        sa.Column("job_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("num_threads", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("graph_optimization", sa.String()),
        sa.Column("scenario", sa.String(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("device_query", sa.String(), nullable=False),
        sa.Column("device_id", sa.Integer()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.String()),
        sa.Column("error", sa.JSON()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer()),
        sa.Column("next_drive_at", sa.Float()),
        sa.Column("progress", sa.JSON()),
        sa.Column("waiting_for", sa.String()),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], name="fk_job_experiment_id"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_job_device_id"),
        sa.UniqueConstraint("experiment_id", "job_key", name="uq_job_experiment_id_job_key"),
    )
    op.create_index("ix_job_device_id", "job", ["device_id"])
    op.create_index("ix_job_waiting", "job", ["state", "experiment_id"])
    op.create_index("ix_job_due", "job", ["next_drive_at"])

    op.create_table(
        "attempt",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("status", sa.String()),
        sa.Column("error", sa.JSON()),
        sa.Column("outcome_message", sa.JSON()),
        sa.Column("conditions_key", sa.String()),
        sa.Column("clock_offset_secs", sa.Float()),
        sa.Column("clock_offset_uncertainty_secs", sa.Float()),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_attempt"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_attempt_job_id"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_attempt_device_id"),
    )
    op.create_index("ix_attempt_device_id", "attempt", ["device_id"])

    op.create_table(
        "result",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("analysis_version", sa.Integer(), nullable=False),
        sa.Column("validity", sa.JSON(), nullable=False),
        sa.Column("traces", sa.JSON(), nullable=False),
        sa.Column("published_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_result"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_result_job_id"),
    )

    op.create_table(
        "metric",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("low", sa.Float()),
        sa.Column("high", sa.Float()),
        sa.Column("count", sa.BigInteger()),
        sa.Column("cause", sa.String()),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_metric"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_metric_job_id"),
    )

    op.create_table(
        "artifact",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_artifact"),
    )

    op.create_table(
        "state_change",
        # SQLite counts up by itself only in a column declared exactly INTEGER.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("old", sa.String(), nullable=False),
        sa.Column("new", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_state_change"),
    )
    op.create_index("ix_state_change_subject", "state_change", ["subject", "subject_id"])

    op.create_table(
        "lock",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lock"),
    )


def downgrade() -> None:
    for table in ("lock", "state_change", "artifact", "metric", "result", "attempt", "job", "environment", "device", "experiment"):
        op.drop_table(table)
