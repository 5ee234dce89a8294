"""What this host knows of the blocks of contents: sketches, and the hashes of all blocks.

Owns where they are looked for, and that nothing is believed which the content's root does not prove. A sketch can't be
proven: it only chooses what is compared.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.blocks import HASH, alike, blocks_in, proven, sketch_of
from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError
from bitdew.wire.models import SketchReply

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.core.content import Content

    from .link import ServiceLink
    from .storage import Storage

log = structlog.get_logger(__name__)

WORTH: Final = 2**20
"""Bytes of a content from which on it is compared with others: a smaller one is fetched as fast."""
LIKENESS: Final = 2 / 64
"""What two sketches have in common at least: one block may be in many contents that have nothing else in common."""
BASES: Final = 2
"""Other contents that are read for the blocks of one at most: each costs reading it whole."""
REPLY_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 120.0
"""How long a service is waited for that is still reading the new content: it does so for 20 GB in a minute or two."""
PAUSE_SECONDS: Final = 1.0
_STEP: Final = 8 * 2**20


class Blocks:
    """Asks the disk, then the service, and reads the file where neither knows."""

    def __init__(self, storage: Storage, link: ServiceLink, clock: Clock) -> None:
        self._storage = storage
        self._link = link
        self._clock = clock

    async def bases_of(self, content: Content) -> list[str]:
        """The contents on this host that resemble `content` the most, the most similar first.

        What they are called, and which was made from which, does not matter. Where nothing can be known there are none.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        if content.size < WORTH:
            return []
        others = await asyncio.to_thread(self._storage.others, content.root, WORTH)
        if not others or not (mine := await self._patiently_asked(content.root)):
            return []
        likeness = {}
        for root in others:
            sketch = await self._sketch(root)
            if sketch is None:  # the service is away or busy: what is known has to do
                break
            likeness[root] = alike(mine, sketch)
        found = [root for root, value in likeness.items() if value >= LIKENESS]
        return sorted(found, key=lambda root: (-likeness[root], root))[:BASES]

    async def known(self, content: Content) -> bytes | None:
        """The proven hashes of all blocks of `content`, if they are on the disk."""
        leaves = await asyncio.to_thread(self._storage.read_about_blocks, content.root, "blocks")
        if leaves is None or await asyncio.to_thread(proven, leaves, content):
            return leaves
        log.warning("stored block hashes are damaged", root=content.root)
        return None

    async def fetched(self, content: Content) -> bytes | None:
        """The proven hashes of all blocks of `content`: from the disk, or else from the service, or else none."""
        if (leaves := await self.known(content)) is not None:
            return leaves
        came = bytearray()
        try:
            path, size = f"/v1/blocks/{content.root}", blocks_in(content.size) * HASH
            async with aclosing(self._link.download(path, 0, size)) as chunks:
                async for chunk in chunks:
                    came += chunk
        except BitDewError as fault:
            log.info("the hashes of the blocks can't be had", root=content.root, key=fault.key, why=str(fault))
            return None
        leaves = bytes(came)
        if not await asyncio.to_thread(proven, leaves, content):
            log.warning("the service's block hashes are wrong", root=content.root)
            return None
        await asyncio.to_thread(self._storage.write_about_blocks, content.root, "blocks", leaves)
        return leaves

    async def _patiently_asked(self, root: str) -> bytes:
        """The sketch of a new content; the service may still be reading it, and is waited for then. b"" for none."""
        until = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._asked(root)
            except BitDewError as fault:
                if fault.key != "help.busy" or self._clock.monotonic() >= until:
                    log.info("nothing is known of likeness", root=root, key=fault.key, why=str(fault))
                    return b""
            await self._clock.sleep(PAUSE_SECONDS)

    async def _sketch(self, root: str) -> bytes | None:
        """The sketch of what is here; None if the service can't say now. What it knows no more is read."""
        known = await asyncio.to_thread(self._storage.read_about_blocks, root, "sketch")
        if known is not None:
            return known
        try:
            return await self._asked(root)
        except BitDewError as fault:
            if fault.key != "data.not-found":
                log.info("nothing is known of likeness", root=root, key=fault.key, why=str(fault))
                return None
        return await self._read(root)

    async def _asked(self, root: str) -> bytes:
        reply = await self._link.call("GET", f"/v1/sketch/{root}", SketchReply, seconds=REPLY_SECONDS)
        await asyncio.to_thread(self._storage.write_about_blocks, root, "sketch", reply.sketch)
        return reply.sketch

    async def _read(self, root: str) -> bytes:
        """The sketch of what is in the file of `root` now, kept if that is all of it; b"" if it can't be read."""
        log.info("a content of which the service knows nothing is read", root=root)
        found = await asyncio.to_thread(self._storage.look, root)
        hasher = ContentHasher(found.size if found else 0, keep_leaves=True)
        while hasher.seen < hasher.size:
            if not await asyncio.to_thread(self._read_on, root, hasher):
                return b""
        whole = hasher.finish().root == root
        sketch = await asyncio.to_thread(sketch_of, hasher.leaves)
        if whole:
            await asyncio.to_thread(self._storage.write_about_blocks, root, "sketch", sketch)
        return sketch

    def _read_on(self, root: str, hasher: ContentHasher) -> bool:
        try:
            with self._storage.path(root).open("rb") as file:
                file.seek(hasher.seen)
                chunk = file.read(min(_STEP, hasher.size - hasher.seen))
        except OSError:
            return False
        hasher.update(chunk)
        return bool(chunk)
