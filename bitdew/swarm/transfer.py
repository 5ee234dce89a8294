"""One file in one swarm: fetching it, and making sure of it.

Owns the orders to one torrent and the steps that make pieces durable. It must not open sessions, choose peers or
decide what to do about an error.

A file that libtorrent calls finished need not be on the disk: its last blocks may sit in a cache that a full disk
never takes. So nothing counts as held before it was flushed without a fault and synced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import libtorrent as lt

from bitdew.core.errors import BitDewError, error

from .bitfield import unpacked
from .record import TransferRecord
from .settings import set_transfer_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bitdew.core.host import Endpoint

    from . import alerts
    from .disk_file import DiskFile
    from .metainfo import Metainfo
    from .settings import TransferLimits


class Transfer(TransferRecord):
    """A file that is fetched from, or offered to, its swarm. Made by `Swarm.add`, ended by `Swarm.remove`.

    After a disk fault it leaves the swarm, offering nothing, until `recheck` or a further `wait_held` has read the
    file again.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        file: DiskFile,
        sources: Iterable[Endpoint],
        *,
        complete: bool,
        stir: Callable[[Transfer], None],
    ) -> None:
        """`stir` asks the session to report on this one soon."""
        super().__init__(metainfo, file.path)
        self.file = file
        self._sources.update(sources)
        self.met = bool(self._sources)  # it knows peers that the session was not told to be patient with
        self._durable = complete
        self._ask = stir
        self._handle: lt.torrent_handle | None = None
        self._disk = asyncio.Lock()  # one flush or check at a time: their answers carry no name

    # What callers ask for

    async def wait_held(self) -> None:
        """Return when every piece is verified, written without a fault, and synced to the disk.

        To try again after it raised, call it again: what a disk fault left is checked first.

        Raises:
            HostError: `storage.full`, `storage.failed`; `swarm.failed`, if the transfer was removed or can't go on.
            PeerError: `swarm.corrupt`, if every known source sent wrong pieces. Add another peer first, or remove and
                add the transfer again, which lifts the bans.
        """
        if self._stopped_by is not None and self._told and not self._gone:
            await self.recheck()
        while True:
            await self._until(lambda: self._seen.whole, fed=True)
            async with self._disk:
                if await self._flushed() == self._all_pieces():
                    await self._sync(whole=True)
                    self._durable = True
                    self._update()
                    return

    async def checkpoint(self) -> bytes:
        """The bitfield of the pieces that are on the disk now and stay there: give it to `Swarm.add` after a restart.

        Raises:
            HostError: `storage.full`, `storage.failed`, `swarm.failed`.
        """
        async with self._disk:
            have = await self._flushed()
            await self._sync(whole=False)
            return have

    async def recheck(self) -> bool:
        """Read and hash the whole file; True if it is whole. Clears an error of the disk, and joins the swarm again.

        Raises:
            HostError: `storage.full`, `storage.failed`, `swarm.failed`.
        """
        self._refuse_if_gone()
        async with self._disk:
            await self.flush()  # faults that are still on their way belong to the past
            self._refuse_if_gone()
            await asyncio.to_thread(self.file.adopt)
            self._refuse_if_gone()
            self._stopped_by = None
            self._durable = False
            checks = self._checks
            self.handle.clear_error()
            if not self.file.read_only:
                self.handle.unset_flags(lt.torrent_flags.upload_mode)
            self.handle.force_recheck()
            self.handle.resume()  # after force_recheck: no peer is served what is in doubt
            await self._until(lambda: self._checks > checks)
            whole = await self._pieces() == self._all_pieces()
            if whole:
                await self._sync(whole=True)
                self._durable = True
            if self.error is not None and self.error.key.startswith("storage."):
                self.error = None
            self._update()
            self._mark_change()
            return whole

    async def next_change(self, seen: int) -> int:
        """Return `changes` as soon as it is greater than `seen`.

        Raises:
            HostError: `swarm.failed`, if the transfer was removed and there will be no change.
        """
        while self.changes <= seen:
            self._refuse_if_gone()
            await self._changed.wait()
        return self.changes

    async def missing(self) -> dict[int, int]:
        """The pieces that are not there yet, each with how many of the connected peers have it.

        Raises:
            HostError: `storage.full`, `storage.failed`, `swarm.failed`.
        """
        have = await self._pieces()
        asked = self._counts
        self.handle.post_piece_availability()
        await self._until(lambda: self._counts > asked)
        # There are no counts once it is whole, and none but zeros before anybody is connected.
        counts = self._available or (0,) * self.metainfo.content.pieces
        there = unpacked(have, self.metainfo.content.pieces) or [False] * self.metainfo.content.pieces
        return {number: count for number, (count, held) in enumerate(zip(counts, there, strict=True)) if not held}

    def is_connected_to(self, peer: Endpoint) -> bool:
        """Whether a connection that went out to `peer` is open, and it has said who it is."""
        return peer in self._shaken

    def give(self, number: int, piece: bytes) -> None:
        """Hand in a piece that came another way: it is verified, written and offered as if a peer had sent it.

        That takes a moment. A piece that is there already stays as it is, and one that is wrong is thrown away.

        Raises:
            HostError: `storage.full`, `storage.failed`, `swarm.failed`.
        """
        self._refuse_if_stopped()
        self.handle.add_piece(number, piece, lt.add_piece_flags_t.overwrite_existing)
        self._stir()

    def add_peers(self, peers: Iterable[Endpoint]) -> None:
        """Connect to `peers` too; those known already are left as they are."""
        if self._gone:
            return
        for peer in set(peers) - self._sources:
            self._sources.add(peer)
            self.met = True
            self.handle.connect_peer((peer.host, peer.port))
        self._stir()

    def nudge(self) -> None:
        """Wake whoever waits for a change, so that it looks at something else."""
        self._mark_change()

    def withdraw(self, problem: BitDewError) -> None:
        """Offer nothing from now on, and say why: somebody found that the file is not what it should be.

        It is then as after a fault of the disk: `recheck`, or removing it and adding it again, brings it back.
        """
        self._stop(problem)

    def set_limits(self, limits: TransferLimits) -> None:
        """Change its own caps at once; those of the whole swarm hold beside them. Peers beyond the cap are left.

        Raises:
            HostError: `swarm.failed`, if it was removed.
        """
        set_transfer_limits(self.handle, limits)

    # What the session does with it

    @property
    def entered(self) -> bool:
        """Whether the session knows it: not before it was added, nor after it was removed."""
        return self._handle is not None

    @property
    def handle(self) -> lt.torrent_handle:
        """What libtorrent knows it by.

        Raises:
            HostError: `swarm.failed`, if the transfer was removed.
        """
        if self._handle is None:
            raise error("swarm.failed", f"The transfer of {self.path.name} was removed")
        return self._handle

    def enter(self, handle: lt.torrent_handle, doubt: str) -> None:
        """The session knows it as `handle` now; `doubt` is why a claim was not believed, or ""."""
        self._handle = handle
        if doubt:
            self.doubt(doubt)
        if self._stopped_by is not None:  # a fault that was quicker than we
            handle.pause()

    def take(self, event: alerts.TorrentEvent) -> None:
        """Learn from `event`, and have the session look closer where more may have changed."""
        checked, whole = self._checks, self._seen.whole
        super().take(event)
        if not hasattr(event, "have") or self._checks != checked or self._seen.whole != whole:
            self._stir()

    def renew(self, certificate: str, private_key: str, dh_parameters: str) -> None:
        """Show another certificate to peers from now on."""
        self.handle.set_ssl_certificate_buffer(certificate, private_key, dh_parameters)

    async def flush(self) -> None:
        """Hand what is in memory to the operating system. Faults are recorded, not raised."""
        flushes = self._flushes
        if self._handle is None:  # removed while somebody was about to flush one after the other
            return
        try:
            self._handle.flush_cache()
        except RuntimeError:  # it was removed, and the session has forgotten it before it told so
            return
        while self._flushes == flushes and not self._gone:
            await self._changed.wait()

    async def removed(self) -> None:
        """Return when the session has forgotten it."""
        while not self._gone:
            await self._changed.wait()

    def end(self) -> None:
        """It left its session; whoever waits is told."""
        self._gone = True
        self._handle = None
        self._mark_change()

    # How it is done

    def _stir(self) -> None:
        self._ask(self)

    def _stop(self, problem: BitDewError) -> None:
        super()._stop(problem)
        if self._handle is not None:
            self._handle.pause()  # what it offers is in doubt, and each request would fail again

    def _all_pieces(self) -> bytes:
        pieces = self.metainfo.content.pieces
        return (((1 << pieces) - 1) << (-pieces % 8)).to_bytes(-(-pieces // 8), "big")

    def _refuse_if_gone(self) -> None:
        if self._gone:
            raise error("swarm.failed", f"The transfer of {self.path.name} was removed")

    def _refuse_if_stopped(self) -> None:
        self._refuse_if_gone()
        if self._stopped_by is not None:
            self._told = True
            raise self._stopped_by

    def _refuse_if_starved(self) -> None:
        """All who were there sent wrong pieces and nobody else is known; or nothing may be fetched."""
        if self.error is None:
            return
        # A ban is reported a moment before the piece that led to it.
        rotten = self._corrupt and self._banned and not self._connected and self._sources <= self._banned.keys()
        if rotten or (self.file.read_only and not self._seen.checking):
            raise self.error

    async def _until(self, arrived: Callable[[], bool], *, fed: bool = False) -> None:
        while True:
            self._refuse_if_stopped()
            if arrived():
                return
            if fed:
                self._refuse_if_starved()
            await self._changed.wait()

    async def _pieces(self) -> bytes:
        bitfields = self._bitfields
        self.handle.post_status(lt.torrent_handle.query_pieces)
        await self._until(lambda: self._bitfields > bitfields)
        return self._have

    async def _flushed(self) -> bytes:
        """The bitfield of pieces that were there before a flush that met no fault."""
        self._refuse_if_stopped()
        have = await self._pieces()
        flushes, wish = self._flushes, self.want_sample()
        self._stir()
        self.handle.flush_cache()
        await self._until(lambda: self._flushes > flushes and self._sampled >= wish)
        return have

    async def _sync(self, *, whole: bool) -> None:
        try:
            await asyncio.to_thread(self.file.sync, whole=whole)
        except BitDewError as problem:
            self._stop(problem)
        self._refuse_if_stopped()
