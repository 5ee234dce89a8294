"""Indexes by which what waits is found, however much does: the queue in its order, and jobs that name a disk."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0016"
branch_labels = None
depends_on = None

_PROVIDED = sa.text("provision IS NOT NULL")


def upgrade() -> None:
    """Make them."""
    op.drop_index("ix_jobs_state_shape", "jobs")
    op.create_index("ix_jobs_queue", "jobs", ["state", "shape", sa.text("priority DESC"), "created", "array", "place"])
    op.create_index(
        "ix_jobs_provision", "jobs", ["provision", "state"], sqlite_where=_PROVIDED, postgresql_where=_PROVIDED
    )


def downgrade() -> None:
    """Go back to the one that an earlier release has."""
    op.drop_index("ix_jobs_provision", "jobs")
    op.drop_index("ix_jobs_queue", "jobs")
    op.create_index("ix_jobs_state_shape", "jobs", ["state", "shape"])
