"""What a copy is once its bytes are there: believed, looked at, doubted.

Owns the judgement of one file that was verified before. It must not fetch: what is doubted is mended by the copy.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.content import Content, piece_length_for
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot
from bitdew.core.states import PlacementState

from .queued import Queued

if TYPE_CHECKING:
    from bitdew.core.host import Endpoint

    from .entries import HeldCopy

log = structlog.get_logger(__name__)

GIVING_SECONDS: Final = 5.0
"""For so long after it was seen to send something, a copy counts as one that does."""


class Holding(Queued):
    """The part of a copy that judges its file; the copy sets what is used here."""

    state: PlacementState
    parked: bool
    _claimed: bytes | None
    _dealt_with: BitDewError | None
    _looked: HeldCopy | None
    _withdrawn: BitDewError | None
    _awaits: asyncio.Future[None] | None
    _callers: set[Endpoint]
    _given = 0
    _gave = 0.0

    @property
    def visited(self) -> bool:
        """Whether a peer is connected."""
        return self._transfer is not None and self._transfer.busy

    @property
    def content(self) -> Content | None:
        """How many pieces of which length there are; None as long as that is not known. Of a parked copy no more."""
        if self._transfer is not None:
            return self._transfer.metainfo.content
        known = self.parked and self.size
        return Content(ContentRoot(self.root), self.size, piece_length_for(self.size), b"") if known else None

    async def full_content(self) -> Content | None:
        """What the pieces are."""
        content = self.content
        if content is None or content.pieces == 1 or content.piece_layer:
            return content
        return (await self._metainfo()).content

    def withdraw(self, fault: BitDewError) -> None:
        """Offer a held copy to nobody from now on, for `fault` was found: it is read whole, and mended."""
        if self.state is not PlacementState.HELD:
            return
        if self._transfer is not None:
            self._transfer.withdraw(fault)
        else:
            self._withdrawn = fault
            self._stir()

    @property
    def gives(self) -> bool:
        """Whether a peer was sent something of it in the last seconds, as far as it was looked."""
        uploaded = 0 if self._transfer is None else self._transfer.progress.uploaded
        now = self._around.clock.monotonic()
        if uploaded != self._given:
            self._given, self._gave = uploaded, now
        return bool(uploaded) and now - self._gave < GIVING_SECONDS

    def park(self, parked: bool, caller: Endpoint | None = None) -> None:
        """Have a held copy leave its swarm soon, or join it again, and dial `caller`. Its file stays as it is."""
        self.parked = parked
        if caller is not None:
            self._callers.add(caller)
        self._stir()

    def _stir(self) -> None:
        if self._transfer is not None:
            self._transfer.nudge()
        if self._awaits is not None and not self._awaits.done():
            self._awaits.set_result(None)

    async def is_as_it_was(self) -> bool:
        """Whether the file of a held copy looks as it did when it was verified; one that does not is withdrawn.

        Raises:
            HostError: `storage.failed`.
        """
        found = await asyncio.to_thread(self._around.storage.look, self.root)
        if self.state is not PlacementState.HELD:
            return False
        if found != self._looked:
            why = "it is gone" if found is None else "its size or its time of change is another one"
            message = f"The file {self.root[:16]}… is not what was verified"
            self.withdraw(error("storage.rotten", message, why=why, root=self.root))
        return found == self._looked

    async def _until_doubted(self) -> BitDewError:
        """Offer the copy, parked or not, until the disk fails it; return the fault."""
        parking = self._around.parking
        parking.take(self)
        try:
            while (fault := self._fault()) is None:
                transfer = self._transfer
                if self.parked and transfer is not None:
                    await self._leave()
                elif self.parked:
                    self._awaits = asyncio.get_running_loop().create_future()
                    await self._awaits
                elif transfer is None:
                    await self._come_back()
                else:
                    await transfer.next_change(transfer.changes)
        finally:
            parking.release(self.root)
            self.parked, self._withdrawn, self._awaits = False, None, None
        return fault

    def _fault(self) -> BitDewError | None:
        """What the disk did to the copy, if that is known and not dealt with."""
        if self._withdrawn is not None or self._transfer is None:
            return self._withdrawn
        fault = self._transfer.error
        return None if fault is None or fault.key == "swarm.corrupt" or fault is self._dealt_with else fault

    async def _come_back(self) -> None:
        """Join the swarm again, if the file is as it was. Whoever wants it dials, or has called and is dialled."""
        if await self.is_as_it_was():
            metainfo, callers = await self._metainfo(), self._callers
            self._callers = set()
            await self._join(metainfo, None, complete=True, peers=callers)

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
