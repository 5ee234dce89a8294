"""Deployments may want hosts of some kind, have ports and an end; those of before want nothing and go on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each deployment that any host will do, that no port leads to its machines, and that it has no end."""
    op.add_column("deployments", sa.Column("requires", sa.Text(), server_default=sa.text("''"), nullable=False))
    ports = sa.JSON().with_variant(JSONB(), "postgresql")  # PostgreSQL compares no JSON, and so no default of it
    op.add_column("deployments", sa.Column("ports", ports, server_default="[]", nullable=False))
    op.add_column("deployments", sa.Column("ends", sa.DateTime(timezone=True), nullable=True))
    op.add_column("machines", sa.Column("ports", ports, server_default="[]", nullable=False))


def downgrade() -> None:
    """Forget what deployments want of hosts, and when they end: the machines that run stay."""
    op.execute("ALTER TABLE machines DROP COLUMN ports")
    for column in ("ends", "ports", "requires"):
        op.execute(f"ALTER TABLE deployments DROP COLUMN {column}")
