"""The first tables: data, disks, tokens, certificates; hosts, placements, orders, deployments, machines."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
    )
    op.create_index("ix_certificates_subject_id", "certificates", ["subject_id"], unique=False)
    op.create_table(
        "data",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("piece_length", sa.Integer(), nullable=False),
        sa.Column("info_hash", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("attribute", sa.JSON(), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("damaged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_data"),
    )
    op.create_index("ix_data_root", "data", ["root"], unique=False)
    op.create_index(
        "uq_data_name_alive",
        "data",
        ["name"],
        unique=True,
        sqlite_where=sa.text("alive"),
        postgresql_where=sa.text("alive"),
    )
    op.create_table(
        "enrolments",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("token", "request", name="pk_enrolments"),
    )
    op.create_table(
        "hosts",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_hosts"),
    )
    op.create_table(
        "tokens",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("creator", sa.String(length=32), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    op.create_table(
        "deployments",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name="fk_deployments_data_data"),
        sa.PrimaryKeyConstraint("uid", name="pk_deployments"),
    )
    op.create_index("ix_deployments_data", "deployments", ["data"], unique=False)
    op.create_table(
        "disks",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("os", sa.String(length=128), nullable=False),
        sa.Column("arch", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["uid"], ["data.uid"], name="fk_disks_uid_data"),
        sa.PrimaryKeyConstraint("uid", name="pk_disks"),
    )
    op.create_table(
        "orders",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=32), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name="fk_orders_host_hosts"),
        sa.PrimaryKeyConstraint("uid", name="pk_orders"),
    )
    op.create_index("ix_orders_open", "orders", ["host", "closed"], unique=False)
    op.create_index("ix_orders_subject", "orders", ["subject"], unique=False)
    op.create_table(
        "placements",
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("assigned", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("from_repository", sa.BigInteger(), nullable=False),
        sa.Column("from_peers", sa.BigInteger(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name="fk_placements_data_data"),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name="fk_placements_host_hosts"),
        sa.PrimaryKeyConstraint("data", "host", name="pk_placements"),
    )
    op.create_index("ix_placements_host", "placements", ["host"], unique=False)
    op.create_table(
        "machines",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("deployment", sa.String(length=32), nullable=False),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("stop_wanted", sa.Boolean(), nullable=False),
        sa.Column("hypervisor", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("console", sa.Text(), nullable=False),
        sa.Column("console_end", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name="fk_machines_data_data"),
        sa.ForeignKeyConstraint(["deployment"], ["deployments.uid"], name="fk_machines_deployment_deployments"),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name="fk_machines_host_hosts"),
        sa.PrimaryKeyConstraint("uid", name="pk_machines"),
    )
    op.create_index("ix_machines_data", "machines", ["data"], unique=False)
    op.create_index("ix_machines_deployment", "machines", ["deployment"], unique=False)
    op.create_index("ix_machines_host", "machines", ["host"], unique=False)


def downgrade() -> None:
    """Drop them, the referring ones first."""
    op.drop_index("ix_machines_host", table_name="machines")
    op.drop_index("ix_machines_deployment", table_name="machines")
    op.drop_index("ix_machines_data", table_name="machines")
    op.drop_table("machines")
    op.drop_index("ix_placements_host", table_name="placements")
    op.drop_table("placements")
    op.drop_index("ix_orders_subject", table_name="orders")
    op.drop_index("ix_orders_open", table_name="orders")
    op.drop_table("orders")
    op.drop_table("disks")
    op.drop_index("ix_deployments_data", table_name="deployments")
    op.drop_table("deployments")
    op.drop_table("tokens")
    op.drop_table("hosts")
    op.drop_table("enrolments")
    op.drop_index(
        "uq_data_name_alive", table_name="data", sqlite_where=sa.text("alive"), postgresql_where=sa.text("alive")
    )
    op.drop_index("ix_data_root", table_name="data")
    op.drop_table("data")
    op.drop_index("ix_certificates_subject_id", table_name="certificates")
    op.drop_table("certificates")
