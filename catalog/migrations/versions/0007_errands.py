"""Machines' hosts are asked for things once; machines may go on from a snapshot, on the host that has it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of errands; say of each machine that nothing is kept of it, and that it goes on from nothing."""
    op.create_table(
        "errands",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("machine", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("picture", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"]),
        sa.ForeignKeyConstraint(["machine"], ["machines.uid"]),
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("ix_errands_asked", "errands", ["asked"])
    op.create_index("ix_errands_machine", "errands", ["machine"])
    op.add_column("machines", sa.Column("continues", sa.String(length=32), nullable=True))
    op.add_column("machines", sa.Column("snapshot", sa.String(length=128), nullable=True))
    kept = sa.JSON().with_variant(JSONB(), "postgresql")  # PostgreSQL compares no JSON, and so no default of it
    op.add_column("machines", sa.Column("bound", sa.String(length=32), nullable=True))
    op.add_column("machines", sa.Column("snapshots", kept, server_default="[]", nullable=False))


def downgrade() -> None:
    """Forget what was asked and what is kept: snapshots stay with their hosts until those are asked to remove them."""
    op.drop_table("errands")
    for column in ("snapshots", "bound", "snapshot", "continues"):
        op.execute(f"ALTER TABLE machines DROP COLUMN {column}")
