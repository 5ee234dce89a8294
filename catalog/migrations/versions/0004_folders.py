"""Data are files or folders; those of before are files."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each datum that it is a file."""
    op.add_column("data", sa.Column("kind", sa.String(length=16), server_default="file", nullable=False))


def downgrade() -> None:
    """Forget which data are folders: they stay as the archives that they travel as."""
    op.execute("ALTER TABLE data DROP COLUMN kind")
