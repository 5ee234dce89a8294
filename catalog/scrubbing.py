"""Reading back what the repository has: a little at a time, over days, so that rot is found before it matters.

Owns when which piece is read, and what a look at a file shows. It must not mend: what is found bad is given to the
contents, which withdraw it. Contents are read in the order of their roots, round after round, so that one place in a
small file, `scrubbing.json`, tells all that a restart has to know. Every few minutes all files are looked at without
being read: one that is gone, or has another length, does not wait for its turn. Of several services that share a
repository, one does this.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import structlog

from bitdew.core.blocks import length_of_piece, root_of
from bitdew.core.clock import Clock
from bitdew.core.content import Content, root_of_piece
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot
from bitdew.humble import humble_thread

from .contents import Contents
from .damage import damage

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

DAY: Final = 86400.0
MOST_RATE: Final = 8 * 2**20
"""Bytes per second that are read back at most, however much there is."""
LOOK_SECONDS: Final = 300.0
"""How often all files are looked at, and what there is to be read."""
BUSY_SECONDS: Final = 5.0
"""How long the next piece waits where the repository has something better to do,"""
POSTPONED_SECONDS: Final = 3600.0
"""and after how long it is read all the same."""
SAVE_SECONDS: Final = 60.0
"""How much reading a restart may cost."""
_LARGEST_STATE: Final = 4096


class Scrubber:
    """Reads back one repository."""

    def __init__(
        self,
        contents: Contents,
        clock: Clock,
        state: Path,
        *,
        days: float,
        is_mine: Callable[[], bool],
        is_busy: Callable[[], bool],
    ) -> None:
        """Nothing is read before `run`.

        Args:
            contents: What there is.
            clock: Whose time it is.
            state: The file that tells how far an earlier process came.
            days: Within how many days all is read; 0 for never.
            is_mine: Whether it is this process that does it now.
            is_busy: Whether the repository has something better to do.
        """
        self._contents = contents
        self._clock = clock
        self._state = state
        self._period = days * DAY
        self._is_mine = is_mine
        self._is_busy = is_busy
        self._roots: list[ContentRoot] = []
        self._total = 0
        self._at: tuple[str, int] = ("", 0)
        self._looked = self._saved = self._read = -LOOK_SECONDS
        self._waited = 0.0
        self._thread = humble_thread("repository scrubbing")

    async def run(self) -> None:
        """Read back, until cancelled."""
        try:
            self._at = await self._in_thread(lambda: _load(self._state))
            while True:
                try:
                    pause = await self._step()
                except (BitDewError, OSError):
                    log.exception("the repository can't be read back now; it is tried again")
                    pause = LOOK_SECONDS
                await self._clock.sleep(pause)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _step(self) -> float:
        """Do what is due; after how many seconds something may be due again."""
        if not self._is_mine():
            return LOOK_SECONDS
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            await self._look()
            self._looked = now
        turn = self._turn() if self._period else None
        if turn is None:
            return LOOK_SECONDS
        content, piece = turn
        length = length_of_piece(content, piece)
        left = self._read + max(self._period * length / max(1, self._total), length / MOST_RATE) - now
        if left > 0:
            return min(left, LOOK_SECONDS)
        if self._waited < POSTPONED_SECONDS and self._is_busy():
            self._waited += BUSY_SECONDS
            return BUSY_SECONDS
        self._waited, self._read = 0.0, now
        await self._read_piece(content, piece)
        return 0.0

    def _turn(self) -> tuple[Content, int] | None:
        """The next piece of the round, or the first of the next one; None if there is nothing."""
        root, piece = self._at
        first = bisect.bisect_left(self._roots, root)
        for place in (*range(first, len(self._roots)), *range(first + 1)):
            candidate = self._roots[place] if place < len(self._roots) else root
            content = self._contents.repository.seeded_content(ContentRoot(candidate))
            number = piece if place == first and candidate == root else 0
            if content is not None and number < content.pieces:  # else it went since, or is through
                return content, number
            piece = 0
        return None

    async def _read_piece(self, content: Content, piece: int) -> None:
        path, stamp = self._contents.repository.path(content.root), await self._contents.repository.stamp(content.root)
        fault = await self._in_thread(lambda: fault_of_piece(path, content, piece))
        if fault is not None:
            await self._contents.condemn(content.root, stamp, fault)
            piece = content.pieces  # whoever mends it reads all of it
        self._at = content.root, piece + 1
        now = self._clock.monotonic()
        if now - self._saved >= SAVE_SECONDS:
            self._saved = now
            await self._in_thread(lambda: _save(self._state, self._at))

    async def _look(self) -> None:
        """Look at all files, and note what is to be read from now on."""
        repository = self._contents.repository
        held = list(repository.seeded_contents())
        self._total = sum(content.size for content in held)
        self._roots = await self._in_thread(lambda: sorted(content.root for content in held))
        faults = await self._in_thread(lambda: faults_of_files([(repository.path(c.root), c) for c in held]))
        if faults and not await asyncio.to_thread(repository.is_there):
            log.error("the repository's folder is not there", files=len(faults))
            return
        for content, fault in faults:
            await self._contents.condemn(content.root, await repository.stamp(content.root), fault)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def fault_of_piece(path: Path, content: Content, number: int) -> BitDewError | None:
    """What is wrong with one piece, read from the disk itself rather than from memory; None if it is good. Blocks."""
    start, length = number * content.piece_length, length_of_piece(content, number)
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _forget_cached(descriptor, start, length)
            raw = os.pread(descriptor, length, start)
            _forget_cached(descriptor, start, length)
        finally:
            os.close(descriptor)
    except OSError as cause:
        return damage(content.root, cause.strerror or str(cause))
    if len(raw) == length and root_of_piece(raw, content) == root_of(content, number):
        return None
    return damage(content.root, f"not what was published: piece {number}", [number])


def faults_of_files(files: list[tuple[Path, Content]]) -> list[tuple[Content, BitDewError]]:
    """Which of these files do not look as they should, without reading any."""
    found = []
    for path, content in files:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            found.append((content, damage(content.root, "its file is gone")))
            continue
        except OSError as cause:
            found.append((content, damage(content.root, cause.strerror or str(cause))))
            continue
        if size != content.size:
            found.append((content, damage(content.root, f"its file has {size} bytes, not {content.size}")))
    return found


def _forget_cached(descriptor: int, start: int, length: int) -> None:
    """Have the system forget what it remembers of the file; where it can't, the disk is not seen."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _load(path: Path) -> tuple[str, int]:
    """How far an earlier process came; the beginning, if that can't be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_STATE))
        root, piece = str(found["root"]), int(found["piece"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", 0
    return (root, piece) if len(root) <= 64 and piece >= 0 else ("", 0)


def _save(path: Path, at: tuple[str, int]) -> None:
    """Keep how far it came. Where that can't be kept, a restart begins a round anew."""
    partial = path.with_suffix(".new")
    try:
        partial.write_text(json.dumps({"root": at[0], "piece": at[1]}), encoding="ascii")
        partial.replace(path)
    except OSError as cause:
        log.info("how far the repository was read back can't be kept", why=str(cause))
