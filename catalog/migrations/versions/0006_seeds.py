"""Machines may have a network and a seed; those of before have neither."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each deployment that its machines have no network and are told nothing."""
    op.add_column("deployments", sa.Column("network", sa.String(length=16), server_default="none", nullable=False))
    op.add_column("deployments", sa.Column("user_data", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget what machines are told: those that run keep what they have."""
    op.execute("ALTER TABLE deployments DROP COLUMN user_data")
    op.execute("ALTER TABLE deployments DROP COLUMN network")
