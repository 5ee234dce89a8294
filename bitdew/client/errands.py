"""What a machine's user asks of its host: to pause it, picture its screen, save it, go back to what was saved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error
from bitdew.core.orders import ErrandKind, ErrandState
from bitdew.wire import models as m

from .connection import GRACE, POLL, Connection, name_part

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 780.0
"""Seconds that the service takes to end an errand whatever the host does, and some more."""


class ErrandCalls(Connection):
    """The part of `BitDew` that asks machines' hosts for things.

    Each call returns when the host has done it. What is given as `waiting` is called
    meanwhile, if that takes longer than a second.
    """

    async def pause_machine(self, uid: str, waiting: Callable[[], None] | None = None) -> m.ErrandView:
        """Have a machine stand still until it is resumed, whatever its host's owner does.

        Raises:
            BitDewError: `machine.not-found`, `machine.not-running`, `machine.unreachable`, `hypervisor.unable`.
        """
        return await self._errand(uid, ErrandKind.PAUSE, None, waiting)

    async def resume_machine(self, uid: str, waiting: Callable[[], None] | None = None) -> m.ErrandView:
        """Let a machine that was paused go on.

        Raises:
            BitDewError: as `pause_machine`; `host.in-use` if it goes on only when its host's owner is away.
        """
        return await self._errand(uid, ErrandKind.RESUME, None, waiting)

    async def screenshot(self, uid: str, waiting: Callable[[], None] | None = None) -> bytes:
        """A picture of a machine's screen, as PNG.

        Raises:
            BitDewError: as `pause_machine`; `hypervisor.failed`.
        """
        done = await self._errand(uid, ErrandKind.SCREENSHOT, None, waiting)
        if done.picture is None:
            raise error("hypervisor.failed", f"Machine {uid} gave no picture of its screen")
        return done.picture

    async def snapshot(
        self, uid: str, name: str | None = None, waiting: Callable[[], None] | None = None
    ) -> m.ErrandView:
        """Save a machine's memory and disk on its host, as `name`; else under the time of day.

        Raises:
            BitDewError: as `pause_machine`; `host.in-use`, `storage.full`, `hypervisor.failed`, and `input.invalid` if
                it has such a snapshot, or as many as it may have.
        """
        return await self._errand(uid, ErrandKind.SNAPSHOT, name, waiting)

    async def restore(self, uid: str, name: str, waiting: Callable[[], None] | None = None) -> m.ErrandView:
        """Have a machine go on from where it was when `name` was saved.

        For a machine that has ended another one is launched, on the same host and of the same deployment: its uid is
        the answer's `machine`.

        Raises:
            BitDewError: as `snapshot`; `snapshot.not-found`.
        """
        return await self._errand(uid, ErrandKind.RESTORE, name, waiting)

    async def _errand(
        self, uid: str, kind: ErrandKind, name: str | None, waiting: Callable[[], None] | None
    ) -> m.ErrandView:
        request = m.ErrandRequest(kind=kind, name=None if name is None else name_part(name))
        asked = await self._call("POST", f"/v1/machines/{name_part(uid)}/errands", m.ErrandView, body=request)
        until, hold = time.monotonic() + PATIENCE, 1.0
        while asked.state is ErrandState.WAITING:
            left = until - time.monotonic()
            if left <= 0:
                raise error("machine.unreachable", f"Nothing is heard of machine {asked.machine[:8]}")
            query = {"wait": f"{min(left, hold):g}"}
            path = f"/v1/errands/{asked.uid}"
            asked = await self._call("GET", path, m.ErrandView, query=query, seconds=POLL + GRACE)
            if waiting is not None and asked.state is ErrandState.WAITING:
                waiting()
            hold = POLL
        if asked.reason is not None:
            raise asked.reason.to_error()
        return asked
