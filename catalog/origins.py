"""Origins: publishers who offer a datum's bytes from where the file is, so that the repository need not have them.

Owns who offers what, and until when that counts. A publisher says every few seconds that it is still there; one that
fell silent is away, and stays known, so that people can be told whom the datum waits for. Times are the service's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Final, cast

import structlog
from sqlalchemy import ColumnElement, Table, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.attribute import Protocol
from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.swarm.metainfo import read_metainfo
from bitdew.trust.roles import Subject
from bitdew.wire.models import OriginReply, OriginRequest

from .contents import Contents
from .data import DataRoom
from .data_store import Datum
from .database import Database
from .feed import Told, along
from .tables import OriginRow
from .upsert import upsert

log = structlog.get_logger(__name__)
LEASE: Final = timedelta(seconds=12)
"""How long a publisher counts as there after each word; it speaks three times as often."""
_ORIGINS: Final = cast("Table", OriginRow.__table__)
LOOK_SECONDS: Final = 2.0
"""How often it is looked whose lease ended."""


class Origins:
    """Who offers what. Whoever listens at `changed` is told the data whose publisher came, moved or went."""

    def __init__(self, database: Database, data: DataRoom, contents: Contents, clock: Clock) -> None:
        """Nothing is read yet."""
        self._database = database
        self._data = data
        self._contents = contents
        self._clock = clock
        self.changed: Callable[[Collection[Uid]], None] = lambda _uids: None

    async def open(self) -> None:
        """Publishers who were there when the service stopped get one lease to speak again."""
        until = self._clock.now() + LEASE
        async with self._database.write() as session:
            await session.execute(update(OriginRow).where(OriginRow.until.is_not(None)).values(until=until))

    async def offer(self, name: str, asked: OriginRequest, caller: Subject) -> OriginReply:
        """Take in that `caller` offers a datum, or still does.

        Raises:
            UserError: `data.not-found`, `certificate.role`; `input.invalid` for a datum that may move by HTTP alone, or
                for metainfo of other bytes; `disk.changed`, if they are not as many as the datum has.
            HostError: `storage.failed`.
        """
        datum = await self._data.mine(name, caller, "offer")
        _require_swarm(datum)
        uid = datum.data.uid
        async with self._contents.changing:
            await self._data.living(uid)  # else no one would ever free the metainfo
            if asked.metainfo is not None:
                metainfo = await asyncio.to_thread(read_metainfo, asked.metainfo, expected=datum.data.root)
                if metainfo.content.size != datum.data.size:
                    why = f"the metainfo says {metainfo.content.size} bytes, and {datum.data.size} were announced"
                    raise error("disk.changed", f"These are not the bytes of {datum.data.name!r}", why=why)
                await self._contents.repository.keep_metainfo(metainfo)
            else:
                await self._contents.repository.metainfo(datum.data.root)  # a service restored without it says so
            changed = await self._database.gather(self._saying(uid, caller.subject_id, asked.swarm))
        if changed:
            self.changed([uid])
        return OriginReply(seconds=LEASE.total_seconds())

    def _saying(self, uid: Uid, subject: str, swarm: str) -> Callable[[AsyncSession], Awaitable[bool]]:
        until = self._clock.now() + LEASE

        async def say(session: AsyncSession) -> bool:
            known = await session.execute(select(OriginRow.swarm, OriginRow.until).where(OriginRow.uid == uid))
            before = known.first()
            row = {"uid": uid, "subject": subject, "swarm": swarm, "until": until}
            await upsert(session, _ORIGINS, [row])
            news = before is None or before.until is None or before.swarm != swarm
            if news:
                along(session, Told(topics=(uid,), data=(uid,)))
            return news

        return say

    async def withdraw(self, name: str, caller: Subject) -> None:
        """Take in that `caller` offers a datum no longer; nothing happens if it did not.

        Raises:
            UserError: `data.not-found`, `certificate.role`.
        """
        datum = await self._data.mine(name, caller, "withdraw")
        await self._end(OriginRow.uid == datum.data.uid)

    async def shut_out(self, subject: str) -> None:
        """Somebody's certificates were revoked: what they offer counts no more."""
        await self._end(OriginRow.subject == subject)

    async def watch(self) -> None:
        """Notice publishers who fell silent, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.notice_silence(self._clock.now())
            except BitDewError as fault:
                log.warning("whether publishers are silent can't be seen now", key=fault.key, why=fault.why)

    async def notice_silence(self, now: datetime) -> None:
        """End the offers whose lease ended before `now`."""
        silent = OriginRow.until < now
        async with self._database.read() as session:
            if await session.scalar(select(OriginRow.uid).where(silent).limit(1)) is None:
                return
        await self._end(silent)

    async def _end(self, which: ColumnElement[bool]) -> None:
        change = update(OriginRow).where(which, OriginRow.until.is_not(None)).values(until=None)

        async def end(session: AsyncSession) -> list[Uid]:
            rows = await (await session.connection()).execute(change.returning(OriginRow.uid))
            ended = [Uid(uid) for uid in rows.scalars()]
            if ended:
                along(session, Told(topics=tuple(ended), data=tuple(ended)))
            return ended

        if ended := await self._database.gather(end):
            self.changed(ended)


def _require_swarm(datum: Datum) -> None:
    if datum.attribute.attribute.protocol is Protocol.HTTP:
        why = "its wish protocol=http lets it come from the repository alone, which has no copy"
        do = f"Give it another wish (bitdew data attr {datum.data.name} --protocol auto), or put it without --seed."
        raise error("input.invalid", f"{datum.data.name!r} can't be offered by its publisher", why=why, do=do)
