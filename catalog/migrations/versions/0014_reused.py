"""Of each copy, how much of it was on its host already; of those of before it is not known to have been anything."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for the figure."""
    op.add_column("placements", sa.Column("reused", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget the figure."""
    op.execute("ALTER TABLE placements DROP COLUMN reused")
