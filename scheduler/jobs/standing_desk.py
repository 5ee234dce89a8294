"""Standing jobs, as people submit, see and cancel them. When their jobs are made is the watch's matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, new_uid
from bitdew.trust.roles import Role, Subject
from bitdew.wire import limits
from bitdew.wire.models import (
    SpecModel,
    StandingEnd,
    StandingExplanation,
    StandingList,
    StandingMatch,
    StandingRequest,
    StandingView,
)

from ...catalog.attributes import Attributes
from ...catalog.data import DataRoom
from ...catalog.disks import Disks
from ..finding import SHORTEST_PREFIX
from ..known import Known
from .settling import Case, Settler
from .standing import Standing, checked
from .standing_store import STANDING, StandingStore
from .store import JobStore
from .submitting import inputs_of

ENDED_TOGETHER: Final = 500
"""Jobs that are given up in one transaction."""


class StandingDesk:
    """Takes standing jobs from people and shows them."""

    def __init__(
        self,
        known: Known,
        store: StandingStore,
        jobs: JobStore,
        settler: Settler,
        data: DataRoom,
        attributes: Attributes,
        disks: Disks,
    ) -> None:
        self._known = known
        self._store = store
        self._jobs = jobs
        self._settler = settler
        self._data = data
        self._attributes = attributes
        self._disks = disks

    async def submit(self, asked: StandingRequest, caller: Subject) -> StandingView:
        """Take a standing job.

        Raises:
            UserError: `input.invalid`, `attribute.not-found`, `data.not-found`, `job.too-many-standing`.
        """
        job = asked.job
        await self._attributes.find(asked.attribute)
        await self._attributes.resolve(job.results, caller.subject_id)
        standing = checked(
            Standing(
                uid=Uid(job.request) if job.request else new_uid(),
                name=job.name,
                owner=caller.subject_id,
                created=self._known.clock.now(),
                attribute=asked.attribute,
                path=asked.path,
                spec=job.spec.to_spec(),
                results=job.results,
                inputs=await inputs_of(self._data, job.inputs, caller),
                provision=None if job.provision is None else (await self._disks.find(job.provision)).data.uid,
                machines=job.machines,
                at_once=asked.at_once,
            )
        )
        if not await self._store.add(standing, from_now=asked.from_now):
            known = await self._store.find(standing.uid, 1)
            if not known or known[0].owner != caller.subject_id:
                raise error("input.invalid", "Another request has this number", field="request")
            standing = known[0]
        self._known.changes.bump(STANDING)
        return await self._view(standing)

    async def all(self, owner: str | None) -> StandingList:
        """The standing jobs, of one user or of all; oldest first."""
        found = await self._store.of_owner(owner, limits.PAGE)
        return StandingList(standing=[await self._view(one) for one in found])

    async def show(self, text: str) -> StandingView:
        """One standing job.

        Raises:
            UserError: `job.not-found`; `input.invalid`, if several are called so.
        """
        return await self._view(await self._one(text))

    async def explain(self, text: str) -> StandingExplanation:
        """Which data it made jobs for, and what it waits for.

        Raises:
            UserError: as `show`.
        """
        standing = await self._one(text)
        view = await self._view(standing)
        found = await self._store.matches(standing.uid, limits.PAGE)
        matches = [StandingMatch(data=m.data, name=m.name, at=m.at, job=m.job, state=m.state) for m in found]
        return StandingExplanation(standing=view, why=_story(view), matches=matches)

    async def end(self, text: str, asked: StandingEnd, caller: Subject) -> StandingView:
        """Let a standing job make no more jobs; those that it made go on, unless they are to be given up as well.

        Raises:
            UserError: as `show`; `certificate.role` for whoever is neither its submitter nor an operator.
        """
        standing = await self._one(text)
        _require_owner(standing, caller)
        await self._store.end(standing.uid, caller.name, self._known.clock.now())
        self._known.changes.bump(STANDING)
        while asked.jobs and (found := await self._store.under_way(standing.uid, ENDED_TOGETHER)):
            await self._give_up(found, f"{caller.name} cancelled it")
        return await self.show(standing.uid)

    async def mine(self, text: str, caller: Subject) -> Uid | None:
        """The caller's standing job that is called so; None if none is.

        Raises:
            UserError: `input.invalid`, `certificate.role`.
        """
        try:
            standing = await self._one(text)
        except BitDewError as fault:
            if fault.key != "job.not-found":
                raise
            return None
        _require_owner(standing, caller)
        return standing.uid

    async def _give_up(self, uids: Sequence[Uid], why: str) -> None:
        async with self._known.database.facts():
            now = self._known.clock.now()
            jobs, runs = await self._jobs.jobs(uids), await self._jobs.runs(uids)
            cases = [Case.of(job, runs[uid]) for uid, job in jobs.items() if not job.ended]
            for case in cases:
                case.cancel(why, now)
            if cases:
                await self._settler.settle(cases)

    async def _one(self, text: str) -> Standing:
        found = await self._store.find(text, 2) if len(text) >= SHORTEST_PREFIX else []
        if not found:
            raise error("job.not-found", f"There is no standing job {text[:40]!r}", uid=text[:40])
        if len(found) > 1:
            do = "Give more digits of one of them: bitdew job ls --standing shows them."
            raise error("input.invalid", f"{text!r} is the beginning of several standing jobs", do=do)
        return found[0]

    async def _view(self, standing: Standing) -> StandingView:
        waits = standing.ended is None
        return StandingView(
            uid=standing.uid,
            name=standing.name or standing.spec.command[0][: limits.NAME],
            owner=standing.owner,
            created=standing.created,
            attribute=standing.attribute,
            path=standing.path,
            spec=SpecModel.of(standing.spec),
            at_once=standing.at_once,
            made=standing.made,
            counts=await self._jobs.counts(standing.uid),
            waiting=await self._store.waiting(standing.uid, standing.attribute) if waits else 0,
            ended=standing.ended,
            ended_by=standing.ended_by,
        )


def _require_owner(standing: Standing, caller: Subject) -> None:
    if caller.role is not Role.OPERATOR and standing.owner != caller.subject_id:
        why = "only whoever submitted it or an operator may"
        raise error("certificate.role", f"The standing job {standing.uid[:8]} is not yours", why=why)


def _story(view: StandingView) -> list[str]:
    told = [f"a job for each datum with the attribute {view.attribute}: {view.made} were made"]
    if view.ended is not None:
        told.append(f"{view.ended_by} cancelled it at {view.ended:%Y-%m-%d %H:%M:%S} UTC: it makes no more")
    elif view.waiting:
        told.append(f"{view.waiting} data wait: {view.at_once} of its jobs may be under way at a time")
    else:
        told.append("no datum waits: the next one that comes has its job at once")
    return told
