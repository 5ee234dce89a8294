"""Machines may be drained; none of before is."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each machine that it does not wait for its jobs to end."""
    op.add_column("machines", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget which machines drain: they go on, and their deployments do not count them."""
    op.execute("ALTER TABLE machines DROP COLUMN draining")
