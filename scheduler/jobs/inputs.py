"""Files that people put for their own jobs to read: whoever may submit a job may put them.

Owns how much of that a user may have, who sees it, and how long it lives: as long as jobs read it. The bytes come by an
upload as any datum's do.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from typing import Final

import structlog

from bitdew.core.attribute import Attribute
from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.units import format_size
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import JobInputDone, JobInputReply, JobInputRequest, PutRequest, UploadRequest, WholeRequest

from ...catalog.data import DataRoom
from ...catalog.data_store import Datum
from ...catalog.publishing import Publishing
from ...catalog.references import datum_not_found
from ...catalog.small import SmallData
from ..known import Known
from .input_store import InputStore

log = structlog.get_logger(__name__)

QUOTA: Final = 10 * 2**30
"""Bytes that a user may have put for jobs, unless the operator says otherwise."""
UNUSED: Final = timedelta(hours=1)
"""How long one stays that no job was submitted for: as long as an upload that nobody goes on with."""
AFTER: Final = timedelta(days=1)
"""How long one stays when all its jobs have ended: whoever submits them again need not send it again."""
WISHES: Final = {"replica": 0}
"""It stays in the repository; copies are made where runs read it. One that was given other wishes is its owner's."""
_WISHES: Final = Attribute.from_dict(WISHES)
_ODD: Final = re.compile(r"[^A-Za-z0-9._]+")


class Inputs:
    """Takes in what jobs are to read, and ends it when none does any more."""

    def __init__(
        self,
        known: Known,
        store: InputStore,
        data: DataRoom,
        publishing: Publishing,
        small: SmallData,
        quota: int = QUOTA,
    ) -> None:
        """`quota`: bytes that one user may have; publishers and operators may fill the repository anyway."""
        self._known = known
        self._store = store
        self._data = data
        self._publishing = publishing
        self._small = small
        self._quota = quota
        self._counting = asyncio.Lock()
        self._asked: dict[Uid, float] = {}
        """Inputs that were asked for again lately, each with the moment: a job for it is about to come."""

    async def begin(self, asked: JobInputRequest, caller: Subject) -> JobInputReply:
        """Find what the caller put before, or make room for it; where all bytes came along, make it the datum.

        Raises:
            UserError: `job.inputs-full`, with what is used of which quota; as `Publishing.begin` and `SmallData.put`.
        """
        name = input_name(caller.subject_id, asked.root, asked.label)
        async with self._turn(caller):
            if (known := await self._known_one(name, asked.root, caller)) is not None:
                return JobInputReply(data=known)
            await self._require_room(name, asked.size, caller)
            if asked.raw is None:
                wish = UploadRequest(name=name, size=asked.size, fingerprint=asked.fingerprint, empty=asked.empty)
                begun = await self._publishing.begin(wish, caller)
                return JobInputReply(upload=begun.upload, held=begun.held)
            whole = WholeRequest(name=name, root=asked.root, raw=asked.raw, attribute=WISHES)
            datum, _new = await self._small.put(whole, caller, for_jobs=True)
            return JobInputReply(data=datum.data.uid)

    async def keep(self, upload: str, said: JobInputDone, caller: Subject) -> JobInputReply:
        """Make a completed upload the datum.

        Raises:
            UserError: `job.inputs-full`; as `Publishing.put`. Whoever did not hear the answer finds it by `begin`.
        """
        async with self._turn(caller):
            begun = self._publishing.show(upload, caller)
            await self._require_room(begun.name, begun.size, caller)
            told = PutRequest(attribute=WISHES)
            return JobInputReply(data=await self._publishing.put(upload, told, caller, root=said.root, for_jobs=True))

    def _turn(self, caller: Subject) -> AbstractAsyncContextManager[object]:
        """Who has a quota is counted one after the other."""
        return self._counting if caller.role is Role.USER else nullcontext()

    async def _known_one(self, name: str, root: str, caller: Subject) -> Uid | None:
        datum = await self._known.data.find(name)
        if datum is None or not _is_input(datum, caller) or datum.data.root != root or datum.damaged:
            return None
        self._asked[datum.data.uid] = self._known.clock.monotonic()
        return datum.data.uid

    async def _require_room(self, name: str, size: int, caller: Subject) -> None:
        if caller.role is not Role.USER:
            return
        used = await self._store.used(caller.subject_id) + self._publishing.promised(caller, but=name)
        if used + size > self._quota:
            raise error(
                "job.inputs-full",
                f"There is no room for {format_size(size)} more of what your jobs read",
                why=f"{format_size(used)} of {format_size(self._quota)} are used",
                used=used,
                quota=self._quota,
            )

    # Ending -----------------------------------------------------------------------------------------------------------

    async def tidy(self) -> int:
        """End what no job reads any more, or was put and never read; how many those were."""
        now = self._known.clock.now()
        return await self._end(await self._store.idle(now - UNUSED, now - AFTER))

    async def drop(self, uid: str, caller: Subject) -> None:
        """End one that its owner has no use for any more, if no job reads it: else it ends with those.

        Raises:
            UserError: `data.not-found`, for what is no such datum, or another's.
        """
        datum = await self._data.living(uid)
        if not _is_input(datum, caller):
            raise datum_not_found(uid, [])
        self._asked.pop(datum.data.uid, None)
        now = self._known.clock.now()
        await self._end(await self._store.idle(now, now, [datum.data.uid]))

    async def released(self, data: Collection[Uid]) -> int:
        """Jobs that read these are forgotten: end those that no other job reads."""
        now = self._known.clock.now()
        return await self._end(await self._store.idle(now, now - AFTER, data) if data else [])

    async def read_by(self, jobs: Collection[Uid]) -> list[Uid]:
        """What of this these jobs read."""
        return await self._store.read_by(jobs)

    async def _end(self, data: Collection[Uid]) -> int:
        lately = self._known.clock.monotonic() - UNUSED.total_seconds()
        self._asked = {uid: moment for uid, moment in self._asked.items() if moment > lately}
        ended = 0
        for uid, datum in (await self._known.data.get([uid for uid in data if uid not in self._asked])).items():
            if datum.alive and datum.attribute.name is None and datum.attribute.attribute == _WISHES:
                log.info("an input that no job reads is ended", data=uid)
                ended += await self._data.end(datum, "no job reads it any more")
        return ended


def input_name(owner: str, root: str, label: str) -> str:
    """The name of a datum that its owner puts for jobs: the same for the same bytes, with a `label` for people."""
    whose = hashlib.sha256(owner.encode()).hexdigest()[:8]
    return f"in-{root[:16]}-{whose}-{_ODD.sub('-', label)[-60:].strip('-._') or 'file'}"


def _is_input(datum: Datum, caller: Subject) -> bool:
    return datum.for_jobs and datum.data.owner == caller.subject_id
