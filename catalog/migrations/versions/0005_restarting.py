"""Machines that ended may be followed by others; those of before are not."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each deployment that its machines are not replaced, and of each machine that it was the first."""
    op.add_column("deployments", sa.Column("restart", sa.String(length=16), server_default="never", nullable=False))
    op.add_column("machines", sa.Column("attempt", sa.Integer(), server_default="1", nullable=False))
    op.add_column("machines", sa.Column("ran", sa.Double(), server_default="0", nullable=False))
    op.add_column("machines", sa.Column("successor", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Forget which machines follow which: those that run stay."""
    op.execute("ALTER TABLE machines DROP COLUMN successor")
    op.execute("ALTER TABLE machines DROP COLUMN ran")
    op.execute("ALTER TABLE machines DROP COLUMN attempt")
    op.execute("ALTER TABLE deployments DROP COLUMN restart")
