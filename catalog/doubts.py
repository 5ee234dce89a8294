"""What people say of the repository's copies: that a piece came wrong, or not at all.

Owns what is done about it: the file is looked at, that piece is read from the disk, and where either is bad the copy is
served no more. Nobody is believed, and whoever says it often has a piece read often, one at a time. Who mends it stands
in `mending`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from bitdew.core.content import Content
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot

from .contents import Contents
from .scrubbing import fault_of_piece, faults_of_files

log = structlog.get_logger(__name__)


class Doubts:
    """Looks at what is doubted."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._one_at_a_time = asyncio.Lock()

    async def hear(self, root: ContentRoot, piece: int) -> bool:
        """Somebody could not have `piece` of a content as it should be; whether the repository's copy is bad."""
        async with self._one_at_a_time:
            repository = self._contents.repository
            content = repository.seeded_content(root)
            if content is None or piece >= content.pieces:
                return content is None and self._contents.fault_of(root) is not None
            stamp = await repository.stamp(root)
            fault = await asyncio.to_thread(_fault, repository.path(root), content, piece)
            if fault is None:
                return False
            if not await asyncio.to_thread(repository.is_there):
                log.error("the repository's folder is not there", folder=str(repository.path(root).parent))
                return False
            await self._contents.condemn(root, stamp, fault)
            return True


def _fault(path: Path, content: Content, piece: int) -> BitDewError | None:
    """What is wrong with the file, or else with that piece. Blocks."""
    for _content, fault in faults_of_files([(path, content)]):
        return fault
    return fault_of_piece(path, content, piece)
