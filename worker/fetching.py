"""One copy on its way: from an order to a verified file, and what is done when it does not come.

Owns the steps. It must not decide what is wanted, and a failure never costs the pieces that are there. When to ask for
more peers and when to give up stands in `patience`.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.states import PlacementState
from bitdew.swarm.bitfield import packed
from bitdew.wire.models import ErrorView

from .download import Download
from .figures import Figures
from .help import Help
from .holding import Holding
from .nothing import hold_nothing
from .patience import ASK_SECONDS, CHECKPOINT_SECONDS, PATIENCE_SECONDS, Patience
from .reuse import Known, found_here
from .scrubbing import good_pieces, rotten
from .turns import lane_for
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
    from .turns import Turn

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
        priority: As the latest order says: the higher comes first.
        protocol: How the latest order wants it fetched: "http", "bittorrent", or "auto" for whichever suits it.
        copies: How many hosts hold it or are to, as the latest order says; 0 if it does not.
        state: assigned, fetching, verifying, held or failed.
        reason: What went wrong, if something did.
        done: Bytes in verified pieces.
        seeks: Whether it is fetched by swarm now.
        parked: Whether it is held, and not in its swarm: see `parking`.
    """

    def __init__(self, around: Surroundings, order: PlaceOrder) -> None:
        self.root = order.root
        self.size = order.size
        self.first = ""
        self.wanted: set[str] = set()
        self.peers: set[Endpoint] = set()
        self.repository = Endpoint.parse(order.repository)
        self.priority = order.priority
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
        self._turn: Turn | None = None
        self._watch: Patience | None = None
        self._silence = 0.0
        self._looked: HeldCopy | None = None
        self.parked = self.seeks = False
        self._callers: set[Endpoint] = set()
        self._withdrawn: BitDewError | None = None
        self._awaits: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether it is on its way: not held, and not given up."""
        return self._task is not None and not self._task.done() and self.state is not _S.HELD

    def learn(self, order: PlaceOrder) -> None:
        """Take the peers of `order`; how it wants the bytes fetched counts from the next attempt on."""
        self.protocol, self.copies, self.priority = order.protocol, order.copies, order.priority
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
                await self._obtain(Known.BELIEVED if held is None else Known.NOTHING)
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
            await self._join(await self._metainfo(), None, complete=True, peers=None if self._around.moved else ())
        self.done, self._looked = self.size, found
        await self._move(_S.HELD)
        return True

    async def _obtain(self, known: Known, because: BitDewError | None = None) -> None:
        """Fetch what is missing when its turn comes, `because` something went wrong."""
        way, self._silence = self._way, 0.0
        while not (came := await self._in_turn(lane_for(way, self.size), partial(self._bring, way, known, because))):
            if came is None:
                log.info("nothing of it comes: the turn goes to others", root=self.root)
                await self._step_back()
            else:
                way = Way.SWARM
            known = Known.BELIEVED

    async def _step_back(self) -> None:
        """Leave, with what came; how long it has been silent counts on when its turn comes again."""
        if self._watch is not None:
            self._silence = self._watch.silence
        await self.checkpoint()
        await self._leave()

    async def _bring(self, way: Way, known: Known, because: BitDewError | None) -> bool:
        """Fetch what is missing, in this `way`; False if it does not lead there."""
        storage = self._around.storage
        if known is not Known.READ:  # else it is counted, and there is nothing more to be written than was
            await self._around.room.admit(self.root, self.size)
        metainfo = await self._metainfo()
        have = await asyncio.to_thread(storage.read_have, self.root) if known is not Known.NOTHING else None
        self.seeks = way is Way.SWARM
        await self._move(_S.FETCHING, because)  # a cause that goes at once would never be told
        found = await self._look_around(metainfo.content, have)
        if way is Way.HTTP:
            return await self._fetch_by_http(metainfo, found)
        self._claimed = have if known is Known.BELIEVED else None
        await self._join_with(metainfo, found)
        return await self._fetch()

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
        await self._obtain(Known.READ, told)

    async def _look_around(self, content: Content, have: bytes | None) -> Found:
        """Find what this host has of the content already; `have` are the pieces that are known to be in its file."""

        def progressed(done: int) -> None:
            self.done = done
            self._progressed()

        found = await found_here(content, have, self._around, progressed)
        self._earlier += Figures(reused=found.reused)
        return found

    def _progressed(self) -> None:
        if self._turn is not None:
            self._turn.moved()
        self._around.keeper.copy_progressed(self)

    @property
    def _way(self) -> Way:
        return way_for(self.protocol, self.size, self.copies)

    async def _fetch_by_http(self, metainfo: Metainfo, found: Found) -> bool:
        """Return when the copy is held and the journal knows it; `found` is what is in the file.

        False, if nobody insists on HTTPS and it does not lead there: the swarm is to go on with what came.
        """
        watch, insisting = Patience(self._around.clock), self.protocol == "http"
        download = self._download = Download(metainfo.content, self._around, lambda: not insisting and bool(self.peers))

        async def look() -> None:
            if self.done != download.done:
                self.done = download.done
                self._progressed()
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
        await self._join(metainfo, None, complete=True, peers=())
        await self._keep()
        return True

    async def _fetch(self) -> bool:
        """Return, True, when the copy is held and the journal knows it."""
        watch = self._watch = Patience(self._around.clock, self._silence)
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
        return True

    async def _keep(self) -> None:
        """The file is whole, durable and offered: it is held from now on."""
        storage, journal = self._around.storage, self._around.journal
        self.seeks = False
        if self._turn is not None:
            self._turn.settle()
        self._around.turns.forget(self.root)
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
            self._progressed()
        elif progress.state != "fetching" and self._turn is not None:
            self._turn.moved()
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

    async def _met(self) -> None:
        await self._around.keeper.copy_changed(self, moved=False)

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
