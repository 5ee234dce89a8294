"""Standing jobs as a developer uses them: a job for each datum that has an attribute, as data come.

Owns these calls. Which data match is decided on the other side of the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitdew.core.ids import checked_name, new_uid
from bitdew.wire import models as m
from bitdew.wire.standing import AT_ONCE

from .connection import Connection, name_part
from .data import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bitdew.core.attribute import Attribute
    from bitdew.core.job import JobSpec


class StandingCalls(Connection):
    """The part of `BitDew` that is about standing jobs."""

    async def submit_each(
        self,
        spec: JobSpec,
        attribute: str,
        *,
        path: str = "{}",
        name: str | None = None,
        inputs: Sequence[tuple[str, str]] = (),
        results: Attribute | str | None = None,
        provision: str | None = None,
        machines: int = 1,
        at_once: int = AT_ONCE,
        from_now: bool = False,
    ) -> m.StandingView:
        """Ask for a command to be run once for each datum that has an attribute: those there now, and all that come.

        There is exactly one job for each datum, across restarts of the service, until `end_standing`. The jobs are
        found like those of an array, by the standing job's uid.

        Args:
            spec: The command; `{}` in it, in the outputs and in the environment stands for the datum's name.
            attribute: The name of the attribute.
            path: Where the datum's bytes stand in its job's directory; `{}` stands for its name.
            name: For people; the program's by default.
            inputs: Data that each job reads beside: each one's name or uid, and its path.
            results: What should be true of the results; by default they stay in the repository.
            provision: A disk: where no host can run the jobs, machines are deployed from it for them.
            machines: How many such machines at most.
            at_once: How many of the jobs are under way at a time at most.
            from_now: Leave out the data that are there already.

        Raises:
            BitDewError: `attribute.not-found`, `data.not-found`, `input.invalid`, `job.too-many-standing`.
        """
        job = m.SubmitRequest(
            name=None if name is None else checked_name(name, "job's name"),
            spec=m.SpecModel.of(spec),
            inputs=[m.InputModel(data=name_part(data), path=place) for data, place in inputs],
            results={"replica": 0} if results is None else chosen(results),
            provision=None if provision is None else name_part(provision),
            machines=machines,
            request=new_uid(),
        )
        request = m.StandingRequest(
            job=job, attribute=name_part(attribute), path=path, at_once=at_once, from_now=from_now
        )
        return await self._call("POST", "/v1/standing-jobs", m.StandingView, body=request)

    async def standing_jobs(self, *, mine: bool = False) -> list[m.StandingView]:
        """The standing jobs, oldest first; the latest thousand."""
        query = {"mine": "1"} if mine else {}
        return (await self._call("GET", "/v1/standing-jobs", m.StandingList, query=query)).standing

    async def standing_job(self, uid: str) -> m.StandingView:
        """One standing job, by its uid or the beginning of it. Raises UserError `job.not-found`."""
        return await self._call("GET", f"/v1/standing-jobs/{name_part(uid)}", m.StandingView)

    async def explain_standing(self, uid: str) -> m.StandingExplanation:
        """Which data it made jobs for, and what it waits for. Raises UserError `job.not-found`."""
        return await self._call("GET", f"/v1/standing-jobs/{name_part(uid)}/explain", m.StandingExplanation)

    async def end_standing(self, uid: str, *, jobs: bool = False) -> m.StandingView:
        """Let a standing job make no more jobs; with `jobs`, those under way are given up too.

        Raises:
            BitDewError: `job.not-found`, `certificate.role`.
        """
        path, body = f"/v1/standing-jobs/{name_part(uid)}/cancel", m.StandingEnd(jobs=jobs)
        return await self._call("POST", path, m.StandingView, body=body)
