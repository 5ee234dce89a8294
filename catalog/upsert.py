"""Insert or replace rows, in the words of each database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

Merge = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[Any]]
"""Of the stored value and the new one, what is to be stored."""


async def upsert(
    session: AsyncSession, table: Table, rows: Sequence[dict[str, Any]], merge: Mapping[str, Merge] | None = None
) -> None:
    """Insert `rows`; where one has the primary key of a stored row, replace what that has in the row's columns.

    Args:
        session: A transaction.
        table: Where to.
        rows: Values by column, the same columns in each.
        merge: For some columns, what is stored in place of the new value.
    """
    if not rows:
        return
    connection = await session.connection()
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    fresh: dict[str, Any] = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    fresh |= {name: of(table.c[name], insert.excluded[name]) for name, of in (merge or {}).items()}
    await connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=fresh), rows)
