"""Identities that are made for machines are known as theirs; of those made before nobody says so."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of the hosts that are machines, and say of each token that it is for none."""
    op.create_table(
        "inner_hosts",
        sa.Column("host", sa.String(length=32), nullable=False),
        sa.Column("machine", sa.String(length=32), nullable=False),
        sa.Column("over", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_index("ix_inner_hosts_machine", "inner_hosts", ["machine"])
    op.create_index("ix_inner_hosts_over", "inner_hosts", ["over"])
    op.add_column("tokens", sa.Column("machine", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Forget whose identities they are: they stay good until somebody revokes them."""
    op.execute("ALTER TABLE tokens DROP COLUMN machine")
    op.drop_table("inner_hosts")
