"""The face of `Dew` that is about work: jobs, and machines from disks.

Owns the shapes in which a developer asks for them. The calls are `BitDew`'s; the handles stand in modules of their own.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

from bitdew.core.errors import error
from bitdew.core.restarting import Restart
from bitdew.core.units import parse_size

from .datum import Datum
from .deployment import Deployment
from .job import Job, JobArray
from .pool import CallPool
from .submitting import JobOptions, submitted

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
    from types import ModuleType

    from bitdew.core.states import JobState
    from bitdew.wire import models as m

    from .grid import BitDew


class Work:
    """Jobs and machines. A part of `Dew`.

    Attributes:
        grid: Every call that the service has.
    """

    grid: BitDew

    def __init__(self) -> None:
        self._pools: WeakSet[CallPool] = WeakSet()

    async def _end_pools(self) -> None:
        """Give up what was called and has not ended."""
        for pool in list(self._pools):
            await pool.end()

    # Jobs -----------------------------------------------------------------------------------------------------------

    async def submit(self, *command: str | os.PathLike[str], **options: Unpack[JobOptions]) -> Job:
        """Ask for a command to be run on a host that has what it needs, or in a machine.

            job = await dew.submit("python3", "fit.py", needs="root>=6.30", inputs=["fit.py", events], outputs="*.png")
            outcome = await job

        It waits until a host can run it, and is tried again elsewhere where a host is lost. Asking does not wait for
        that. Whoever is cancelled while he asks has no job.

        Args:
            command: The program and its arguments; no shell reads them.
            options: See `JobOptions`.

        Raises:
            BitDewError: `data.not-found`, `input.invalid`, `attribute.…`; as `put`, for inputs that are put first.
        """
        return Job(self.grid, (await submitted(self.grid, command, options))[0])

    async def submit_each(
        self, values: Iterable[object], *command: str | os.PathLike[str], **options: Unpack[JobOptions]
    ) -> JobArray:
        """Ask for a job for each value: `{}` in the command, the outputs and the variables stands for it.

            jobs = await dew.submit_each(range(100), "python3", "fit.py", "{}", outputs="*.root")
            async for job in jobs.as_completed(): ...

        Raises:
            BitDewError: as `submit`; `input.invalid` without a value.
        """
        words = [str(value) for value in values]
        if not words:
            raise error("input.invalid", "An array without values has no jobs", do="Give one value at least.")
        views = await submitted(self.grid, command, options, words)
        return JobArray(self.grid, views[0].array, len(words))

    async def job(self, uid: str) -> Job:
        """The job of this uid, or the beginning of one. Raises UserError `job.not-found`."""
        return Job(self.grid, await self.grid.job(uid))

    async def jobs(self, *states: JobState | str, mine: bool = True) -> AsyncGenerator[Job]:
        """One's own jobs, or everybody's, oldest first; with `states`, those that are in one of these.

        Raises:
            ValueError: for what is no state.
        """
        from bitdew.core.states import JobState

        async with aclosing(self.grid.jobs(states=[JobState(one) for one in states], mine=mine)) as found:
            async for view in found:
                yield Job(self.grid, view)

    def executor(
        self,
        *,
        python: str = "python3",
        modules: Sequence[ModuleType] = (),
        trust_results: bool = False,
        **options: Unpack[JobOptions],
    ) -> CallPool:
        """Call Python functions on hosts, each call as a job; to be used with `async with`.

            async with dew.executor(needs="python3>=3.11") as pool:
                futures = [pool.submit(fit, run) for run in runs]

        A function goes there by its code, with what it refers to in the program itself; what it imports must be there.
        Its result comes back as a value: None, booleans, numbers, text, bytes, dates, and lists, tuples, dicts and sets
        of them.

        Args:
            python: The program that runs calls.
            modules: Modules of one's own whose functions and classes go along.
            trust_results: Whether results are unpickled, so that they may be any object. Whoever makes a result can
                then run code here: only for hosts that are all trusted.
            options: See `JobOptions`; without `outputs` and `keep`.

        Raises:
            UserError: `input.invalid`, `attribute.requires`.
        """
        pool = CallPool(self.grid, options, python=python, modules=modules, trust_results=trust_results)
        self._pools.add(pool)
        return pool

    # Machines -------------------------------------------------------------------------------------------------------

    async def deploy(
        self,
        disk: Datum | str,
        count: int = 1,
        *,
        memory: int | str = "256MB",
        cpus: int = 1,
        restart: Restart | str = Restart.ON_FAILURE,
        network: m.Network = "none",
        user_data: str = "",
        requires: str = "",
        ports: Mapping[int, int] | None = None,
        lifetime: str = "",
    ) -> Deployment:
        """Ask for machines from a disk, and have so many kept running.

            deployment = await dew.deploy("root.img", 2, memory="1GB", network="user", ports={22: 0})
            for machine in await deployment: ...

        Asking does not wait until they run: awaiting the deployment does.

        Args:
            disk: The disk, or its name.
            count: How many.
            memory: Memory of each: bytes or `"2GB"`.
            cpus: Processors of each.
            restart: Which of them another takes the place of: `"always"`, `"on-failure"` or `"never"`.
            network: What each reaches: nothing, or with `"user"` what its host reaches.
            user_data: What each is told; a text that begins with `#!` is run.
            requires: What their hosts have to be: `"site = orsay"`.
            ports: TCP ports of each, each with the port of its host's loopback that leads there; 0 for any.
            lifetime: How long it lives: `"2h"`, `"2026-12-31"`.

        Raises:
            BitDewError: as `BitDew.deploy`.
            ValueError: for what `restart` can't be.
        """
        view = await self.grid.deploy(
            disk.uid if isinstance(disk, Datum) else disk,
            count,
            memory=parse_size(memory) if isinstance(memory, str) else memory,
            cpus=cpus,
            restart=Restart(restart),
            network=network,
            user_data=user_data,
            requires=requires,
            ports=[(outer, inner) for inner, outer in (ports or {}).items()],
            lifetime=lifetime,
        )
        return Deployment(self.grid, view)

    async def deployment(self, uid: str) -> Deployment:
        """The deployment of this uid, or the beginning of one. Raises UserError `deployment.not-found`."""
        return Deployment(self.grid, await self.grid.deployment(uid))

    async def deployments(self) -> list[Deployment]:
        """All deployments, oldest first, with all their machines; a thousand of these are asked for at a time."""
        return [Deployment(self.grid, view) for view in await self.grid.whole_deployments()]
