"""Running jobs' commands: each by a warden of its own, which outlives the worker and is found again by its next one.

Owns the wardens' start, orders and leases. A run's folder holds all that is known of it. In the order in which things
happen at a start:

1. The run's lock is taken. Whoever holds it is the warden of this run, or is one instant from starting it.
2. The spec is written, and the warden is started; it inherits the lock, and writes who it is.
3. The warden runs the command, ends all that it started, and writes the report; then the lock is free.

A worker that is killed before 2 leaves a free lock and no report: nothing ran. It must not decide which jobs run, and
knows nothing of orders or the service.

Exit order: `close` lets go of the wardens, which run on until their leases end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from ..hypervisors.threads import to_the_end
from . import folder, inputs
from .runs import Isolation, Run, RunReport
from .warden import fields, plan
from .warden.log import LogReader

_BEGIN: Final = "import sys; sys.path.append(sys.argv[1]); from warden.{0} import main; main()"
"""Nothing of the product is imported but the warden, and no site-packages are looked for: that takes longer than a
short job."""
_WARDENS: Final = Path(__file__).parent
_PROBING: Final = 30.0
_GLANCE: Final = 0.02
_GONE: Final = 60.0
"""Seconds until a job is gone whose warden was killed; milliseconds in fact."""


class RunningJob:
    """A run that was started. `wait` may be called again, also by a later worker: how it ended stays in its folder.

    Attributes:
        directory: The run's folder.
    """

    def __init__(self, directory: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self.directory = directory
        self._child = child

    async def wait(self) -> RunReport:
        """Until nothing of the job is left; how it ended."""
        give_up = 0.0
        loop = asyncio.get_running_loop()
        while True:
            warden, held = await asyncio.to_thread(self._look)
            if warden is not None:
                try:
                    await _ended(warden)
                finally:
                    os.close(warden)
                give_up = 0.0
            elif not held or loop.time() > (give_up := give_up or loop.time() + _GONE):
                break
            else:  # it was not said yet who is the warden, or who has to end the job in its place is about to
                await asyncio.sleep(_GLANCE)
        return await asyncio.to_thread(folder.read_report, self.directory)

    def _look(self) -> tuple[int | None, bool]:
        """A pidfd of the warden, if it is alive; and whether the run's lock is held."""
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                warden = os.pidfd_open(child.pid)
                if child.returncode is None:  # so the pid was its own
                    return warden, True
                os.close(warden)
        return folder.warden_of(self.directory), folder.is_held(self.directory)

    async def stop(self, why: str, *, kindly: bool = True) -> None:
        """Have it end, and return when it has: `kindly` asks its processes first, and gives them a few seconds."""
        order = {"wanted": "stop", "why": why[:500].replace("\0", " "), "kindly": "yes" if kindly else "no"}
        await self._order(order)
        await self.wait()

    async def pause(self) -> None:
        """Have all its processes stand still; what they have of memory stays."""
        await self._order({"wanted": "pause"})

    async def resume(self) -> None:
        """Let them go on."""
        await self._order({"wanted": "run"})

    async def _order(self, order: dict[str, str]) -> None:
        await asyncio.to_thread(self._tell, order)

    def _tell(self, order: dict[str, str]) -> None:
        fields.write(str(self.directory / plan.ORDER), order.items())
        if (warden := folder.warden_of(self.directory)) is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(warden, signal.SIGHUP)
            os.close(warden)

    def renew(self) -> None:
        """Renew its lease: the worker is there. Blocks for an instant."""
        with contextlib.suppress(OSError):
            os.utime(self.directory / plan.LEASE)

    def log(self) -> LogReader:
        """What it prints, also while it runs; to be closed by the caller. Blocks for an instant.

        Raises:
            OSError, ValueError: If it has printed nothing yet.
        """
        return LogReader(str(self.directory / plan.LOG))

    def is_over(self) -> bool:
        """Whether its warden was started here and has ended."""
        return self._child is None or self._child.poll() is not None

    def let_go(self) -> None:
        """Forget the process, which runs on."""
        if self._child is not None and self._child.poll() is None:
            self._child.returncode = 0  # it is no longer ours: without this Python warns that it was forgotten
        self._child = None


async def _ended(process: int) -> None:
    """Return when the process of this pidfd has ended."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    watched = os.dup(process)  # a reader of its own: several may wait
    loop.add_reader(watched, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


class Runner:
    """Starts runs, and finds those again that an earlier worker started.

    Args:
        anything: This is a machine of the grid: a job may run what it likes and use the network, and need not be kept
        from
            the machine.
        network: Jobs may use the host's network. Without it they have a loopback of their own, where the system can do
        that. readable: What every job may read beside the system's programs.
        lease: Seconds after which a job ends whose worker did not come back.
        grace: Seconds that processes have between being asked to end and being killed.
    """

    def __init__(
        self,
        *,
        anything: bool = False,
        network: bool = False,
        readable: tuple[Path, ...] = (),
        lease: float = 900.0,
        grace: float = 5.0,
    ) -> None:
        self.anything = anything
        self._network = network
        self._readable = readable
        self._lease = lease
        self._grace = grace
        self._probed: Isolation | None = None
        self._probing = asyncio.Lock()
        self._started: list[RunningJob] = []

    async def isolation(self, place: Path) -> Isolation:
        """What holds between jobs and this host; tried once, in a folder inside `place`, where jobs will run."""
        async with self._probing:
            if self._probed is None:
                self._probed = await to_the_end(_probe, place)
        means = self._probed.means
        if self._network or self.anything:
            means -= {plan.NETWORK}
        if self.anything:
            means -= {plan.LANDLOCK, plan.FILTER}
        return replace(self._probed, means=means)

    async def stage(self, run: Run, name: str, source: Path) -> inputs.Way:
        """Put `source`, a copy that this host holds, into the job's folder as `name`, before it is started.

        The job can read it and can't change the host's copy. A cancelled call waits for the part that is being copied.

        Raises:
            UserError: `input.invalid`.
            HostError: `storage.full`, `storage.failed`.
        """
        isolation = await self.isolation(run.directory.parent)
        given_up = threading.Event()
        task = asyncio.create_task(to_the_end(_stage, run, name, source, isolation.means, given_up.is_set))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait({task})
            raise

    async def start(self, run: Run) -> RunningJob:
        """Start `run`, once: a run that was started already is found again.

        Raises:
            HostError: `job.unconfined`, if this host could not be kept safe from it; `job.failed`, if the system lacks
                what is needed to start anything.
        """
        isolation = await self.isolation(run.directory.parent)
        if isolation.lacks and not self.anything:
            raise error(
                "job.unconfined",
                "This host can't confine a job",
                why="; ".join([*isolation.lacks, *([isolation.why] if isolation.why else [])]),
            )
        self._started = [job for job in self._started if not job.is_over()]
        job = await to_the_end(self._spawn, run, isolation.means)
        self._started.append(job)
        return job

    def _spawn(self, run: Run, means: frozenset[str]) -> RunningJob:
        try:
            run.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            run.work.mkdir(exist_ok=True, mode=0o700)
            with folder.claim(run.directory) as lock:
                if lock is None or (run.directory / plan.REPORT).exists():
                    return RunningJob(run.directory)
                folder.write_spec(
                    run,
                    means,
                    anything=self.anything,
                    network=self._network or self.anything,
                    lease=self._lease,
                    grace=self._grace,
                )
                (run.directory / plan.LEASE).touch(mode=0o600)
                child = subprocess.Popen(
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        "-c",
                        _BEGIN.format("process"),
                        str(_WARDENS),
                        str(run.directory),
                        str(lock),
                    ],
                    cwd="/",
                    env={},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(lock,),
                    start_new_session=True,  # Ctrl-C at the worker's terminal is not for the job
                )
        except (OSError, ValueError) as problem:
            raise error("job.failed", f"Job {run.uid} could not be started", why=str(problem)) from problem
        return RunningJob(run.directory, child)

    async def recover(self, directory: Path) -> RunningJob | None:
        """The run in this folder, if one was started there: it runs, or has ended meanwhile. `wait` tells which."""
        return await asyncio.to_thread(_recover, directory)

    async def close(self) -> None:
        """Let go of what runs: it runs on."""
        for job in self._started:
            job.let_go()
        self._started.clear()


def _stage(run: Run, name: str, source: Path, means: frozenset[str], given_up: Callable[[], bool]) -> inputs.Way:
    try:
        run.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        run.work.mkdir(exist_ok=True, mode=0o700)
        place = inputs.place_for(run.work, name)
        readable = plan.OWN_USER not in means or source.stat().st_mode & 0o004
        if plan.MOUNTS not in means or not readable or "\n" in str(source):
            return inputs.copy(source, place, given_up)
        folder.show_input(run.directory, name, source.resolve())
    except OSError as problem:
        raise error("storage.failed", f"{name} could not be put into a job's folder", why=str(problem)) from problem
    return "shown"


def _recover(directory: Path) -> RunningJob | None:
    started = any((directory / name).exists() for name in (plan.WARDEN, plan.REPORT))
    return RunningJob(directory) if started or folder.is_held(directory) else None


def _probe(place: Path) -> Isolation:
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=place) as empty:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _BEGIN.format("probe"), str(_WARDENS), empty],
                cwd="/",
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBING,
                check=True,
                start_new_session=True,
            )
            told = fields.unpack(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as problem:
        return Isolation(frozenset(), why=str(problem), root=os.getuid() == 0)
    one = dict(told)
    means = frozenset(value for name, value in told if name == "means")
    return Isolation(means, int(one.get("landlock", 0)), one.get("why", "")[:500], root=os.getuid() == 0)
