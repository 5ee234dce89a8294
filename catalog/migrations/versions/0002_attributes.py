"""Attributes have a table of their own, data know when and why they end, and the leadership is counted.

The wishes that each datum carried become attributes without a name, one for each different set of wishes.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from bitdew.core.ids import new_uid

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_USUAL = {"replica": 1, "ft": False, "requires": "", "priority": 0}
"""The wishes of 0001 where nothing was wished. The new form leaves them out."""

_FORMER = sa.table(
    "data",
    sa.column("uid", sa.String),
    sa.column("attribute", sa.JSON),
    sa.column("owner", sa.String),
    sa.column("created", sa.DateTime(timezone=True)),
)
_ATTRIBUTES = sa.table(
    "attributes",
    sa.column("uid", sa.String),
    sa.column("digest", sa.String),
    sa.column("wishes", sa.JSON),
    sa.column("pins", sa.JSON),
    sa.column("owner", sa.String),
    sa.column("created", sa.DateTime(timezone=True)),
    sa.column("changed", sa.DateTime(timezone=True)),
    sa.column("version", sa.Integer),
)


def upgrade() -> None:
    """Make the new tables, and let each datum refer to its attribute."""
    op.create_table(
        "leadership",
        sa.Column("uid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_leadership"),
    )
    op.execute("INSERT INTO leadership (uid, epoch) VALUES (1, 0)")
    op.create_table(
        "attributes",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", _name(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("wishes", sa.JSON(), nullable=False),
        sa.Column("affinity_data", sa.String(length=32), nullable=True),
        sa.Column("affinity_attribute", sa.String(length=32), nullable=True),
        sa.Column("lifetime_data", sa.String(length=32), nullable=True),
        sa.Column("pins", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["affinity_attribute"], ["attributes.uid"], name="fk_attributes_affinity_attribute_attributes"
        ),
        sa.PrimaryKeyConstraint("uid", name="pk_attributes"),
        sa.UniqueConstraint("digest", name="uq_attributes_digest"),
        sa.UniqueConstraint("name", name="uq_attributes_name"),
    )
    op.create_index("ix_attributes_affinity_attribute", "attributes", ["affinity_attribute"], unique=False)
    op.add_column("placements", sa.Column("freed", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("ix_placements_data_state_host", "placements", ["data", "state", "host"], unique=False)
    _choose(sa.String(length=32), _attributes_for_wishes())
    if _on_sqlite():
        _rebuild(_change_by_copying)
    else:
        _change_in_place()
    op.drop_table("chosen")


def downgrade() -> None:
    """Give each datum the wishes of its attribute again, as far as 0001 has words for them."""
    _choose(sa.JSON(), _wishes_of_attributes())
    if _on_sqlite():
        _rebuild(_change_back_by_copying)
    else:
        _change_back_in_place()
    op.drop_table("chosen")
    op.drop_index("ix_placements_data_state_host", table_name="placements")
    with op.batch_alter_table("placements") as placements:
        placements.drop_column("freed")
    op.drop_table("attributes")
    op.drop_table("leadership")


# What each datum gets -------------------------------------------------------------------------------------------------


def _attributes_for_wishes() -> list[tuple[str, Any]]:
    """Store each different set of wishes as an attribute; each datum's uid with its attribute's."""
    connection = op.get_bind()
    made: dict[str, dict[str, Any]] = {}
    chosen = []
    for uid, old, owner, created in connection.execute(sa.select(_FORMER).order_by(_FORMER.c.created, _FORMER.c.uid)):
        wishes = {key: old[key] for key in _USUAL if old.get(key, _USUAL[key]) != _USUAL[key]}
        digest = _digest(wishes)
        if digest not in made:
            made[digest] = {"uid": new_uid(), "digest": digest, "wishes": wishes, "pins": [], "owner": owner}
            made[digest] |= {"created": created, "changed": created, "version": 1}
        chosen.append((uid, made[digest]["uid"]))
    if made:
        connection.execute(sa.insert(_ATTRIBUTES), list(made.values()))
    return chosen


def _digest(wishes: dict[str, Any]) -> str:
    """As the store of attributes makes it of wishes that name nothing."""
    said = json.dumps([wishes, None, None, None, []], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def _wishes_of_attributes() -> list[tuple[str, Any]]:
    """Each datum's uid with its wishes, all of those that 0001 knows and no others."""
    data = sa.table("data", sa.column("uid"), sa.column("attribute"))
    query = sa.select(data.c.uid, _ATTRIBUTES.c.wishes).join(_ATTRIBUTES, _ATTRIBUTES.c.uid == data.c.attribute)
    rows = op.get_bind().execute(query)
    return [(uid, {key: wishes.get(key, usual) for key, usual in _USUAL.items()}) for uid, wishes in rows]


def _choose(kind: sa.String | sa.JSON, chosen: list[tuple[str, Any]]) -> None:
    """Store what each datum's column `attribute` is to be, in a table that lives as long as the step."""
    table = op.create_table(
        "chosen",
        sa.Column("uid", sa.String(length=32), primary_key=True),
        sa.Column("attribute", kind, nullable=False),
    )
    if chosen:
        op.get_bind().execute(sa.insert(table), [{"uid": uid, "attribute": choice} for uid, choice in chosen])


# PostgreSQL changes the table where it stands -------------------------------------------------------------------------


def _change_in_place() -> None:
    op.drop_column("data", "attribute")
    op.add_column("data", sa.Column("attribute", sa.String(length=32), nullable=True))
    op.add_column("data", sa.Column("awaited", sa.Boolean(), nullable=True))
    op.add_column("data", sa.Column("ends", sa.DateTime(timezone=True), nullable=True))
    op.add_column("data", sa.Column("died", sa.DateTime(timezone=True), nullable=True))
    op.add_column("data", sa.Column("died_because", sa.Text(), nullable=True))
    op.execute(
        "UPDATE data SET attribute = chosen.attribute, awaited = false, died_because = '' "
        "FROM chosen WHERE chosen.uid = data.uid"
    )
    for column in ("attribute", "awaited", "died_because"):
        op.alter_column("data", column, nullable=False)
    op.alter_column("data", "name", type_=_name())
    op.create_foreign_key("fk_data_attribute_attributes", "data", "attributes", ["attribute"], ["uid"])
    op.create_index("ix_data_name_dead", "data", ["name"], unique=False, postgresql_where=sa.text("NOT alive"))
    op.create_index("ix_data_attribute", "data", ["attribute", "alive", "uid"], unique=False)


def _change_back_in_place() -> None:
    op.drop_index("ix_data_attribute", table_name="data")
    op.drop_index("ix_data_name_dead", table_name="data")
    for column in ("attribute", "awaited", "ends", "died", "died_because"):
        op.drop_column("data", column)
    op.add_column("data", sa.Column("attribute", sa.JSON(), nullable=True))
    op.execute("UPDATE data SET attribute = chosen.attribute FROM chosen WHERE chosen.uid = data.uid")
    op.alter_column("data", "attribute", nullable=False)
    op.alter_column("data", "name", type_=sa.String(length=128))


# SQLite makes it anew -------------------------------------------------------------------------------------------------


def _rebuild(copy: Callable[[], None]) -> None:
    """Make the table `data` anew, with what `copy` takes from `former`, which is `data` as it was.

    SQLite adds no column that refers to another table and is never null. Nor can foreign keys be turned off within a
    transaction; but they can be judged at its end, and the rows that come back then make good for those that went. So
    they have to come back into a table named `data`: giving that name to a full one would bring nothing back.
    """
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE former AS SELECT * FROM data")
    op.drop_table("data")
    copy()
    op.create_index("ix_data_root", "data", ["root"], unique=False)
    op.drop_table("former")


def _change_by_copying() -> None:
    op.create_table(
        "data",
        *_columns_of_0001(),
        sa.Column("attribute", sa.String(length=32), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("damaged", sa.Boolean(), nullable=False),
        sa.Column("awaited", sa.Boolean(), nullable=False),
        sa.Column("ends", sa.DateTime(timezone=True), nullable=True),
        sa.Column("died", sa.DateTime(timezone=True), nullable=True),
        sa.Column("died_because", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attribute"], ["attributes.uid"], name="fk_data_attribute_attributes"),
        sa.PrimaryKeyConstraint("uid", name="pk_data"),
    )
    op.execute(
        "INSERT INTO data (uid, name, root, size, piece_length, info_hash, created, owner, attribute, alive, damaged,"
        " awaited, died_because)"
        " SELECT uid, name, root, size, piece_length, info_hash, created, owner, chosen.attribute, alive, damaged,"
        " 0, '' FROM former JOIN chosen USING (uid)"
    )
    op.create_index("uq_data_name_alive", "data", ["name"], unique=True, sqlite_where=sa.text("alive = 1"))
    op.create_index("ix_data_name_dead", "data", ["name"], unique=False, sqlite_where=sa.text("alive = 0"))
    op.create_index("ix_data_attribute", "data", ["attribute", "alive", "uid"], unique=False)


def _change_back_by_copying() -> None:
    op.create_table(
        "data",
        *_columns_of_0001(),
        sa.Column("attribute", sa.JSON(), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("damaged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_data"),
    )
    op.execute(
        "INSERT INTO data (uid, name, root, size, piece_length, info_hash, created, owner, attribute, alive, damaged)"
        " SELECT uid, name, root, size, piece_length, info_hash, created, owner, chosen.attribute, alive, damaged"
        " FROM former JOIN chosen USING (uid)"
    )
    op.create_index("uq_data_name_alive", "data", ["name"], unique=True, sqlite_where=sa.text("alive"))


def _columns_of_0001() -> list[sa.Column[Any]]:
    """The columns that stay as they are."""
    return [
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("piece_length", sa.Integer(), nullable=False),
        sa.Column("info_hash", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
    ]


def _name() -> sa.String:
    """Names are compared byte by byte, whatever language the database was made for."""
    return sa.String(length=128) if _on_sqlite() else sa.String(length=128, collation="C")


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
