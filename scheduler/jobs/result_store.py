"""What runs left as data: stored with the data themselves, and found again where the run was given up."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import JOB, RUN, RunState

from ...catalog.among import among
from ...catalog.database import Database
from .records import ResultRecord, RunRecord
from .rows import run_from
from .tables import JobInputRow, JobRow, ResultRow, RunRow

_UNDONE = sorted(RUN.ends() - {RunState.DONE})
_JOB_ENDS = sorted(JOB.ends())


async def add_result(session: AsyncSession, result: ResultRecord) -> bool:
    """Store that an output of a run is a datum now; False, and nothing is stored, if the run has ended."""
    state = select(RunRow.state).where(RunRow.uid == result.run).with_for_update()  # it can't end before this is stored
    if await session.scalar(state) != RunState.STORING:
        return False
    session.add(ResultRow(run=result.run, path=result.path, data=result.data, root=result.root, size=result.size))
    await session.flush()
    return True


class ResultStore:
    """Finds what runs left."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def left_over(self) -> dict[Uid, RunState]:
        """What runs handed over that then failed, were lost or cancelled: the data, and what became of the run.

        Data that a job reads which has not ended are left out.
        """
        reader = JobRow.__table__.alias("reader")
        reads = exists().where(
            JobInputRow.data == ResultRow.data, JobInputRow.job == reader.c.uid, reader.c.state.not_in(_JOB_ENDS)
        )
        query = (
            select(ResultRow.data, RunRow.state)
            .join(RunRow, RunRow.uid == ResultRow.run)
            .where(RunRow.state.in_(_UNDONE), ~reads)
        )
        async with self._database.read() as session:
            return {Uid(data): RunState(state) for data, state in await session.execute(query)}

    async def forget(self, data: Collection[Uid]) -> None:
        """These data are results no more."""
        async with self._database.write() as session:
            await session.execute(delete(ResultRow).where(among(ResultRow.data, data)))

    async def storing_on(self, hosts: Collection[HostId]) -> list[RunRecord]:
        """The runs of these hosts that hand over what they left, or wait for a verdict on it."""
        columns = [column for column in RunRow.__table__.columns if column.name != "log"]
        query = select(*columns).where(among(RunRow.host, hosts), RunRow.state == RunState.STORING)
        async with self._database.read() as session:
            return [run_from(row) for row in await session.execute(query)]
