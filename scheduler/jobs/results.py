"""From what a run left to data: who may hand over which bytes, under which names they become data, and whose they are.

Owns that only what was claimed is taken: the bytes of an output are checked against the root that the run claimed when
it was compared with others. A result is stored with its datum, or neither is: there is none of a run that was given up.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid
from bitdew.core.states import RunState
from bitdew.trust.roles import Subject
from bitdew.wire.models import OutputKept, OutputModel, OutputRequest, PutRequest, UploadReply, UploadRequest

from ...catalog.data_store import Beside
from ...catalog.publishing import Publishing
from ..known import Known
from .judging import Verdict, judge
from .records import JobRecord, ResultRecord, RunRecord
from .result_store import add_result
from .store import JobStore

_ODD = re.compile(r"[^A-Za-z0-9.]+")
SHOWN = 60
"""Characters of a file's own name that its datum's has."""
OF_DATUM = 50
"""Characters of the name of the datum that a job was made for."""


class Results:
    """Takes outputs in."""

    def __init__(self, known: Known, store: JobStore, publishing: Publishing) -> None:
        self._known = known
        self._store = store
        self._publishing = publishing

    async def begin(self, uid: str, asked: OutputRequest, caller: Subject) -> UploadReply:
        """Make room for an output's bytes: they are uploaded as any datum's.

        Raises:
            UserError: `run.not-found`, if the caller is not to hand over the outputs of such a run; `job.outputs`, if
                it claimed no such output; `disk.name-taken`, if it was handed over already. HostError: `storage.full`.
        """
        job, run = await self._chosen(uid, caller)
        output = _claimed(run, asked.path)
        request = UploadRequest(name=datum_name(job, run, output.path), size=output.size, fingerprint=output.root)
        return await self._publishing.begin(request, caller)

    async def keep(self, uid: str, upload: str, asked: OutputRequest, caller: Subject) -> OutputKept:
        """Make a completed upload the result that was claimed. Said twice, it is kept once.

        Raises:
            UserError: as `begin`; `upload.not-found`, `disk.changed` if these are other bytes.
        """
        job, run = await self._chosen(uid, caller)
        output = _claimed(run, asked.path)
        kept = {one.path: one for one in (await self._store.results([run.uid])).get(run.uid, [])}
        if output.path in kept:
            return OutputKept(data=kept[output.path].data)

        def beside(data: Uid) -> Beside:
            result = ResultRecord(run.uid, output.path, data, ContentRoot(output.root), output.size)

            async def store(session: AsyncSession) -> None:
                if not await add_result(session, result):  # it was given up this very moment
                    raise _not_chosen(uid)

            return store

        data = await self._publishing.put(
            upload, PutRequest(attribute=job.results), caller, owner=job.owner, root=output.root, beside=beside
        )
        return OutputKept(data=data)

    async def missing(self, run: RunRecord) -> Collection[str]:
        """The outputs of a run that were claimed and have not been handed over."""
        if not run.outputs:
            return []
        kept = {one.path for one in (await self._store.results([run.uid])).get(run.uid, [])}
        return [one.path for one in run.outputs if one.path not in kept]

    async def _chosen(self, uid: str, caller: Subject) -> tuple[JobRecord, RunRecord]:
        """The caller's run `uid`, if its outputs are the job's results."""
        run = await self._store.run(Uid(uid))
        if run is not None and run.host == caller.subject_id and run.state is RunState.STORING:
            job, runs = (await self._store.jobs([run.job]))[run.job], (await self._store.runs([run.job]))[run.job]
            if not job.ended and judge(job.spec, runs).verdicts.get(run.uid) is Verdict.STORE:
                return job, run
        raise _not_chosen(uid)


def _not_chosen(uid: str) -> BitDewError:
    why = "it was not told to hand over what such a run left"
    return error("run.not-found", f"This host has no run {uid[:40]!r} to store", why=why, uid=uid[:40])


def _claimed(run: RunRecord, path: str) -> OutputModel:
    for one in run.outputs or ():
        if one.path == path:
            return one
    raise error("job.outputs", f"Run {run.uid[:8]} did not claim an output {path[:80]!r}")


def datum_name(job: JobRecord, run: RunRecord, path: str) -> str:
    """What an output is called as a datum: by its job's run, its place among the outputs, and its own name.

    One of a job that was made for a datum begins with that one's name. The run is named too: an earlier one that was
    lost may have handed over some of the same.
    """
    place = next(number for number, one in enumerate(run.outputs or ()) if one.path == path)
    own = _ODD.sub("-", path.rsplit("/", 1)[-1])[-SHOWN:].strip("-.") or "output"
    if job.datum:
        return f"{job.datum[:OF_DATUM].rstrip('._-')}-{run.uid[:8]}-{place}-{own}"
    return f"job-{run.uid[:12]}-{place}-{own}"
