"""The volunteer's way to a worker, whether it runs or not; and to its limits.

Owns the choice: a running worker is told, and keeps what it was told itself; otherwise its settings are changed here,
under the lock of its home, so that none starts with the old ones meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from bitdew.core.errors import BitDewError, error
from bitdew.lock import HomeLock
from bitdew.tasks import to_the_end

from .control import ask
from .limits import LimitsChange, LimitsView, keep, view_at_rest
from .settings import WorkerSettings

V = TypeVar("V")
VERB: Final = "limits"
PATIENCE_SECONDS: Final = 5.0
"""How long a worker that is starting, or ending, is waited for."""
AGAIN_SECONDS: Final = 0.1


async def show_limits(home: Path) -> LimitsView:
    """The caps of the worker in `home`, and what it uses of them.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    told = await ask(home, VERB, LimitsChange(), LimitsView)
    return told or view_at_rest(await asyncio.to_thread(WorkerSettings.load, home))


async def change_limits(home: Path, change: LimitsChange) -> LimitsView:
    """Change caps of the worker in `home`, at once if it runs and for its next starts; what holds then.

    Raises:
        UserError: `profile.missing`, `input.invalid`. Nothing is changed then.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    return await told_or_kept(
        home, lambda: ask(home, VERB, change, LimitsView), lambda: view_at_rest(keep(home, change))
    )


async def told_or_kept(home: Path, tell: Callable[[], Awaitable[V | None]], keep_it: Callable[[], V]) -> V:
    """What a running worker in `home` answers to `tell`; where none runs, what `keep_it` gives, which blocks.

    While `keep_it` changes what is kept there, no worker can start with the old.

    Raises:
        UserError: `profile.missing`, `input.invalid`. Nothing is changed then.
        HostError: `worker.unreachable`, for one that runs and can't be told; what the two raise.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while (told := await tell()) is None:
        kept = await to_the_end(asyncio.to_thread(_keep_alone, home, keep_it))
        if kept is not None:
            return kept
        if time.monotonic() > until:
            why = "it runs, and has no socket to be told by"
            raise error("worker.unreachable", f"The worker in {home} can't be told anything", why=why)
        await asyncio.sleep(AGAIN_SECONDS)
    return told


def _keep_alone(home: Path, keep_it: Callable[[], V]) -> V | None:
    """Call `keep_it` while no worker runs there; None if one does. Blocks."""
    WorkerSettings.load(home)  # before the lock would make a home that isn't there
    lock = HomeLock(home, "worker")
    try:
        lock.acquire()
    except BitDewError as fault:
        if fault.key == "storage.locked":
            return None
        raise
    try:
        return keep_it()
    finally:
        lock.release()
