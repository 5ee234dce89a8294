"""Hosts may be drained; none of before is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each host that it is not to be emptied."""
    op.add_column("hosts", sa.Column("drain", sa.String(length=8), nullable=True))


def downgrade() -> None:
    """Take hosts that are drained for hosts at work again."""
    op.execute("UPDATE hosts SET state = 'alive' WHERE state = 'drained'")
    op.execute("ALTER TABLE hosts DROP COLUMN drain")
