"""Stored standing jobs and the data that they have looked at, one transaction a call.

Owns that there is one job for each datum: the datum is marked in the transaction that stores its job, and the mark is a
primary key. Transactions that write follow one upon the other, so that the bound on jobs under way holds as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, insert, literal, select, update

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.states import JOB, JobState
from bitdew.wire.models import SpecModel

from ...catalog.among import among
from ...catalog.database import Database
from ...catalog.feed import Told, along
from ...catalog.tables import AttributeRow, DataRow, OriginRow
from ..host_store import Check
from .records import JobInput, JobRecord
from .standing import Standing, job_for
from .store import QUEUE, TOPIC, insert_jobs
from .tables import JobRow, StandingMatchRow, StandingRow

STANDING: Final = "standing jobs"
"""The topic of which standing jobs there are."""
MOST: Final = 100
"""Standing jobs of one user that make jobs."""
UNDER_WAY: Final = sorted(set(JobState) - JOB.ends())
_ARRIVED: Final = DataRow.alive & (
    DataRow.awaited.is_(False) | exists().where(OriginRow.uid == DataRow.uid, OriginRow.until.is_not(None))
)
"""Data whose bytes can be brought to a host."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of data that were handed in.

    Attributes:
        jobs: The new jobs.
        left: Those for which there is no room now.
        over: Whether the standing job makes no more.
    """

    jobs: Sequence[JobRecord] = ()
    left: Sequence[Uid] = ()
    over: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A datum that was looked at, and the state of its job as far as that is there."""

    data: Uid
    name: str
    at: datetime
    job: Uid | None
    state: JobState | None


class StandingStore:
    """Reads and writes standing jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, standing: Standing, *, from_now: bool) -> bool:
        """Store a new one; False, and nothing is stored, if jobs or another one have its uid.

        Args:
            standing: The standing job.
            from_now: Data that are there already are passed over.

        Raises:
            UserError: `job.too-many-standing`.
        """
        async with self._database.write() as session:
            taken = select(JobRow.uid).where(JobRow.array == standing.uid).limit(1)
            if await session.get(StandingRow, standing.uid) is not None or await session.scalar(taken) is not None:
                return False
            active = StandingRow.ended.is_(None)
            mine = select(func.count()).select_from(StandingRow).where(active, StandingRow.owner == standing.owner)
            if (await session.scalar(mine) or 0) >= MOST:
                raise error("job.too-many-standing", f"You have {MOST} standing jobs already")
            session.add(_row(standing))
            await session.flush()
            if from_now:
                passed = select(literal(standing.uid), DataRow.uid, literal(standing.created, StandingRow.created.type))
                passed = passed.join(AttributeRow, AttributeRow.uid == DataRow.attribute)
                passed = passed.where(AttributeRow.name == standing.attribute, _ARRIVED)
                await session.execute(insert(StandingMatchRow).from_select(["standing", "data", "at"], passed))
            along(session, Told(topics=(STANDING,)))
        return True

    async def end(self, uid: Uid, by: str, now: datetime) -> bool:
        """Let it make no more jobs; whether it made any until now."""
        async with self._database.write() as session:
            its = (StandingRow.uid == uid, StandingRow.ended.is_(None))
            changed = update(StandingRow).where(*its).values(ended=now, ended_by=by).returning(StandingRow.uid)
            ended = (await (await session.connection()).execute(changed)).first() is not None
            along(session, Told(topics=(STANDING, uid)))
        return ended

    async def begin(self, uid: Uid, data: Sequence[Uid], now: datetime, check: Check) -> Begun:
        """Make jobs for those of these data that match and have none, as many as there is room for.

        Args:
            uid: The standing job.
            data: In the order in which they are served.
            now: UTC.
            check: Asked first, within the transaction: if it raises, nothing is stored.
        """
        async with self._database.write() as session:
            await check(session)
            row = await session.get(StandingRow, uid)
            if row is None or row.ended is not None:
                return Begun(over=True)
            busy = select(func.count()).where(JobRow.array == uid, JobRow.state.in_(UNDER_WAY))
            room = max(0, row.at_once - (await session.scalar(busy) or 0))
            query = _unmatched(row.uid, row.attribute).where(among(DataRow.uid, data))
            names = {Uid(found): name for found, name in await session.execute(query)}
            matching = [one for one in dict.fromkeys(data) if one in names]
            chosen, left = matching[:room], matching[room:]
            if not chosen:
                return Begun(left=left)
            standing = _standing(row)
            jobs = [job_for(standing, one, names[one], row.made + n, now) for n, one in enumerate(chosen)]
            marks = [{"standing": uid, "data": d, "job": j.uid, "at": now} for d, j in zip(chosen, jobs, strict=True)]
            await session.execute(insert(StandingMatchRow), marks)
            await insert_jobs(session, jobs)
            row.made += len(jobs)
            along(session, Told(topics=(TOPIC, QUEUE, uid)))
        return Begun(jobs, left)

    # Reading --------------------------------------------------------------------------------------------------------

    async def active(self) -> dict[Uid, str]:
        """Those that make jobs, each with the name of its attribute."""
        query = select(StandingRow.uid, StandingRow.attribute).where(StandingRow.ended.is_(None))
        async with self._database.read() as session:
            rows = await session.execute(query.order_by(StandingRow.created, StandingRow.uid))
            return {Uid(uid): attribute for uid, attribute in rows}

    async def find(self, prefix: str, most: int) -> list[Standing]:
        """Those whose uid begins so."""
        query = select(StandingRow).where(StandingRow.uid.startswith(prefix, autoescape=True))
        async with self._database.read() as session:
            rows = await session.scalars(query.order_by(StandingRow.created, StandingRow.uid).limit(most))
            return [_standing(row) for row in rows]

    async def of_owner(self, owner: str | None, most: int) -> list[Standing]:
        """The latest, of one user or of all; oldest first."""
        query = select(StandingRow).order_by(StandingRow.created.desc(), StandingRow.uid).limit(most)
        if owner is not None:
            query = query.where(StandingRow.owner == owner)
        async with self._database.read() as session:
            return [_standing(row) for row in await session.scalars(query)][::-1]

    async def unmatched(self, uid: Uid, attribute: str, most: int) -> list[Uid]:
        """Data that match and were not looked at, in the order in which they came."""
        query = _unmatched(uid, attribute).order_by(DataRow.created, DataRow.uid).limit(most)
        async with self._database.read() as session:
            return [Uid(found) for found, _ in await session.execute(query)]

    async def waiting(self, uid: Uid, attribute: str) -> int:
        """How many data match and have no job yet."""
        query = select(func.count()).select_from(_unmatched(uid, attribute).subquery())
        async with self._database.read() as session:
            return await session.scalar(query) or 0

    async def matching(self, data: Collection[Uid], attributes: Collection[str]) -> dict[str, list[Uid]]:
        """Which of these data have arrived and have which of these attributes."""
        query = select(AttributeRow.name, DataRow.uid).join(AttributeRow, AttributeRow.uid == DataRow.attribute)
        query = query.where(among(DataRow.uid, data), _ARRIVED, AttributeRow.name.in_(sorted(attributes)))
        found: dict[str, list[Uid]] = {}
        async with self._database.read() as session:
            for name, uid in await session.execute(query.order_by(DataRow.created, DataRow.uid)):
                found.setdefault(name or "", []).append(Uid(uid))
        return found

    async def matches(self, uid: Uid, most: int) -> list[Match]:
        """What it looked at last, newest first."""
        columns = (StandingMatchRow.data, DataRow.name, StandingMatchRow.at, StandingMatchRow.job, JobRow.state)
        query = (
            select(*columns)
            .join(DataRow, DataRow.uid == StandingMatchRow.data)
            .outerjoin(JobRow, JobRow.uid == StandingMatchRow.job)
            .where(StandingMatchRow.standing == uid)
            .order_by(StandingMatchRow.at.desc(), JobRow.place.desc(), StandingMatchRow.data)
            .limit(most)
        )
        async with self._database.read() as session:
            return [
                Match(Uid(data), name, at, Uid(job) if job else None, JobState(state) if state else None)
                for data, name, at, job, state in await session.execute(query)
            ]

    async def under_way(self, uid: Uid, most: int) -> list[Uid]:
        """Jobs of it that have not ended."""
        query = select(JobRow.uid).where(JobRow.array == uid, JobRow.state.in_(UNDER_WAY)).limit(most)
        async with self._database.read() as session:
            return [Uid(one) for one in await session.scalars(query)]


def _unmatched(uid: str, attribute: str) -> Any:
    looked_at: ColumnElement[bool] = exists().where(
        StandingMatchRow.standing == uid, StandingMatchRow.data == DataRow.uid
    )
    query = select(DataRow.uid, DataRow.name).join(AttributeRow, AttributeRow.uid == DataRow.attribute)
    return query.where(AttributeRow.name == attribute, _ARRIVED, ~looked_at)


def _row(standing: Standing) -> StandingRow:
    return StandingRow(
        uid=standing.uid,
        name=standing.name,
        owner=standing.owner,
        created=standing.created,
        attribute=standing.attribute,
        path=standing.path,
        spec=SpecModel.of(standing.spec).model_dump(mode="json"),
        results=standing.results,
        inputs=[[one.path, one.data] for one in standing.inputs],
        provision=standing.provision,
        machines=standing.machines,
        at_once=standing.at_once,
        made=standing.made,
        ended=standing.ended,
        ended_by=standing.ended_by,
    )


def _standing(row: StandingRow) -> Standing:
    return Standing(
        uid=Uid(row.uid),
        name=row.name,
        owner=row.owner,
        created=row.created,
        attribute=row.attribute,
        path=row.path,
        spec=SpecModel.model_validate(row.spec).to_spec(),
        results=row.results,
        inputs=tuple(JobInput(Uid(data), path) for path, data in row.inputs),
        provision=Uid(row.provision) if row.provision else None,
        machines=row.machines,
        at_once=row.at_once,
        made=row.made,
        ended=row.ended,
        ended_by=row.ended_by,
    )
