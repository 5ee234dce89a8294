"""Peers that are away, and how they are dialled for as long as they may come back.

Owns that one setting of a session. libtorrent 2.1.1 gives a figure other than 3 only to the torrents that it has when
the setting changes. So whoever entered later would give up a peer for good after three attempts, five seconds after the
first. Hence the setting changes, by one, whenever torrents learned of peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .settings import PATIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    import libtorrent as lt

    from .transfer import Transfer


class Persistence:
    """Of one session."""

    def __init__(self) -> None:
        self._figure = PATIENT

    def apply(self, session: lt.session, lively: Iterable[Transfer]) -> None:
        """Have `session` be patient with the peers that `lively` transfers have met."""
        fresh = [transfer for transfer in lively if transfer.entered and transfer.met]
        if not fresh:
            return
        self._figure = PATIENT + (self._figure == PATIENT)
        session.apply_settings({"max_failcount": self._figure})
        for transfer in fresh:
            transfer.met = False
