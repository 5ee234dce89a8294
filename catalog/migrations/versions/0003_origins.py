"""A datum may be offered by its publisher, from where the file is: by whom, where, and until when that is known."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of origins."""
    op.create_table(
        "origins",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=32), nullable=False),
        sa.Column("swarm", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["uid"], ["data.uid"], name="fk_origins_uid_data"),
        sa.PrimaryKeyConstraint("uid", name="pk_origins"),
    )


def downgrade() -> None:
    """Forget who offers what: data that nobody else holds wait for their bytes."""
    op.drop_table("origins")
