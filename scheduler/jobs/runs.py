"""Runs, as hosts are told of them and tell of them. What they say is taken in by `hearing`."""

from __future__ import annotations

from collections.abc import Collection

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import RunState
from bitdew.trust.roles import Subject
from bitdew.wire.models import RunInput, RunOrder, RunReply, RunReport, SpecModel

from ..known import Known
from .hearing import Heard, Hearing, not_found, reply_to
from .results import Results
from .settling import Settler
from .store import JobStore


class Runs:
    """Hears hosts about runs, and tells them what these are."""

    def __init__(self, known: Known, store: JobStore, settler: Settler, results: Results) -> None:
        self._known = known
        self._store = store
        self._settler = settler
        self._hearing = Hearing(known, settler, results)

    async def orders(self, uids: Collection[Uid]) -> dict[Uid, RunOrder]:
        """What these runs are to do. One whose inputs are not there any more is left out."""
        runs = await self._store.runs_by_uid(uids)
        jobs = await self._store.jobs({run.job for run in runs.values()})
        data = await self._known.data.get({one.data for job in jobs.values() for one in job.inputs})
        found = {}
        for uid, run in runs.items():
            job = jobs[run.job]
            if all(one.data in data for one in job.inputs):
                inputs = [
                    RunInput(data=one.data, root=data[one.data].data.root, size=data[one.data].data.size, path=one.path)
                    for one in job.inputs
                ]
                found[uid] = RunOrder(job=job.uid, number=run.number, spec=SpecModel.of(job.spec), inputs=inputs)
        return found

    async def report(self, uid: str, said: RunReport, caller: Subject) -> RunReply:
        """Take in how a run stands; with `wait`, held open until there is a verdict on its result.

        Raises:
            UserError: `run.not-found`, if the caller has no such run.
        """
        deadline = self._known.clock.monotonic() + said.wait
        heard = await self._hearing.take_in(Uid(uid), said, HostId(caller.subject_id))
        while said.state is RunState.STORING and heard.reply.wanted and heard.reply.verdict == "wait":
            left = deadline - self._known.clock.monotonic()
            if not await self._known.changes.wait(uid, heard.version, left):
                break
            version = self._known.changes.version(uid)
            case = (await self._settler.cases([Uid(uid)])).get(Uid(uid))
            if case is None:
                raise not_found(uid)
            heard = Heard(reply_to(case, Uid(uid)), version)
        return heard.reply
