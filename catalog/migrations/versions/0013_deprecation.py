"""Disks may be deprecated; those of before are not."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each disk that machines may run from it."""
    op.add_column("disks", sa.Column("deprecated", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget which disks are deprecated: machines may run from them again."""
    op.execute("ALTER TABLE disks DROP COLUMN deprecated")
