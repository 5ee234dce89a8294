"""How libtorrent wakes the event loop: a pair of sockets, into which its threads write when there is something to read.

Owns the two sockets, which stay open until the session is destroyed, whoever held it last: its threads write until
they end, and would write into whatever else had the number by then. It must not read what is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import libtorrent as lt


class Bell:
    """Of one session. It rings only when the queue stops being empty."""

    def __init__(self, session: lt.session, on_ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)  # a full pipe must never block libtorrent's thread
        self._loop.add_reader(self._bell, on_ring)
        session.set_alert_fd(self._clapper.fileno())
        self._ended = asyncio.Event()
        # Called when the session's threads have ended, in whichever thread that happened.
        ending = weakref.finalize(session, _end, self._bell, self._clapper, self._loop, self._ended)
        ending.atexit = False

    def heard(self) -> None:
        """What is reported from now on rings again."""
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass

    def mute(self) -> None:
        """Call nobody any more."""
        self._loop.remove_reader(self._bell)

    async def ended(self, seconds: float) -> bool:
        """Whether the session is destroyed within `seconds`: a thread that was given it may hold it a moment longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self._ended.is_set()


def _end(bell: socket.socket, clapper: socket.socket, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    bell.close()
    clapper.close()
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(ended.set)
