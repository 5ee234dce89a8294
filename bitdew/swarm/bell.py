"""How libtorrent wakes the event loop: a pair of sockets, into which its threads write when there is something to read.

Owns the two sockets. It must not read what is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
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

    def heard(self) -> None:
        """What is reported from now on rings again."""
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass

    def mute(self) -> None:
        """Call nobody any more."""
        self._loop.remove_reader(self._bell)

    def close(self) -> None:
        """Only after the session was destroyed: its threads write until they end."""
        self._bell.close()
        self._clapper.close()
