"""Jobs, what they read, their runs and what these left."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of jobs."""
    op.create_table(
        "jobs",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("array", sa.String(length=32), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("shape", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("kept", sa.String(length=32), nullable=True),
        sa.Column("provision", sa.String(length=32), nullable=True),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["provision"], ["data.uid"], name=op.f("fk_jobs_provision_data")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_state_shape", "jobs", ["state", "shape"])
    op.create_index("ix_jobs_created", "jobs", ["created", "array", "place"])
    op.create_index(op.f("ix_jobs_array"), "jobs", ["array"])
    op.create_table(
        "job_inputs",
        sa.Column("job", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.uid"], name=op.f("fk_job_inputs_job_jobs")),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name=op.f("fk_job_inputs_data_data")),
        sa.PrimaryKeyConstraint("job", "path", name=op.f("pk_job_inputs")),
    )
    op.create_index(op.f("ix_job_inputs_data"), "job_inputs", ["data"])
    op.create_table(
        "job_runs",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("job", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("reason", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("wall", sa.Double(), nullable=True),
        sa.Column("cpu", sa.Double(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("outputs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("log_end", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.uid"], name=op.f("fk_job_runs_job_jobs")),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name=op.f("fk_job_runs_host_hosts")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_job_runs")),
    )
    op.create_index(op.f("ix_job_runs_job"), "job_runs", ["job"])
    op.create_index("ix_job_runs_state_host", "job_runs", ["state", "host"])
    op.create_table(
        "job_results",
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["job_runs.uid"], name=op.f("fk_job_results_run_job_runs")),
        sa.ForeignKeyConstraint(["data"], ["data.uid"], name=op.f("fk_job_results_data_data")),
        sa.PrimaryKeyConstraint("run", "path", name=op.f("pk_job_results")),
    )
    op.create_table(
        "job_provisions",
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("disk", sa.String(length=32), nullable=False),
        sa.Column("deployment", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["disk"], ["data.uid"], name=op.f("fk_job_provisions_disk_data")),
        sa.PrimaryKeyConstraint("owner", "disk", name=op.f("pk_job_provisions")),
    )


def downgrade() -> None:
    """Forget all jobs. Their results stay as data."""
    for name in ("job_provisions", "job_results", "job_runs", "job_inputs", "jobs"):
        op.drop_table(name)
