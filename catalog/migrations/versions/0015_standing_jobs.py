"""Standing jobs: a job for each datum that has an attribute."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of standing jobs, and note of each job which datum it was made for."""
    op.create_table(
        "standing_jobs",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attribute", sa.String(length=128), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("provision", sa.String(length=32), nullable=True),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("made", sa.Integer(), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["provision"], ["data.uid"], name=op.f("fk_standing_jobs_provision_data")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_standing_jobs")),
    )
    op.create_index("ix_standing_jobs_ended_owner", "standing_jobs", ["ended", "owner"])
    op.create_table(
        "standing_matches",
        sa.Column("standing", sa.String(length=32), nullable=False),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("job", sa.String(length=32), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["standing"], ["standing_jobs.uid"], name=op.f("fk_standing_matches_standing_standing_jobs")
        ),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name=op.f("fk_standing_matches_data_data")),
        sa.PrimaryKeyConstraint("standing", "data", name=op.f("pk_standing_matches")),
    )
    op.create_index("ix_standing_matches_standing_at", "standing_matches", ["standing", "at"])
    op.add_column("jobs", sa.Column("datum", sa.String(length=128), nullable=True))
    op.create_index("ix_jobs_array_state", "jobs", ["array", "state"])


def downgrade() -> None:
    """Forget all standing jobs. The jobs that they made stay."""
    op.drop_index("ix_jobs_array_state", "jobs")
    op.execute("ALTER TABLE jobs DROP COLUMN datum")
    op.drop_table("standing_matches")
    op.drop_table("standing_jobs")
