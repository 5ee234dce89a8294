"""Stored errands: what machines' hosts were asked to do once, and what came of it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Table, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import ErrandKind, ErrandState

from ..catalog.database import Database
from ..catalog.feed import Told, along
from .records import ErrandRecord
from .tables import ErrandRow

_TABLE: Final[Table] = ErrandRow.metadata.tables[ErrandRow.__tablename__]
_ERRANDS: Final = select(*(column for column in _TABLE.columns if column.name != "picture"))


class ErrandStore:
    """Reads and writes errands, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_errand(self, errand: ErrandRecord, told: Told) -> None:
        """Store a new errand, and tell others of it."""
        async with self._database.write() as session:
            session.add(
                ErrandRow(
                    uid=errand.uid,
                    machine=errand.machine,
                    host=errand.host,
                    kind=errand.kind,
                    name=errand.name,
                    state=errand.state,
                    asked=errand.asked,
                    sent=errand.sent,
                )
            )
            along(session, told)

    async def errands(self, uids: Collection[Uid] | None = None) -> list[ErrandRecord]:
        """These errands, or all, oldest first."""
        query = _ERRANDS.order_by(ErrandRow.asked, ErrandRow.uid)
        if uids is not None:
            query = query.where(ErrandRow.uid.in_(uids))
        async with self._database.read() as session:
            return [_errand(row) for row in await session.execute(query)]

    async def picture(self, uid: Uid) -> bytes | None:
        """What an errand brought."""
        async with self._database.read() as session:
            return await session.scalar(select(ErrandRow.picture).where(ErrandRow.uid == uid))

    async def put_picture(self, uid: Uid, picture: bytes) -> None:
        """Keep what an errand brought."""
        async with self._database.write() as session:
            await session.execute(update(ErrandRow).where(ErrandRow.uid == uid).values(picture=picture))

    async def forget_errands(self, asked_before: datetime) -> None:
        """Forget the errands that are over and were asked for before then."""
        old = (ErrandRow.asked < asked_before) & (ErrandRow.state != ErrandState.WAITING)
        async with self._database.write() as session:
            await session.execute(delete(ErrandRow).where(old))


async def put_errands(session: AsyncSession, records: Collection[ErrandRecord]) -> None:
    """Replace what is stored of errands, within a transaction."""
    rows = [
        {"errand": record.uid, "state": record.state, "sent": record.sent, "reason": record.reason}
        for record in sorted(records, key=lambda record: record.uid)
    ]
    if rows:
        values: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "errand"}
        change = update(_TABLE).where(_TABLE.c.uid == bindparam("errand")).values(values)
        await (await session.connection()).execute(change, rows)


def _errand(row: Row[Any]) -> ErrandRecord:
    return ErrandRecord(
        uid=Uid(row.uid),
        machine=Uid(row.machine),
        host=HostId(row.host),
        kind=ErrandKind(row.kind),
        name=row.name,
        state=ErrandState(row.state),
        asked=row.asked,
        sent=row.sent,
        reason=row.reason,
    )
