"""One copy on its way: from an order to a verified file, and what is done when it does not come.

Owns the steps. It must not decide what is wanted, and a failure never costs the pieces that are there. When to ask for
more peers and when to give up stands in `patience`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.states import PlacementState
from bitdew.wire.models import AnnounceReply, AnnounceRequest, ErrorView

from .download import Download
from .figures import Figures, figures_of
from .metainfo import metainfo_of
from .patience import ASK_SECONDS, CHECKPOINT_SECONDS, PATIENCE_SECONDS, Patience

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bitdew.swarm.metainfo import Metainfo
    from bitdew.swarm.transfer import Transfer
    from bitdew.wire.models import PlaceOrder

    from .entries import HeldCopy
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)

_S = PlacementState
LOOK_SECONDS: Final = 0.25
"""How often the figures of a download are looked at."""


class Copy:
    """One content on this host.

    Attributes:
        root: What it is.
        size: Bytes.
        first: The datum for whose sake it is fetched; the figures are its.
        wanted: The data that want it.
        peers: Where it can be had, the repository not among them.
        repository: Where the service's own seeder listens.
        protocol: How the latest order wants it fetched: "http", or anything else for by swarm.
        state: assigned, fetching, verifying, held or failed.
        reason: What went wrong, if something did.
        done: Bytes in verified pieces.
    """

    def __init__(self, around: Surroundings, order: PlaceOrder) -> None:
        self.root = order.root
        self.size = order.size
        self.first = ""
        self.wanted: set[str] = set()
        self.peers: set[Endpoint] = set()
        self.repository = Endpoint.parse(order.repository)
        self.protocol: str = order.protocol
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

    def learn(self, order: PlaceOrder) -> None:
        """Take the peers of `order`; how it wants the bytes fetched counts from the next attempt on."""
        self.protocol = order.protocol
        self.repository = Endpoint.parse(order.repository)
        self.meet(Endpoint.parse(text) for text in order.peers)

    def meet(self, peers: Iterable[Endpoint]) -> int:
        """Take `peers`; how many of them are new."""
        new = set(peers) - self.peers - {self.repository}
        self.peers |= new
        if self._transfer is not None:
            self._transfer.add_peers({*new, self.repository})
        return len(new)

    @property
    def figures(self) -> Figures:
        """Where the bytes came from, since this attempt, or this worker, started."""
        return self._earlier + self._current()

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

    # The steps

    async def _run(self, held: HeldCopy | None) -> None:
        try:
            if held is None or not await self._offer(held):
                await self._obtain(trusted=held is None)
            while True:
                fault = await self._until_doubted()
                await self._around.journal.forget_copy(self.root)
                await self._move(_S.FETCHING, fault)
                await self._mend()
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
        await self._join(await self._metainfo(), None, complete=True)
        self.done = self.size
        await self._move(_S.HELD)
        return True

    async def _obtain(self, *, trusted: bool) -> None:
        """Fetch what is missing. `trusted` is False when the file is not what was known of it."""
        storage = self._around.storage
        await asyncio.to_thread(storage.admit, self.root, self.size)
        metainfo = await self._metainfo()
        have = await asyncio.to_thread(storage.read_have, self.root) if trusted else None
        await self._move(_S.FETCHING)
        if self.protocol == "http":
            await self._fetch_by_http(metainfo, have)
            return
        self._claimed = have
        await self._join(metainfo, have, complete=False)
        await self._fetch()

    async def _mend(self) -> None:
        """Fetch again what the disk lost, in the way in which it is fetched."""
        if self.protocol == "http":
            await self._leave()
            await self._obtain(trusted=False)
        else:
            await self._fetch()

    async def _metainfo(self) -> Metainfo:
        return await metainfo_of(self.root, self.size, self._around.storage, self._around.link)

    async def _join(self, metainfo: Metainfo, have: bytes | None, *, complete: bool) -> None:
        self._transfer = await self._around.swarm.add(
            metainfo,
            self._around.storage.path(self.root),
            peers=[self.repository, *sorted(self.peers)],
            have=have,
            complete=complete,
        )

    async def _leave(self) -> None:
        self._earlier += self._current()
        self._download = None
        if self._transfer is not None:
            transfer, self._transfer = self._transfer, None
            await self._around.swarm.remove(transfer)

    async def _fetch_by_http(self, metainfo: Metainfo, have: bytes | None) -> None:
        """Return when the copy is held and the journal knows it; `have` names the pieces that are there."""
        clock, watch = self._around.clock, Patience(self._around.clock)
        self._download = download = Download(metainfo.content, self._around)
        work = asyncio.ensure_future(download.run(have))
        told: BitDewError | None = None
        try:
            while not work.done():
                await wait_at_most(clock, LOOK_SECONDS, asyncio.wait({work}))
                if self.done != download.done:
                    self.done = download.done
                    self._around.keeper.copy_progressed(self)
                if (told is None) != (download.fault is None):
                    told = download.fault
                    await self._move(_S.FETCHING, told)
                if watch.checkpoint_is_due(self.done):
                    await self.checkpoint()
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        await self._leave()
        await self._move(_S.VERIFYING)
        await self._join(metainfo, None, complete=True)
        await self._keep()

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
        self.done = self.size
        await self._move(_S.HELD)

    async def _claim_holds(self) -> bool:
        """Whether the pieces that an earlier worker had are still what they were: nobody watched them since.

        Otherwise everything is checked; False if something is missing then.
        """
        claimed, self._claimed = self._claimed, None
        transfer = self._transfer
        if claimed is None or transfer is None:
            return True
        content, storage = transfer.metainfo.content, self._around.storage
        if len(claimed) == -(-content.pieces // 8) and await asyncio.to_thread(
            storage.proves, self.root, content, claimed
        ):
            return True
        log.warning("pieces of an earlier start have changed; the file is checked", root=self.root)
        return await transfer.recheck()

    async def _rejoin(self) -> None:
        if self._transfer is None:
            return
        metainfo, have = self._transfer.metainfo, await self._transfer.checkpoint()
        await self._leave()
        await self._join(metainfo, have, complete=False)

    async def _follow(self, watch: Patience) -> None:
        """Follow the transfer until it is held.

        Raises:
            BitDewError: as `Transfer.wait_held`; `swarm.stalled`.
        """
        transfer = self._transfer
        if transfer is None:
            raise error("swarm.failed", f"The transfer of {self.root[:16]}… is gone")
        held = asyncio.ensure_future(transfer.wait_held())
        try:
            seen = 0
            while not held.done():
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
            await asyncio.gather(held, return_exceptions=True)

    async def _look_after(self, transfer: Transfer, watch: Patience) -> None:
        """What is due between two changes of a transfer."""
        before = self.done
        self._take_progress()
        if self.done != before:
            self._around.keeper.copy_progressed(self)
        progress = transfer.progress
        watch.saw(progress.downloaded, working=progress.state != "fetching")
        fault = transfer.error
        if fault is not None and (self.reason is None or self.reason.message != fault.message):
            await self._move(self.state, fault)  # a bad source, or a file that was not what it should be
        if progress.state == "finished" and self.state is not _S.VERIFYING:
            await self._move(_S.VERIFYING, fault)
        elif progress.state == "fetching" and self.state is _S.VERIFYING:
            await self._move(_S.FETCHING, fault)
        if watch.checkpoint_is_due(self.done):
            await self.checkpoint()
        if watch.is_over():
            why = f"no byte in {PATIENCE_SECONDS:g} s, with {progress.peers} peers connected"
            raise error("swarm.stalled", f"{self.root[:16]}… does not arrive", why=why, done=self.done, size=self.size)
        if watch.question_is_due():
            await self._ask_for_peers()

    async def _ask_for_peers(self) -> None:
        try:
            request = AnnounceRequest(root=self.root)
            reply = await self._around.link.call("POST", "/v1/announce", AnnounceReply, body=request, seconds=5.0)
            new = self.meet([Endpoint.parse(text) for text in reply.peers])
        except BitDewError as fault:
            log.info("the service named no more peers", root=self.root, key=fault.key)
            return
        if new:
            await self._around.keeper.copy_changed(self, moved=False)

    async def _until_doubted(self) -> BitDewError:
        """Offer the copy until the disk fails it; return the fault."""
        transfer = self._transfer
        if transfer is None:
            raise error("swarm.failed", f"The transfer of {self.root[:16]}… is gone")
        while (fault := transfer.error) is None or fault.key == "swarm.corrupt" or fault is self._dealt_with:
            await transfer.next_change(transfer.changes)
        return fault

    async def _fail(self, fault: BitDewError) -> None:
        """Leave the swarm, and say why. What is there stays, for the next attempt."""
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

    def _take_progress(self) -> None:
        if self._transfer is not None:
            self.done = self._transfer.progress.done

    def _current(self) -> Figures:
        """The figures of what is under way."""
        if self._download is not None:
            return Figures(from_repository=self._download.received, corrupt=self._download.corrupt)
        if self._transfer is not None:
            return figures_of(self._transfer.progress, self.repository, self.peers)
        return Figures()
