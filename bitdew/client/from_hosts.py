"""Data that only hosts have come back too: fetched as a member of their swarm, for as long as that takes.

Owns the node of the swarm, which is made for one fetch and ends with it, and how long silence is borne. What comes is
verified piece by piece, and goes into the same file as what comes over HTTPS. It must not decide when bytes come so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.wire import models as m

from .connection import name_part
from .door import Door, SwarmCalls
from .flow import TAPS, is_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.swarm.session import Swarm
    from bitdew.swarm.transfer import Transfer

    from .part import PartFile

    Progress = Callable[[int, int], None]
ANYWHERE: Final = Endpoint("0.0.0.0", 0)  # noqa: S104 (hosts may dial back; who may is for the certificates to say)
LOOK_SECONDS: Final = 0.25
"""How often it is looked how far it is."""
ASK_SECONDS: Final = 5.0
"""How often the service is asked who has it. That also keeps hosts from setting their copies aside."""
SILENCE_SECONDS: Final = 60.0
"""How long nothing may come."""


class HostCalls(SwarmCalls):
    """The part of `BitDew` by which bytes come back from hosts."""

    async def _fetch_from_hosts(self, name: str, part: PartFile, missing: int, progress: Progress | None) -> None:
        """Bring every missing piece into `part`; `progress` is told how many of the `missing` bytes came.

        Raises:
            BitDewError: `data.nowhere`, if nobody has it now; `swarm.stalled`, `swarm.corrupt`, `swarm.failed`,
                `storage.full`, `storage.failed`; what the service says.
        """
        # libtorrent takes a tenth of a second to import, and few need it.
        from bitdew.swarm.bitfield import packed
        from bitdew.swarm.metainfo import build_metainfo
        from bitdew.swarm.session import Swarm

        peers = await self._who_has(name)
        door, metainfo = Door(self), await asyncio.to_thread(build_metainfo, part.content)
        await door.renew()
        there = part.content.size - missing
        async with await Swarm.start(ANYWHERE, door.credentials) as swarm:
            transfer = await swarm.add(metainfo, part.path, have=packed(part.have), peers=peers)
            held = asyncio.ensure_future(transfer.wait_held())
            try:
                watch = _Watch(swarm, transfer)
                while not held.done():
                    await asyncio.wait({held}, timeout=LOOK_SECONDS)
                    if progress is not None:
                        progress(min(max(0, transfer.progress.done - there), missing), missing)
                    if watch.look():
                        await self._go_on(name, watch, door)
                await held
            finally:
                held.cancel()
                await asyncio.gather(held, return_exceptions=True)
            await swarm.remove(transfer)

    async def _go_on(self, name: str, watch: _Watch, door: Door) -> None:
        """Meet whoever has it by now; a service that is away is no reason to end."""
        try:
            if await door.renew():
                watch.swarm.set_credentials(door.credentials)
            watch.transfer.add_peers(await self._who_has(name))
        except BitDewError as fault:
            if fault.kind.exit_code != 6:
                raise

    async def _who_has(self, name: str, called: str = "") -> list[Endpoint]:
        """Who can be dialled for the datum `name`, `called` so where that is its uid.

        Raises:
            PeerError: `data.nowhere`, if nobody can be now.
        """
        reply = await self._call("GET", f"/v1/data/{name_part(name)}/peers", m.PeersReply)
        if not reply.peers:
            called = called or name
            why = "the repository does not have it, no host that holds a verified copy is there, nor is its publisher"
            raise error("data.nowhere", f"Nobody who has {called!r} is there now", why=why, name=called)
        return [Endpoint.parse(peer) for peer in reply.peers]


class _Watch:
    """How a fetch goes, and what holds it up."""

    def __init__(self, swarm: Swarm, transfer: Transfer) -> None:
        self.swarm, self.transfer = swarm, transfer
        self._now = asyncio.get_running_loop().time
        self._heard = self._asked = self._now()
        self._seen = self._rate = 0
        self._resting = False

    def look(self) -> bool:
        """Obey the transfer's taps, and bear no endless silence; whether the service is to be asked again.

        Raises:
            PeerError: `swarm.stalled`.
        """
        from bitdew.swarm.settings import TransferLimits

        now, progress = self._now(), self.transfer.progress
        if self._resting != is_held():
            self._resting = not self._resting
            self.swarm.rest(self._resting)
        rate = min((tap.rate for tap in TAPS.get() if tap.rate), default=0)
        if rate != self._rate:
            self._rate = rate
            self.transfer.set_limits(TransferLimits(download=rate))
        if progress.downloaded != self._seen or progress.state != "fetching" or self._resting:
            self._seen, self._heard = progress.downloaded, now
        if now - self._heard >= SILENCE_SECONDS:
            why = f"no byte in {SILENCE_SECONDS:g} s, with {progress.peers} peers connected"
            do = "Run the same command again: it goes on with what has come."
            raise error("swarm.stalled", f"{self.transfer.path.name} does not arrive", why=why, do=do)
        due = now - self._asked >= ASK_SECONDS
        if due:
            self._asked = now
        return due
