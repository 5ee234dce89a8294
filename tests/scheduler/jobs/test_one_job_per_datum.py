"""Exactly one job per datum, whatever happens and in whatever order: two processes that both believe they lead, crashes
in the middle, restarts, cancels, data that come, change and go."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from bitdew.catalog.attribute_store import AttributeRecord
from bitdew.catalog.data_store import DataStore, Datum
from bitdew.catalog.database import Database
from bitdew.catalog.leadership import Leadership
from bitdew.scheduler.changes import Changes
from bitdew.scheduler.jobs.standing import Standing
from bitdew.scheduler.jobs.standing_store import StandingStore
from bitdew.scheduler.jobs.standing_watch import StandingWatch
from bitdew.scheduler.jobs.store import JobStore
from bitdew.scheduler.jobs.tables import JobRow, StandingMatchRow
from bitdew.scheduler.known import Known
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select, update
from structlog.testing import capture_logs

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.ids import ContentRoot, Uid, new_uid
from bitdew.core.job import JobSpec
from bitdew.core.states import JOB, JobState
from bitdew.testing.clock import SkippingClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS, OTHERS = "events", "others"


class CrashError(Exception):
    """The process ends in the middle of a transaction."""


class CrashingLeadership(Leadership):
    """One that lets a write fail when a test says so."""

    crash = False

    async def check(self, session: Any) -> None:
        await super().check(session)
        if self.crash:
            raise CrashError


class StandingMachine(RuleBasedStateMachine):
    """One database, two processes on it, people and data."""

    @initialize()
    def begin(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 (the folder in it is made under a name of its own)
        self.folder = Path(tempfile.mkdtemp(prefix="bitdew-", dir=memory if memory.exists() else None))
        self.quiet = capture_logs()
        self.quiet.__enter__()
        self.runner = asyncio.Runner()
        self.clock = SkippingClock()
        self.moment = NOW
        self.count = 0
        self.data: dict[Uid, str] = {}
        self.awaited: set[Uid] = set()
        self.standing: dict[Uid, Standing] = {}
        self.ended: set[Uid] = set()
        self.passed: dict[Uid, set[Uid]] = {}
        self.seen: dict[Uid, set[Uid]] = {}
        self.run(self.open())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def open(self) -> None:
        self.database = Database.in_file(self.folder / "catalog.sqlite3")
        await self.database.migrate()
        self.store, self.jobs = StandingStore(self.database), JobStore(self.database)
        self.catalog = DataStore(self.database)
        self.attributes = {}
        for name in (EVENTS, OTHERS):
            record = AttributeRecord(new_uid(), name, Attribute(), None, None, None, (), "ada", NOW, NOW)
            self.attributes[name] = await self.catalog.attributes.add(record)
        self.watches = [self.new_watch(), self.new_watch()]

    def new_watch(self) -> StandingWatch:
        known = Known(
            database=self.database,
            data=self.catalog,
            attributes=self.catalog.attributes,
            changes=Changes(self.clock),
            clock=self.clock,
            **dict.fromkeys(("store", "hosts", "wishes", "progress", "feed"), cast("Any", None)),
        )
        return StandingWatch(known, self.store, CrashingLeadership(self.database))

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    def told(self, uid: Uid) -> None:
        for watch in self.watches:
            watch.look_at([uid])

    # What happens ---------------------------------------------------------------------------------------------------

    @rule(attribute=st.sampled_from([EVENTS, EVENTS, OTHERS]), awaited=st.booleans())
    def put(self, attribute: str, awaited: bool) -> None:
        root = ContentRoot(new_uid() * 2)
        self.count += 1
        data = Data(new_uid(), f"d{self.count}", root, 10, 65536, self.now(), "ada")
        self.run(self.catalog.add(Datum(data, "0" * 64, self.attributes[attribute], awaited=awaited)))
        self.data[data.uid] = attribute
        if awaited:
            self.awaited.add(data.uid)
        self.told(data.uid)

    @precondition(lambda self: self.awaited)
    @rule()
    def bytes_come(self) -> None:
        uid = next(uid for uid in self.data if uid in self.awaited)
        root = self.run(self.catalog.roots([uid]))[uid]
        assert self.run(self.catalog.came({root: 10}, self.now())) == [uid]
        self.awaited.discard(uid)
        self.told(uid)

    @precondition(lambda self: self.data)
    @rule(pick=st.integers(0, 99), attribute=st.sampled_from([EVENTS, OTHERS]))
    def attach(self, pick: int, attribute: str) -> None:
        uid = list(self.data)[pick % len(self.data)]
        self.run(self.catalog.set_attribute(uid, self.attributes[attribute].uid, None, self.now()))
        self.data[uid] = attribute
        self.told(uid)

    @precondition(lambda self: self.data)
    @rule(pick=st.integers(0, 99))
    def remove(self, pick: int) -> None:
        uid = list(self.data)[pick % len(self.data)]
        self.run(self.catalog.end(uid, self.now(), "no more"))
        del self.data[uid]
        self.awaited.discard(uid)
        self.told(uid)

    @precondition(lambda self: len(self.standing) < 3)
    @rule(from_now=st.booleans(), at_once=st.sampled_from([1, 2, 100]))
    def stand(self, from_now: bool, at_once: int) -> None:
        spec = JobSpec(("root", "{}"))
        one = Standing(new_uid(), None, "ada", self.now(), EVENTS, "{}", spec, at_once=at_once)
        assert self.run(self.store.add(one, from_now=from_now))
        self.standing[one.uid] = one
        self.passed[one.uid] = self.matching() if from_now else set()
        self.seen[one.uid] = set()

    @precondition(lambda self: set(self.standing) - self.ended)
    @rule()
    def cancel(self) -> None:
        uid = next(uid for uid in self.standing if uid not in self.ended)
        assert self.run(self.store.end(uid, "ada", self.now()))
        assert not self.run(self.store.end(uid, "ada", self.now()))
        self.ended.add(uid)

    @rule(pick=st.integers(0, 99), state=st.sampled_from(sorted(JOB.ends())))
    def a_job_ends(self, pick: int, state: JobState) -> None:
        # In an order that does not depend on chance: uids do.
        jobs = sorted(self.all_jobs(), key=lambda job: (list(self.standing).index(job.array), job.place))
        if live := [job for job in jobs if job.state not in JOB.ends()]:
            self.run(self._end([live[pick % len(live)].uid], state))

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.watches[which] = self.new_watch()

    @rule(which=st.integers(0, 1))
    def step(self, which: int) -> None:
        self.note()
        self.run(self.watches[which].step())

    @rule()
    def both_step(self) -> None:
        self.note()

        async def both() -> None:
            await asyncio.gather(*(watch.step() for watch in self.watches))

        self.run(both())

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        self.note()
        watch = self.watches[which]
        lead = watch._leadership
        lead.crash = True
        try:
            self.run(watch.step())
        except CrashError:
            watch.look_at_all()
        finally:
            lead.crash = False

    # What holds -----------------------------------------------------------------------------------------------------

    def matching(self) -> set[Uid]:
        return {uid for uid, attribute in self.data.items() if attribute == EVENTS and uid not in self.awaited}

    def note(self) -> None:
        """What a step may make jobs for."""
        for uid in set(self.standing) - self.ended:
            self.seen[uid] |= self.matching() - self.passed[uid]

    def all_jobs(self) -> list[Any]:
        async def read() -> list[Any]:
            async with self.database.read() as session:
                return list(await session.scalars(select(JobRow)))

        return self.run(read())

    def marks(self) -> list[Any]:
        async def read() -> list[Any]:
            async with self.database.read() as session:
                return list(await session.scalars(select(StandingMatchRow)))

        return self.run(read())

    async def _end(self, uids: list[str], state: JobState) -> None:
        async with self.database.write() as session:
            await session.execute(update(JobRow).where(JobRow.uid.in_(uids)).values(state=state))

    @invariant()
    def no_datum_has_two_jobs_and_no_bound_is_passed(self) -> None:
        if not hasattr(self, "database"):
            return
        jobs, marks = self.all_jobs(), self.marks()
        names = [(job.array, job.datum) for job in jobs]
        assert len(names) == len(set(names))
        assert {job.uid for job in jobs} == {mark.job for mark in marks if mark.job}
        for uid, one in self.standing.items():
            mine = [job for job in jobs if job.array == uid]
            assert sum(job.state not in JOB.ends() for job in mine) <= one.at_once
            assert sorted(job.place for job in mine) == list(range(len(mine)))
            assert {mark.data for mark in marks if mark.standing == uid and mark.job} <= self.seen[uid]

    def teardown(self) -> None:
        if not hasattr(self, "database"):
            return
        try:
            self.everything_that_matches_has_its_job()
        finally:
            self.run(self.database.close())
            self.runner.close()
            self.quiet.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def everything_that_matches_has_its_job(self) -> None:
        """Once jobs end and nothing else happens, and without a look at everything: what woke the watch must do."""
        watch = self.watches[0]
        for _ in range(len(self.data) + 2):
            self.note()
            self.run(watch.step())
            self.no_datum_has_two_jobs_and_no_bound_is_passed()
            self.run(self._end([job.uid for job in self.all_jobs()], JobState.DONE))
        marks = self.marks()
        for uid in set(self.standing) - self.ended:
            made = {mark.data for mark in marks if mark.standing == uid and mark.job}
            assert self.matching() - self.passed[uid] <= made


StandingMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestExactlyOneJobPerDatum = StandingMachine.TestCase
