"""The block hashes of what the repository holds: one file beside each content's own.

Owns these files and when they are made. With them a host that has a similar content fetches only the blocks that it
lacks. They are made by reading the content, in the background, one at a time. Nobody has to believe them: the content's
root proves them, and whoever uses them checks that.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from bitdew.core.blocks import HASH, blocks_in, sketch_of
from bitdew.core.content import Content, ContentHasher
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot

log = structlog.get_logger(__name__)

WORTH: Final = 2**20
"""Bytes of a content from which on its blocks are told: a smaller one is fetched as fast as it is compared."""
MAKING_SECONDS: Final = 20.0
"""How long a caller is kept waiting for hashes that are being made; after that it may ask again."""
_STEP: Final = 8 * 2**20
_MOST_SKETCHES: Final = 4096


class BlockFiles:
    """The files `<root>.blocks` in the folder of the contents. They are made as long as `run` runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sketches: dict[ContentRoot, bytes] = {}
        self._wanted: dict[ContentRoot, Content] = {}
        self._woken = asyncio.Event()
        self._made = asyncio.Event()

    def want(self, content: Content) -> None:
        """Have the hashes of `content` made soon, unless they are there."""
        if content.size >= WORTH:
            self._wanted[content.root] = content
            self._woken.set()

    async def file_of(self, content: Content) -> Path:
        """The hashes of `content`, 32 bytes a block.

        Raises:
            UserError: `data.not-found`, if it is too small to have any, or gone.
            ServiceError: `help.busy`, if they are still being made; the seconds after which to ask again are told.
        """
        name, path = f"{content.root[:16]}…", self._folder / f"{content.root}.blocks"
        if content.size < WORTH:
            raise error("data.not-found", f"{name} is too small for its blocks to be told", root=content.root)
        if not await asyncio.to_thread(_is_whole, path, content):
            self.want(content)
            try:
                async with asyncio.timeout(MAKING_SECONDS):
                    while content.root in self._wanted:
                        await self._made.wait()
            except TimeoutError:
                why = "the repository is still reading it"
                raise error("help.busy", f"The blocks of {name} are not known yet", why=why, retry_after=5.0) from None
            if not await asyncio.to_thread(_is_whole, path, content):
                raise error("data.not-found", f"The blocks of {name} are not known", root=content.root)
        return path

    async def sketch(self, content: Content) -> bytes:
        """The sketch of `content`.

        Raises:
            BitDewError: as `file_of`.
        """
        known = self._sketches.get(content.root)
        if known is None:
            path = await self.file_of(content)
            known = sketch_of(await asyncio.to_thread(path.read_bytes))
            while len(self._sketches) >= _MOST_SKETCHES:
                del self._sketches[next(iter(self._sketches))]
            self._sketches[content.root] = known
        return known

    async def run(self) -> None:
        """Make what is wanted, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._wanted:
                content = next(iter(self._wanted.values()))
                try:
                    await self._make(content)
                except (OSError, BitDewError) as fault:
                    # It is made when it is asked for the next time. A bad copy is the business of whoever looks for it.
                    log.warning("the blocks of a content can't be told", root=content.root, why=str(fault))
                self._wanted.pop(content.root, None)
                made, self._made = self._made, asyncio.Event()
                made.set()

    async def remove(self, root: ContentRoot) -> None:
        """Remove the hashes of `root`, if there are any."""
        self._sketches.pop(root, None)
        self._wanted.pop(root, None)
        await asyncio.to_thread((self._folder / f"{root}.blocks").unlink, missing_ok=True)

    async def _make(self, content: Content) -> None:
        path = self._folder / f"{content.root}.blocks"
        if await asyncio.to_thread(_is_whole, path, content):
            return
        hasher = ContentHasher(content.size, keep_leaves=True)
        with await asyncio.to_thread((self._folder / content.root).open, "rb") as file:
            while hasher.seen < content.size and content.root in self._wanted:
                await asyncio.to_thread(_read_on, file, hasher)
        if content.root in self._wanted and hasher.finish().root == content.root:
            await asyncio.to_thread(_store, path, hasher.leaves)
            if content.root not in self._wanted:  # removed meanwhile
                await asyncio.to_thread(path.unlink, missing_ok=True)


def _read_on(file: BinaryIO, hasher: ContentHasher) -> None:
    chunk = file.read(_STEP)
    if not chunk:
        raise error("disk.changed", "The repository's file is shorter than its content")
    hasher.update(chunk)


def _is_whole(path: Path, content: Content) -> bool:
    try:
        return path.stat().st_size == blocks_in(content.size) * HASH
    except OSError:
        return False


def _store(path: Path, leaves: bytes) -> None:
    """Keep `leaves` durably at `path`."""
    partial = path.with_suffix(".blocks-new")
    with partial.open("wb") as file:
        file.write(leaves)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
