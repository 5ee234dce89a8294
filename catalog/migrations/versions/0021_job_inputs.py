"""Data that users put for their own jobs; none were before."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_FOR_JOBS = sa.text("for_jobs")


def upgrade() -> None:
    """Say of each datum that it is none of these."""
    op.add_column("data", sa.Column("for_jobs", sa.Boolean(), server_default=sa.false(), nullable=False))
    columns = ["owner", "alive"]
    op.create_index("ix_data_for_jobs", "data", columns, sqlite_where=_FOR_JOBS, postgresql_where=_FOR_JOBS)


def downgrade() -> None:
    """Forget which these are: their owners, or operators, remove them."""
    op.drop_index("ix_data_for_jobs", "data")
    op.execute("ALTER TABLE data DROP COLUMN for_jobs")
