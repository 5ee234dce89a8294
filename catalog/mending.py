"""Mending what is bad in the repository from the hosts that hold verified copies: the bad pieces alone, by swarm.

Owns when that is tried, and the steps. What is bad was withdrawn before; it comes back only when every piece was found
good or was fetched, verified and made durable. Nothing is locked meanwhile: whoever publishes the same bytes again, or
removes the last datum that has them, is not held up, and has the last word. The repository's own seeder only sends, so
that a node of the swarms is made for this, and ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.clock import Clock
from bitdew.core.content import Content
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot
from bitdew.humble import humble_thread
from bitdew.swarm.bitfield import packed
from bitdew.swarm.metainfo import Metainfo
from bitdew.swarm.session import Swarm
from bitdew.swarm.transfer import Transfer

from .contents import Contents
from .damage import damage
from .scrubbing import fault_of_piece

log = structlog.get_logger(__name__)

Holders = Callable[[ContentRoot], Awaitable[list[Endpoint]]]
RETRY_SECONDS: Final = 60.0
"""How long after an attempt that failed it is tried again; twice as long after each further one, up to"""
LONGEST_RETRY: Final = 3600.0
SILENCE_SECONDS: Final = 60.0
"""An attempt has failed when nothing came for so long."""


@dataclass(slots=True)
class _Attempt:
    """`due` on the steady clock; `pause` is how long after a failure the next one is."""

    due: float
    pause: float = RETRY_SECONDS


class Mender:
    """Mends one repository, one content at a time.

    Attributes:
        working: Whether a content is being mended now.
    """

    def __init__(
        self,
        contents: Contents,
        clock: Clock,
        *,
        holders: Holders,
        join: Callable[[], Awaitable[Swarm]],
        is_mine: Callable[[], bool],
    ) -> None:
        """Nothing is done before `run`.

        Args:
            contents: What there is, and what is bad.
            clock: Whose time it is.
            holders: Tells where the hosts listen that hold some content.
            join: Makes a node of the swarms, which is closed after use.
            is_mine: Whether it is this process that does it now.
        """
        self._contents = contents
        self._clock = clock
        self._holders = holders
        self._join = join
        self._is_mine = is_mine
        self._attempts: dict[ContentRoot, _Attempt] = {}
        self.working = False

    async def run(self) -> None:
        """Mend what is bad as soon as that can be, until cancelled."""
        while True:
            condemned = self._contents.condemned
            condemned.clear()
            try:
                await self._mend_all()
            except Exception:
                log.exception("what is bad in the repository could not be mended; it is tried again")
            pause = min((one.due for one in self._attempts.values()), default=0.0) - self._clock.monotonic()
            await wait_at_most(self._clock, max(1.0, pause) if self._attempts else RETRY_SECONDS, condemned.wait())

    async def _mend_all(self) -> None:
        bad = await self._contents.damaged() if self._is_mine() else []
        now = self._clock.monotonic()
        self._attempts = {root: self._attempts.get(root, _Attempt(now)) for root in bad}
        for root, attempt in self._attempts.items():
            if attempt.due > self._clock.monotonic():
                continue
            self.working = True
            try:
                await self._mend(root)
            except BitDewError as fault:
                log.warning("a content could not be mended", root=root, key=fault.key, why=str(fault))
                async with self._contents.changing:
                    await self._contents.free(root)  # it may have been removed meanwhile
            finally:
                self.working = False
            # Where it was mended it is not bad any more, and is forgotten the next time.
            attempt.due, attempt.pause = self._clock.monotonic() + attempt.pause, min(2 * attempt.pause, LONGEST_RETRY)

    async def _mend(self, root: ContentRoot) -> None:
        peers = await self._holders(root)
        metainfo = await self._contents.repository.stored_metainfo(root)
        if not peers or metainfo is None:
            why = "no host holds it" if metainfo is not None else "what its pieces are is lost too"
            raise error("data.not-found", f"There is nothing to mend {root[:16]}… from", why=why, root=str(root))
        good = await self._good_pieces(metainfo.content)
        bad = [number for number, there in enumerate(good) if not there]
        if bad:
            why = f"not what was published: {len(bad)} of {len(good)} pieces"
            self._contents.blame(root, damage(root, why, bad))
            await self._fetch(metainfo, good, peers)
        await self._contents.mended(metainfo)
        log.info("the repository's copy was mended", root=root, pieces=len(bad))

    async def _good_pieces(self, content: Content) -> list[bool]:
        path, found = self._contents.repository.path(content.root), []
        thread, loop = humble_thread("mending"), asyncio.get_running_loop()
        try:
            for number in range(content.pieces):
                fault = await loop.run_in_executor(thread, fault_of_piece, path, content, number)
                found.append(fault is None)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
        return found

    async def _fetch(self, metainfo: Metainfo, good: list[bool], peers: list[Endpoint]) -> None:
        path = self._contents.repository.path(metainfo.content.root)
        async with await self._join() as swarm:
            transfer = await swarm.add(metainfo, path, have=packed(good), peers=peers)
            held = asyncio.ensure_future(transfer.wait_held())
            try:
                await self._follow(transfer, held)
            finally:
                held.cancel()
                await asyncio.gather(held, return_exceptions=True)

    async def _follow(self, transfer: Transfer, held: asyncio.Future[None]) -> None:
        seen = -1
        while not await wait_at_most(self._clock, SILENCE_SECONDS, asyncio.wait({held})):
            came = transfer.progress.downloaded
            if came == seen:
                why = f"no byte in {SILENCE_SECONDS:g} s, with {transfer.progress.peers} peers connected"
                raise error("swarm.stalled", f"{transfer.metainfo.content.root[:16]}… does not arrive", why=why)
            seen = came
        await held
