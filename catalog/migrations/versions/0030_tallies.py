"""How many there are of everything, kept with each change, and indexes by which the few that are busy are found."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0021"
branch_labels = None
depends_on = None

_MOVING = sa.text("state IN ('assigned', 'fetching', 'verifying')")
_FAILED = sa.text("state = 'failed'")

# Of each table: under which kind its rows count, the columns that say how, and of a row its state, whose it is, its
# size, and whether it counts. Triggers in the database see every change, whoever makes it.
_COUNTED = {
    "placements": ("copies", ("state",), "{0}.state", "''", "0", "{0}.state <> 'gone'"),
    "machines": ("machines", ("state",), "{0}.state", "''", "0", "{0}.state <> ''"),
    "jobs": ("jobs", ("state", "owner"), "{0}.state", "{0}.owner", "0", "{0}.state <> ''"),
    "orders": ("orders", ("closed",), "'open'", "''", "0", "{0}.closed IS NULL"),
    "data": (
        "data",
        ("alive", "awaited", "damaged", "size"),
        "CASE WHEN {0}.awaited THEN 'awaited ' ELSE '' END || CASE WHEN {0}.damaged THEN 'damaged' ELSE '' END",
        "''",
        "{0}.size",
        "{0}.alive",
    ),
}
_COLUMNS = "kind, state, owner, number, size"


def upgrade() -> None:
    """Count what is there, and from now on what changes."""
    op.create_table(
        "tallies",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True, nullable=False
        ),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for table in _COUNTED:
        for statement in (_on_postgres if on_postgres else _on_sqlite)(table):
            op.execute(sa.text(statement))
        kind, _, state, owner, size, counts = _said_of(table, table)
        op.execute(
            f"INSERT INTO tallies ({_COLUMNS}) SELECT '{kind}', {state}, {owner}, count(*), sum({size}) FROM {table}"  # noqa: S608 - nobody's input is in it
            f" WHERE {counts} GROUP BY 2, 3"
        )
    op.create_index(
        "ix_placements_moving", "placements", ["data", "host"], sqlite_where=_MOVING, postgresql_where=_MOVING
    )
    op.create_index("ix_placements_failed", "placements", ["since"], sqlite_where=_FAILED, postgresql_where=_FAILED)
    op.create_index("ix_machines_state_since", "machines", ["state", "since"])
    op.create_index("ix_jobs_state_since", "jobs", ["state", "since"])


def downgrade() -> None:
    """Count no more."""
    op.drop_index("ix_jobs_state_since", "jobs")
    op.drop_index("ix_machines_state_since", "machines")
    op.drop_index("ix_placements_failed", "placements")
    op.drop_index("ix_placements_moving", "placements")
    for table in _COUNTED:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP FUNCTION bitdew_tally_{table}() CASCADE")
            continue
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER tally_{table}_{event}")
    op.drop_table("tallies")


def _said_of(table: str, row: str) -> tuple[str, tuple[str, ...], str, str, str, str]:
    kind, columns, *said = _COUNTED[table]
    state, owner, size, counts = (one.format(row) for one in said)
    return kind, columns, state, owner, size, counts


def _counted(table: str, row: str, sign: int) -> str:
    """The statement that counts a row, or counts it no more."""
    kind, _, state, owner, size, counts = _said_of(table, row)
    values = f"'{kind}', {state}, {owner}, {sign}, {sign} * {size}"
    return f"INSERT INTO tallies ({_COLUMNS}) SELECT {values} WHERE {counts};"


def _changed(table: str) -> str:
    return " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in _COUNTED[table][1])


def _on_sqlite(table: str) -> list[str]:
    columns, change = ", ".join(_COUNTED[table][1]), _changed(table).replace("DISTINCT FROM", "NOT")
    less, more = _counted(table, "OLD", -1), _counted(table, "NEW", 1)
    update = f"AFTER UPDATE OF {columns} ON {table} WHEN {change}"
    return [
        f"CREATE TRIGGER tally_{table}_insert AFTER INSERT ON {table} BEGIN {more} END",
        f"CREATE TRIGGER tally_{table}_delete AFTER DELETE ON {table} BEGIN {less} END",
        f"CREATE TRIGGER tally_{table}_update {update} BEGIN {less} {more} END",
    ]


def _on_postgres(table: str) -> list[str]:
    columns, run = ", ".join(_COUNTED[table][1]), f"EXECUTE FUNCTION bitdew_tally_{table}()"
    less = f"IF TG_OP <> 'INSERT' THEN {_counted(table, 'OLD', -1)} END IF;"
    more = f"IF TG_OP <> 'DELETE' THEN {_counted(table, 'NEW', 1)} END IF;"
    update = f"AFTER UPDATE OF {columns} ON {table} FOR EACH ROW WHEN ({_changed(table)})"
    head = f"CREATE FUNCTION bitdew_tally_{table}() RETURNS trigger LANGUAGE plpgsql AS"
    return [
        f"{head} $$ BEGIN {less} {more} RETURN NULL; END $$",
        f"CREATE TRIGGER tally_{table} AFTER INSERT OR DELETE ON {table} FOR EACH ROW {run}",
        f"CREATE TRIGGER tally_{table}_update {update} {run}",
    ]
