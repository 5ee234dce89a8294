"""What a copy is while its bytes come: a member of its swarm, or a download; and where its bytes can be had.

Owns entering and leaving a swarm, and the figures of where bytes came from. It must not decide which way they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.swarm.bitfield import packed, unpacked
from bitdew.tasks import to_the_end
from bitdew.wire.models import AnnounceReply, AnnounceRequest

from .figures import Figures, figures_of
from .link import is_passing
from .metainfo import metainfo_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bitdew.swarm.metainfo import Metainfo
    from bitdew.swarm.transfer import Transfer

    from .download import Download
    from .help import Help
    from .reuse import Found
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)


class Membership:
    """The part of a copy that deals with its swarm; the copy sets what is used here."""

    root: str
    size: int
    done: int
    peers: set[Endpoint]
    repository: Endpoint
    _around: Surroundings
    _transfer: Transfer | None
    _download: Download | None
    _help: Help | None
    _earlier: Figures
    _masks: Mapping[int, Sequence[bool]]

    def meet(self, peers: Iterable[Endpoint]) -> int:
        """Take `peers`; how many of them are new."""
        new = set(peers) - self.peers - {self.repository}
        self.peers |= new
        if self._transfer is not None:
            self._transfer.add_peers({*new, self.repository})
        return len(new)

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
            await self._met()
        return True

    async def _met(self) -> None:
        """More peers are known now."""
        raise NotImplementedError

    @property
    def figures(self) -> Figures:
        """Where the bytes came from, since this attempt, or this worker, started."""
        return self._earlier + self._current() + self._helped()

    async def _metainfo(self) -> Metainfo:
        return await metainfo_of(self.root, self.size, self._around.storage, self._around.link)

    async def _join_with(self, metainfo: Metainfo, found: Found) -> None:
        self._masks = found.unfinished
        await self._join(metainfo, packed(found.have), unfinished=found.unfinished, complete=False)

    async def _join(
        self,
        metainfo: Metainfo,
        have: bytes | None,
        *,
        complete: bool,
        unfinished: Mapping[int, Sequence[bool]] | None = None,
        peers: Collection[Endpoint] | None = None,
    ) -> None:
        """It goes to `peers` by itself, or to all that are known if none are named; others come."""
        caps = self._around.bandwidth.of(self.root)
        self._transfer = await self._around.swarm.add(
            metainfo,
            self._around.storage.path(self.root),
            peers=[self.repository, *sorted(self.peers)] if peers is None else peers,
            have=have,
            unfinished=unfinished,
            complete=complete,
            limits=caps,
        )
        if (now := self._around.bandwidth.of(self.root)) != caps:  # changed meanwhile
            self._transfer.set_limits(now)

    async def _leave(self) -> None:
        self._earlier += self._current()
        self._download = None
        if self._transfer is not None:
            transfer, self._transfer = self._transfer, None
            await to_the_end(self._around.swarm.remove(transfer))  # half left, it could not be joined again

    async def _rejoin(self) -> None:
        if self._transfer is None:
            return
        metainfo, have = self._transfer.metainfo, await self._transfer.checkpoint()
        there = unpacked(have, metainfo.content.pieces) or [False] * metainfo.content.pieces
        await self._leave()
        # Blocks that were here before are here still: if something wrong was written over them, their piece tells.
        unfinished = {number: blocks for number, blocks in self._masks.items() if not there[number]}
        await self._join(metainfo, have, unfinished=unfinished, complete=False)

    def _helped(self) -> Figures:
        """What came over HTTPS into the transfer that is under way."""
        return Figures(from_repository=self._help.received) if self._help is not None else Figures()

    def _current(self) -> Figures:
        """The figures of what is under way."""
        if self._download is not None:
            return Figures(from_repository=self._download.received, corrupt=self._download.corrupt)
        if self._transfer is not None:
            return figures_of(self._transfer.progress, self.repository)
        return Figures()
