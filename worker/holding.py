"""What a copy is once its bytes are there: believed, looked at, doubted.

Owns the judgement of one file that was verified before. It must not fetch: what is doubted is mended by the copy.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.states import PlacementState

if TYPE_CHECKING:
    from bitdew.core.content import Content
    from bitdew.swarm.transfer import Transfer

    from .entries import HeldCopy
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)


class Holding:
    """The part of a copy that judges its file; the copy sets what is used here."""

    root: str
    state: PlacementState
    _around: Surroundings
    _transfer: Transfer | None
    _claimed: bytes | None
    _dealt_with: BitDewError | None
    _looked: HeldCopy | None

    @property
    def content(self) -> Content | None:
        """What the pieces are; None as long as that is not known."""
        return None if self._transfer is None else self._transfer.metainfo.content

    def withdraw(self, fault: BitDewError) -> None:
        """Offer a held copy to nobody from now on, for `fault` was found: it is read whole, and mended."""
        if self._transfer is not None and self.state is PlacementState.HELD:
            self._transfer.withdraw(fault)

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
        """Offer the copy until the disk fails it; return the fault."""
        transfer = self._transfer
        if transfer is None:
            raise error("swarm.failed", f"The transfer of {self.root[:16]}… is gone")
        while (fault := transfer.error) is None or fault.key == "swarm.corrupt" or fault is self._dealt_with:
            await transfer.next_change(transfer.changes)
        return fault

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
