"""The order of leaving, each step of which can be cut off and done again.

The host is emptied while its worker works on; the worker ends; machines that are left over end; plug-ins and bridges
are told that nothing is held; the identity is given up; what the worker made is removed. Owns that order, and whether
a worker runs meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.lock import HomeLock
from bitdew.tasks import to_the_end
from bitdew.trust.identity import Identity
from bitdew.wire.model import Nothing
from bitdew.wire.models import DrainView

from ..control import STOP, ask
from ..daemon import Worker
from ..enrol import identity_folder
from ..hypervisors import drivers, probe
from ..plugins.farewell import farewell
from ..settings import FILE, WorkerSettings
from ..status import StatusView
from . import belongings
from .handover import Tell, service_of

END_SECONDS: Final = 180.0
"""How long a worker that was told to stop may take: its machines are asked to shut down first."""
AGAIN_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Departed:
    """How a host left.

    Attributes:
        name: What it was called; "" if that was gone already.
        left: What was still on it, as the service said last; None if the service did not know it, or was not asked.
        revoked: Whether its identity was given up.
        freed: Bytes that its files took.
        kept: What lies in its home and is not the worker's.
        unheard: Plug-ins and bridges that could not be told that nothing is held here any more.
    """

    name: str
    left: DrainView | None
    revoked: bool
    freed: int
    kept: tuple[Path, ...]
    unheard: tuple[str, ...] = ()


async def leave(
    home: Path,
    *,
    tell: Tell,
    now: bool,
    seconds: float | None = None,
    end_service: Callable[[], object] = lambda: None,
    parent: Path | None = None,
) -> Departed:
    """Leave the service, and remove all that the worker of `home` made.

    Args:
        home: The worker's.
        tell: Is told what is left on the host while it is handed over.
        now: Hand nothing over: `tell` is told once what is lost.
        seconds: How long the handing over may take.
        end_service: Ends the worker that the system runs, if it does, for good. Blocks.
        parent: A folder that is removed too if this leaves it empty.

    Raises:
        UserError: `profile.missing`, if no worker is there; `host.not-empty`.
        ServiceError: `service.unreachable`, unless it is to be `now`.
        HostError: `worker.unreachable`, `storage.failed`, `storage.locked`.
    """
    if not await asyncio.to_thread(belongings.has_any, home):
        raise error("profile.missing", f"No worker is in {home}", why="nothing of one is there", path=str(home))
    settings, identity = await asyncio.to_thread(_what_is_there, home)
    left: DrainView | None = None
    if identity is not None and settings is not None:
        left = await (_look(identity, tell) if now else _hand_over(settings, identity, tell, seconds))
    await to_the_end(asyncio.to_thread(end_service))
    lock = await _end_worker(home)
    try:
        await _end_machines(home)
        unheard = await farewell(settings) if settings is not None else []
        revoked = identity is None or await _give_up(identity, required=not now)
        removed = await to_the_end(asyncio.to_thread(belongings.remove, home, parent=parent))
    finally:
        await asyncio.to_thread(lock.release)
    return Departed(settings.name if settings else "", left, revoked, removed.freed, removed.kept, tuple(unheard))


async def stay(home: Path) -> DrainView | None:
    """Take the wish to leave back: this host may have copies and machines again.

    Raises:
        UserError: `profile.missing`.
        ServiceError: `service.unreachable`.
    """
    identity = await asyncio.to_thread(identity_folder(home).load)
    async with service_of(identity) as service:
        return await service.stay()


def _what_is_there(home: Path) -> tuple[WorkerSettings | None, Identity | None]:
    """The settings and the identity, as far as an earlier departure left them. Blocks."""
    settings = WorkerSettings.load(home) if (home / FILE).exists() else None
    folder = identity_folder(home)
    return settings, folder.load() if folder.exists() else None


async def _look(identity: Identity, tell: Tell) -> DrainView | None:
    """What would be lost, as far as the service can be asked."""
    try:
        async with service_of(identity) as service:
            view = await service.view()
    except BitDewError:
        return None
    if view is not None:
        tell(view)
    return view


async def _hand_over(
    settings: WorkerSettings, identity: Identity, tell: Tell, seconds: float | None
) -> DrainView | None:
    async with _working(settings, identity), service_of(identity) as service:
        return await service.hand_over(tell, seconds)


@asynccontextmanager
async def _working(settings: WorkerSettings, identity: Identity) -> AsyncIterator[None]:
    """While this lasts a worker works in the home: the one that runs there, or one of our own."""
    if await ask(settings.home, "status", Nothing(), StatusView) is not None:
        yield
        return
    async with Worker(settings, identity) as worker:
        working = asyncio.ensure_future(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await asyncio.wait({working})
        # Only after the rest went well: what it could not do is no reason to stay.
        if not working.cancelled() and (fault := working.exception()) and not isinstance(fault, BitDewError):
            raise fault


async def _end_worker(home: Path) -> HomeLock:
    """End the worker that runs in `home`, if any does; the lock by which none begins.

    Raises:
        HostError: `storage.locked`, if it does not end; `worker.unreachable`.
    """
    lock, until = HomeLock(home, "worker"), time.monotonic() + END_SECONDS
    while True:
        try:
            await to_the_end(asyncio.to_thread(lock.acquire))
        except BitDewError as fault:
            if fault.key != "storage.locked" or time.monotonic() > until:
                raise
        else:
            return lock
        await ask(home, STOP, Nothing(), Nothing)
        await asyncio.sleep(AGAIN_SECONDS)


async def _end_machines(home: Path) -> None:
    """End what a worker that was killed left running."""
    folder = home / "machines"
    if not await asyncio.to_thread(_has_something, folder):
        return
    for driver in drivers(home):
        try:
            if (await probe([driver]))[0].fingerprint is not None:
                await driver.sweep(folder, set())
        finally:
            await driver.close()


def _has_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


async def _give_up(identity: Identity, *, required: bool) -> bool:
    try:
        async with service_of(identity) as service:
            await service.give_up()
    except BitDewError:
        if required:
            raise
        return False
    return True
