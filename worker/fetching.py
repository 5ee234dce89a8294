"""One copy on its way: from an order to a verified file, and what is done when it does not come.

Owns the steps. It must not decide what is wanted, and a failure never costs the pieces that are there. When to ask for
more peers and when to give up stands in `patience`.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.states import PlacementState
from bitdew.swarm.bitfield import packed
from bitdew.wire.models import AnnounceReply, AnnounceRequest, ErrorView

from .download import Download
from .figures import Figures
from .help import Help
from .holding import Holding
from .link import is_passing
from .nothing import hold_nothing
from .patience import ASK_SECONDS, CHECKPOINT_SECONDS, PATIENCE_SECONDS, Patience
from .reuse import found_here
from .scrubbing import good_pieces, rotten
from .way import Way, way_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bitdew.core.content import Content
    from bitdew.swarm.metainfo import Metainfo
    from bitdew.swarm.transfer import Transfer
    from bitdew.wire.models import PlaceOrder

    from .entries import HeldCopy
    from .reuse import Found
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)

_S = PlacementState
_CHANCE: Final = random.Random()  # noqa: S311 (it spreads load, and keeps no secret)


class Copy(Holding):
    """One content on this host.

    Attributes:
        root: What it is.
        size: Bytes.
        first: The datum for whose sake it is fetched; the figures are its.
        wanted: The data that want it.
        peers: Where it can be had, the repository not among them.
        repository: Where the service's own seeder listens.
        protocol: How the latest order wants it fetched: "http", "bittorrent", or "auto" for whichever suits it.
        copies: How many hosts hold it or are to, as the latest order says; 0 if it does not.
        state: assigned, fetching, verifying, held or failed.
        reason: What went wrong, if something did.
        done: Bytes in verified pieces.
        parked: Whether it is held, and not in its swarm: see `parking`.
    """

    def __init__(self, around: Surroundings, order: PlaceOrder) -> None:
        self.root = order.root
        self.size = order.size
        self.first = ""
        self.wanted: set[str] = set()
        self.peers: set[Endpoint] = set()
        self.repository = Endpoint.parse(order.repository)
        self.protocol: str = order.protocol
        self.copies = order.copies
        self.state = _S.ASSIGNED
        self.reason: ErrorView | None = None
        self.done = 0
        self._around = around
        self._earlier = Figures()
        self._transfer: Transfer | None = None
        self._download: Download | None = None
        self._task: asyncio.Task[None] | None = None
        self._dealt_with: BitDewError | None = None
        self._claimed: bytes | None = None
        self._masks: Mapping[int, Sequence[bool]] = {}
        self._help: Help | None = None
        self._looked: HeldCopy | None = None
        self.parked = False
        self._withdrawn: BitDewError | None = None
        self._awaits: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether it is on its way: not held, and not given up."""
        return self._task is not None and not self._task.done() and self.state is not _S.HELD

    def learn(self, order: PlaceOrder) -> None:
        """Take the peers of `order`; how it wants the bytes fetched counts from the next attempt on."""
        self.protocol, self.copies = order.protocol, order.copies
        self.repository = Endpoint.parse(order.repository)
        self.meet(Endpoint.parse(text) for text in order.peers)

    def carry_on(self, tasks: asyncio.TaskGroup, held: HeldCopy | None, *, first: str) -> None:
        """Work towards a held copy, unless that is being done already: for the datum `first` then.

        `held` is what was verified before this worker started.
        """
        if self._task is None or self._task.done():
            self.first, self.state, self.reason, self._earlier = first, _S.ASSIGNED, None, Figures()
            self._task = tasks.create_task(self._run(held), name=f"copy {self.root[:8]}")

    async def end(self) -> None:
        """End the fetching, and leave the swarm. The files stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._leave()

    async def checkpoint(self) -> None:
        """Make the pieces that are there durable; a failure is not raised."""
        source = self._download or self._transfer
        if source is None or self.state is _S.HELD:
            return
        try:
            have = await source.checkpoint()
            await asyncio.to_thread(self._around.storage.write_have, self.root, have)
            await self._around.keeper.copy_changed(self, moved=False)
        except BitDewError as fault:
            log.info("pieces could not be made durable", root=self.root, key=fault.key, why=str(fault))

    async def _checkpoint_in_time(self, watch: Patience) -> None:
        began = self._around.clock.monotonic()
        await self.checkpoint()
        watch.checkpoint_took(self._around.clock.monotonic() - began)

    # The steps

    async def _run(self, held: HeldCopy | None) -> None:
        try:
            if not self.size:
                await hold_nothing(self.root, held, self._around.storage, self._move, self._keep)
            if held is None or not await self._offer(held):
                await self._obtain(trusted=held is None)
            while True:
                fault = await self._until_doubted()
                await self._around.journal.forget_copy(self.root)
                await self._move(_S.FETCHING, fault)
                await self._mend(fault)
        except BitDewError as fault:
            await self._fail(fault)
        except Exception as fault:
            log.exception("defect", root=self.root, key="internal")
            await self._fail(error("internal", f"Fetching {self.root[:16]}… failed", why=type(fault).__name__))

    async def _offer(self, held: HeldCopy) -> bool:
        """Seed a file that was verified before and looks as it did then; False if it does not."""
        found = await asyncio.to_thread(self._around.storage.look, self.root)
        if found != held:
            await self._around.journal.forget_copy(self.root)
            return False
        await asyncio.to_thread(self._around.storage.settle, self.root, self.size)
        self.parked = not self._around.parking.admit(self)
        if not self.parked:
            await self._join(await self._metainfo(), None, complete=True, dials=self._around.moved)
        self.done, self._looked = self.size, found
        await self._move(_S.HELD)
        return True

    async def _obtain(self, *, trusted: bool, because: BitDewError | None = None) -> None:
        """Fetch what is missing, `because` something went wrong. `trusted`: the file is what was known of it."""
        storage = self._around.storage
        await self._around.room.admit(self.root, self.size)
        metainfo = await self._metainfo()
        have = await asyncio.to_thread(storage.read_have, self.root) if trusted else None
        await self._move(_S.FETCHING, because)  # a cause that goes at once would never be told
        found = await self._look_around(metainfo.content, have)
        if self._goes_by_http:
            if await self._fetch_by_http(metainfo, found):
                return
            have = await asyncio.to_thread(storage.read_have, self.root)
            found = await self._look_around(metainfo.content, have)
        self._claimed = have
        await self._join_with(metainfo, found)
        await self._fetch()

    async def _mend(self, fault: BitDewError) -> None:
        """Read what the disk still has, and fetch what it lost, and only that, in the way in which it is fetched."""
        storage = self._around.storage
        metainfo = await self._metainfo()
        await self._leave()
        good = await good_pieces(storage, metainfo.content)
        bad = [number for number, there in enumerate(good) if not there]
        told = rotten(metainfo.content, bad, because=fault) if bad else None
        if told is not None:
            await self._move(_S.FETCHING, told)
        await asyncio.to_thread(storage.write_have, self.root, packed(good))
        if bad and self._goes_by_http:
            await self._obtain(trusted=True, because=told)
            return
        await self._join_with(metainfo, await self._look_around(metainfo.content, packed(good)))
        await self._fetch()

    async def _look_around(self, content: Content, have: bytes | None) -> Found:
        """Find what this host has of the content already; `have` are the pieces that are known to be in its file."""

        def progressed(done: int) -> None:
            self.done = done
            self._around.keeper.copy_progressed(self)

        found = await found_here(content, have, self._around, progressed)
        self._earlier += Figures(reused=found.reused)
        return found

    @property
    def _goes_by_http(self) -> bool:
        return way_for(self.protocol, self.size, self.copies) is Way.HTTP

    async def _fetch_by_http(self, metainfo: Metainfo, found: Found) -> bool:
        """Return when the copy is held and the journal knows it; `found` is what is in the file.

        False, if nobody insists on HTTPS and it does not lead there: the swarm is to go on with what came.
        """
        watch, insisting = Patience(self._around.clock), self.protocol == "http"
        download = self._download = Download(metainfo.content, self._around, lambda: not insisting and bool(self.peers))

        async def look() -> None:
            if self.done != download.done:
                self.done = download.done
                self._around.keeper.copy_progressed(self)
            if (self.reason is None) != (download.fault is None):
                await self._move(_S.FETCHING, download.fault)
            if watch.checkpoint_is_due(self.done):
                await self._checkpoint_in_time(watch)

        try:
            await download.run(found, look)
        except BitDewError as fault:
            if insisting:
                raise
            log.info("what does not come by HTTPS is fetched by swarm", root=self.root, key=fault.key, why=str(fault))
            await self.checkpoint()
            await self._leave()
            await self._move(_S.FETCHING)
            return False
        await self._leave()
        await self._move(_S.VERIFYING)
        await self._join(metainfo, None, complete=True, dials=False)
        await self._keep()
        return True

    async def _fetch(self) -> None:
        """Return when the copy is held and the journal knows it."""
        watch = Patience(self._around.clock)
        while True:
            try:
                await self._follow(watch)
                if await self._claim_holds():
                    break
            except BitDewError as fault:
                if fault.key != "swarm.corrupt" or watch.is_over():
                    raise
                # Every source known so far sent wrong pieces. There may be others; joining anew lifts the bans.
                await self._move(_S.FETCHING, fault)
                await self._around.clock.sleep(ASK_SECONDS)
                await self._ask_for_peers()
                await self._rejoin()
        await self._keep()

    async def _keep(self) -> None:
        """The file is whole, durable and offered: it is held from now on."""
        storage, journal = self._around.storage, self._around.journal
        found = await asyncio.to_thread(storage.look, self.root)
        if found is None:
            raise error("storage.failed", f"The file {self.root[:16]}… vanished while it was verified")
        await asyncio.to_thread(storage.settle, self.root, self.size)
        await journal.save_copy(self.root, found)
        await asyncio.to_thread(storage.forget_have, self.root)
        self.done, self._looked = self.size, found
        if self._transfer is not None and self._transfer.banned:
            # Whoever sent wrong pieces mends them, from here too; a peer that is banned could not.
            metainfo = self._transfer.metainfo
            await self._leave()
            await self._join(metainfo, None, complete=True)
        await self._move(_S.HELD)

    async def _follow(self, watch: Patience) -> None:
        """Follow the transfer until it is held.

        Raises:
            BitDewError: as `Transfer.wait_held`; `swarm.stalled`.
        """
        transfer = self._transfer
        if transfer is None:
            raise error("swarm.failed", f"The transfer of {self.root[:16]}… is gone")
        held = asyncio.ensure_future(transfer.wait_held())
        self._help = Help(transfer, self._around, lambda: self.repository, _CHANCE)
        helping = asyncio.ensure_future(self._help.run())
        try:
            seen = 0
            while not held.done():
                if helping.done():
                    helping.result()
                self._dealt_with = transfer.error
                change = asyncio.ensure_future(transfer.next_change(seen))
                either = asyncio.wait({held, change}, return_when=asyncio.FIRST_COMPLETED)
                await wait_at_most(self._around.clock, CHECKPOINT_SECONDS, either)
                change.cancel()
                await asyncio.gather(change, return_exceptions=True)
                seen = transfer.changes
                if not held.done():
                    await self._look_after(transfer, watch)
            await held
        finally:
            held.cancel()
            helping.cancel()
            await asyncio.gather(held, helping, return_exceptions=True)
            self._earlier, self._help = self._earlier + self._helped(), None

    async def _look_after(self, transfer: Transfer, watch: Patience) -> None:
        """What is due between two changes of a transfer."""
        progress, came = transfer.progress, transfer.progress.downloaded + self._helped().from_repository
        if self.done != progress.done or came != watch.downloaded:
            self.done = progress.done
            self._around.keeper.copy_progressed(self)
        watch.saw(came, working=progress.state != "fetching")
        fault = transfer.error or (self._help.fault if self._help is not None else None)
        if fault is not None and (self.reason is None or self.reason.message != fault.message):
            await self._move(self.state, fault)  # a bad source, or a file that was not what it should be
        if progress.state == "finished" and self.state is not _S.VERIFYING:
            await self._move(_S.VERIFYING, fault)
        elif progress.state == "fetching" and self.state is _S.VERIFYING:
            await self._move(_S.FETCHING, fault)
        if watch.checkpoint_is_due(self.done):
            await self._checkpoint_in_time(watch)
        if watch.is_over():
            why = f"no byte in {PATIENCE_SECONDS:g} s, with {progress.peers} peers connected"
            raise error("swarm.stalled", f"{self.root[:16]}… does not arrive", why=why, done=self.done, size=self.size)
        if watch.question_is_due():
            watch.asked(answered=await self._ask_for_peers())

    async def _ask_for_peers(self) -> bool:
        """Have the service name more peers; whether it is there to answer."""
        try:
            request = AnnounceRequest(root=self.root)
            reply = await self._around.link.call("POST", "/v1/announce", AnnounceReply, body=request, seconds=5.0)
            new = self.meet([Endpoint.parse(text) for text in reply.peers])
        except BitDewError as fault:
            log.info("the service named no more peers", root=self.root, key=fault.key)
            return not is_passing(fault)
        if new:
            await self._around.keeper.copy_changed(self, moved=False)
        return True

    async def _fail(self, fault: BitDewError) -> None:
        """Leave the swarm, and say why. What is there stays, for the next attempt."""
        self._around.parking.release(self.root)
        await self.checkpoint()
        try:
            await self._leave()
            await asyncio.to_thread(self._around.storage.give_up, self.root)
        except BitDewError as further:
            log.warning("a failed copy could not be put away", root=self.root, why=str(further))
        await self._move(_S.FAILED, fault)

    async def _move(self, state: PlacementState, fault: BitDewError | None = None) -> None:
        self.state = state
        self.reason = None if fault is None else ErrorView.of(fault)
        await self._around.keeper.copy_changed(self, moved=True)
