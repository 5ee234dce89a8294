"""One run on this host, from its order to its end: inputs, the command, what it left, and what the service hears of it.

Owns the order of these steps. They may be begun again at any point: a worker that was killed finds the command running,
or its report, in the run's folder, and the service compares what it is told with what it was told before.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from bitdew.client.image import root_of_file
from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.states import RunState
from bitdew.tasks import to_the_end
from bitdew.wire.models import ErrorView, OutputModel, RunReply
from bitdew.wire.models import RunReport as Said

from ..link import patiently
from .failure import exit_code_of, failure_of, figures_of
from .handing import hand_over
from .log_telling import LogTeller
from .outputs import OutputLimits, collect
from .programs import resolve
from .runs import Run, RunLimits, RunReport

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.wire.models import CapsModel, Order, RunInput, RunOrder

    from ..activity.leave import Leave
    from ..bandwidth import Bandwidth
    from ..copies import Copies
    from ..link import ServiceLink
    from .running import Runner, RunningJob

log = structlog.get_logger(__name__)

BEAT: Final = 10.0
"""Seconds between two words about a run of which nothing is new."""
GLANCE: Final = 1.0
"""Seconds between two looks at what a run has printed."""
VERDICT: Final = 20.0
"""Seconds that the service may hold a claim until there is a verdict."""
REPLY_GRACE: Final = 15.0


@dataclass(slots=True)
class Premises:
    """What every run needs.

    Attributes:
        folder: Each run has a folder in it, named by its uid.
        home: The worker's, which no job may read.
        programs: What jobs may run here now, by name.
        leave: Whether anything may run now, so that the owner is left alone.
        bandwidth: What of the network what it left may use on its way to the service.
    """

    folder: Path
    home: Path
    runner: Runner
    copies: Copies
    link: ServiceLink
    clock: Clock
    leave: Leave
    bandwidth: Bandwidth
    programs: Callable[[], Mapping[str, Path]]


class Attempt:
    """One run.

    Attributes:
        order: What it was told to do.
        state: Where it is.
    """

    def __init__(self, premises: Premises, order: Order, wish: RunOrder) -> None:
        self.order = order
        self.state = RunState.STAGING
        self._wish = wish
        self._on = premises
        self._unwanted = asyncio.Event()
        self._stirred = asyncio.Event()
        self._saying = asyncio.Lock()
        self._log = LogTeller(self.directory)

    @property
    def directory(self) -> Path:
        """Where all of it is."""
        return self._on.folder / self.order.subject

    @property
    def inputs(self) -> list[RunInput]:
        """What it reads."""
        return self._wish.inputs

    @property
    def caps(self) -> CapsModel:
        """How much it may take."""
        return self._wish.spec.caps

    @property
    def goes_on(self) -> bool:
        """Whether it is wanted and has not ended."""
        return not self._unwanted.is_set() and self.state in {*_GOING_ON, RunState.STORING}

    @property
    def called(self) -> str:
        """Its command, for people."""
        return shlex.join(self._wish.spec.command)[:200]

    def cancel(self) -> None:
        """Give it up, whatever it is doing."""
        self._unwanted.set()

    async def live(self) -> None:
        """Everything from here to its end; nothing of it is left then."""
        beating = asyncio.create_task(self._beat(), name=f"beat {self.order.subject[:8]}")
        working = asyncio.create_task(self._work(), name=f"work {self.order.subject[:8]}")
        given_up = asyncio.create_task(self._unwanted.wait())
        try:
            await asyncio.wait({working, given_up}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()  # it hands nothing over while the end is told
                await asyncio.gather(working, return_exceptions=True)
                await self._give_up()
            elif (fault := working.exception()) is not None:
                beating.cancel()
                await self._fail(fault)
        finally:
            for task in (beating, working, given_up):
                task.cancel()
            await asyncio.gather(beating, working, given_up, return_exceptions=True)
        await self._clear_away()

    # The steps ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        on, run = self._on, await asyncio.to_thread(self._run)
        job = await on.runner.recover(self.directory)
        if job is None:
            await self._stage(run)
            await self._have_leave()
            job = await on.runner.start(run)
        else:
            for one in self._wish.inputs:  # it may be shown the host's own copies
                on.copies.keep(one.root, self.order.subject)
        await self._move(RunState.RUNNING)
        report = await self._until_end(job)
        if (refusal := failure_of(report)) is not None:
            await self._end(RunState.FAILED, report, reason=ErrorView.of(refusal))
            return
        await self._store(run, report)

    def _run(self) -> Run:
        """What is to be run here. Blocks for an instant.

        Raises:
            HostError: `job.not-shared`. UserError: `input.invalid`.
        """
        spec, on = self._wish.spec, self._on
        program = resolve(spec.command[0], on.programs(), anything=on.runner.anything, keep_out=(on.home,))
        caps, given = spec.caps, self._wish.inputs
        limits = RunLimits(
            runtime=caps.runtime,
            memory=caps.memory,
            cpus=caps.cpus,
            processes=caps.processes,
            disk=caps.output + sum(one.size for one in given),
            files=caps.files + 2 * len(given),
            log_bytes=max(4096, caps.log),
        )
        return Run(
            uid=self.order.subject,
            attempt=self._wish.number,
            argv=tuple(spec.command),
            program=program.path,
            directory=self.directory,
            env=spec.environment,
            limits=limits,
            readable=program.readable,
        )

    async def _stage(self, run: Run) -> None:
        """Return when every input stands in the run's folder."""
        await asyncio.to_thread(_empty, self.directory)
        self._on.copies.hurry(one.root for one in self._wish.inputs)
        for one in self._wish.inputs:
            source = await self._have(one.root)
            await self._on.runner.stage(run, one.path, source)

    async def _have(self, root: str) -> Path:
        """The verified copy of `root`, once it is here; it stays until it is given back."""
        copies = self._on.copies
        while True:
            moved = asyncio.ensure_future(copies.next_move())
            try:
                if (path := await copies.borrow(root, self.order.subject)) is not None:
                    return path
                await moved
            finally:
                moved.cancel()
                await asyncio.gather(moved, return_exceptions=True)

    async def _have_leave(self) -> None:
        while self._on.leave.refusal is not None:
            await self._on.leave.moved()

    async def _until_end(self, job: RunningJob) -> RunReport:
        """How the command ended. Meanwhile its lease is renewed, and it stands still while the owner needs the host."""
        minding = asyncio.create_task(self._mind_leave(job))
        ending = asyncio.create_task(job.wait())
        try:
            while not ending.done():
                await asyncio.to_thread(job.renew)
                if await asyncio.to_thread(self._log.next) is not None:
                    self._stirred.set()
                await asyncio.wait({ending}, timeout=GLANCE)
            return ending.result()
        finally:
            for task in (minding, ending):
                task.cancel()
            await asyncio.gather(minding, ending, return_exceptions=True)

    async def _mind_leave(self, job: RunningJob) -> None:
        leave, paused = self._on.leave, False
        leave.asked()
        while True:
            while (leave.refusal is not None) != paused:
                paused = not paused
                await (job.pause() if paused else job.resume())
            await leave.moved()

    async def _store(self, run: Run, report: RunReport) -> None:
        """Claim what it left; hand it over if the service wants it."""
        spec = self._wish.spec
        found = await asyncio.to_thread(
            collect,
            run.work,
            spec.outputs,
            OutputLimits(spec.caps.files, spec.caps.output),
            {one.path for one in self._wish.inputs},
        )
        if found.missing:
            why = "; ".join(f"{one.name}: {one.why}" for one in found.refused) or "no file that it left is called so"
            raise error("job.outputs", f"The job left no {', '.join(found.missing)}"[:500], why=why[:1000])
        outputs, places = list[OutputModel](), dict[str, Path]()
        for one in found.found:
            root = await to_the_end(asyncio.to_thread(root_of_file, one.path))
            outputs.append(OutputModel(path=one.name, root=root, size=one.size))
            places[one.name] = one.path
        await self._tell_all_of_log()
        self.state = RunState.STORING
        claim = {"exit_code": report.code, "outputs": outputs, **figures_of(report)}
        while (reply := await self._say(**claim, wait=VERDICT)).wanted:
            if reply.verdict == "store":
                with self._on.bandwidth.sending():
                    await hand_over(self._on.link, self.order.subject, outputs, places)
                await self._end(RunState.DONE, report)
                return

    async def _fail(self, fault: BaseException) -> None:
        if not isinstance(fault, BitDewError):
            log.error("a run failed by a defect", run=self.order.subject, exc_info=fault)
            fault = error("internal", "The run failed", why=type(fault).__name__)
        await self._end(RunState.FAILED, None, reason=ErrorView.of(fault))

    async def _give_up(self) -> None:
        """Nobody wants it any more: end what runs, and say so."""
        job = await self._on.runner.recover(self.directory)
        if job is not None:
            await job.stop("nobody wants it any more")
        self.state = RunState.CANCELLED
        with contextlib.suppress(BitDewError):
            await self._say()

    async def _clear_away(self) -> None:
        for one in self._wish.inputs:
            self._on.copies.give_back(one.root, self.order.subject)
        await to_the_end(asyncio.to_thread(remove, self.directory))

    # What the service hears -----------------------------------------------------------------------------------------

    async def _move(self, state: RunState) -> None:
        self.state = state
        self._stirred.set()

    async def _end(self, state: RunState, report: RunReport | None, *, reason: ErrorView | None = None) -> None:
        """Tell the last of its log, and how it ended."""
        await self._tell_all_of_log()
        self.state = state
        code = None if report is None else exit_code_of(report)
        await self._say(reason=reason, exit_code=code, **figures_of(report))

    async def _tell_all_of_log(self) -> None:
        while await asyncio.to_thread(lambda: self._log.next(ended=True)) is not None:
            if not (await self._say()).wanted:
                return

    async def _beat(self) -> None:
        """Say where it is, again and again: the service gives up a run of which it hears nothing."""
        while True:
            if self.state in {*_GOING_ON, RunState.STORING}:  # to hand over what it left may take hours
                await self._say()
            await wait_at_most(self._on.clock, BEAT, self._stirred.wait())
            self._stirred.clear()

    async def _say(self, **more: Any) -> RunReply:
        """One word to the service, said until it is heard. What it says of the run is heeded."""
        async with self._saying:
            part = await asyncio.to_thread(self._log.next)
            said = Said(state=self.state, log=part, **more)
            path = f"/v1/runs/{self.order.subject}"
            seconds = said.wait + REPLY_GRACE
            try:
                reply = await patiently(lambda: self._on.link.call("POST", path, RunReply, body=said, seconds=seconds))
            except BitDewError as fault:
                if fault.key != "run.not-found":
                    raise
                reply = RunReply(wanted=False, verdict="drop", period=BEAT)
            self._log.taken(part)
        if not reply.wanted and self.state in {*_GOING_ON, RunState.STORING}:
            self._unwanted.set()
        return reply


_GOING_ON: Final = frozenset({RunState.STAGING, RunState.RUNNING})


def _empty(directory: Path) -> None:
    """Make the run's folder anew: what an earlier worker staged may be half of it."""
    remove(directory)
    directory.mkdir(mode=0o700, parents=True)


def remove(directory: Path) -> None:
    """Remove everything in and below a run's folder, whatever the job made of its permissions. Blocks."""

    def again(function: Callable[..., Any], path: str, _why: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)

    shutil.rmtree(directory, onerror=again)
    if directory.exists():
        log.warning("what a run left could not be removed", folder=str(directory))
