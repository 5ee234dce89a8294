"""The bytes of data, and what is stored about them: that both change together.

Owns the order in which a file and its rows come and go, and what becomes of a copy of the repository's that may be bad.
It knows neither names nor wishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog

from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, Uid
from bitdew.swarm.metainfo import Metainfo
from bitdew.tasks import to_the_end

from .damage import damage
from .data_store import Beside, DataStore, Datum
from .repository import Repository
from .uploads import Upload

log = structlog.get_logger(__name__)


class Contents:
    """What the repository holds. Whoever listens at `changed` is told the data whose bytes came, or went bad.

    Attributes:
        changing: The lock of all that changes files and what is stored of them.
        condemned: Set when a copy was found bad.
    """

    def __init__(self, store: DataStore, repository: Repository, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.repository = repository
        self._suspected: dict[ContentRoot, None] = {}
        self._suspicion = asyncio.Event()
        self._faults: dict[ContentRoot, BitDewError] = {}
        self.condemned = asyncio.Event()
        self.changing = store.changing
        self.changed: Callable[[Collection[Uid]], None] = lambda _uids: None

    async def open(self) -> None:
        """Seed what is stored; data whose file is gone or cut are marked damaged.

        Raises:
            HostError: `storage.failed`, where other services' data would be marked, because their folder is not here.
        """
        contents = await self._store.contents()
        if self._store.shared and contents:
            await self.repository.require_folder()
        damaged = set(await self.repository.open(contents))
        # A stop between the end of a datum and the freeing of its bytes: nothing else refers to them.
        removed = await self._store.removed_roots()
        if not self._store.shared:
            for root in removed:
                await self.repository.delete(root)
        else:  # another process may be taking in the same bytes again
            for root in await self.repository.stored(removed):
                async with self.changing:
                    await self.free(root)
        for root, _size in contents:
            if root in damaged:
                await self._mark(root, "its file is gone, or cut, or was bad before", damaged=True)

    async def held(self, contents: Collection[tuple[ContentRoot, int]]) -> set[tuple[ContentRoot, int]]:
        """Those of these contents whose bytes are there. Hold `changing` meanwhile."""
        held = {(root, size) for root, size in contents if self.repository.holds(root, size)}
        # Another process may have freed some, and this one has not heard of it yet.
        return await self.repository.still_there(held) if self._store.shared and held else held

    async def keep(self, upload: Upload, *new: Datum, beside: Beside | None = None) -> None:
        """Make an upload's bytes the content of all data that wait for them, and of `new` ones. Hold `changing`.

        Raises:
            UserError: as `DataStore.add_all`. HostError: `storage.failed`.
        """
        await self.settle([await self.repository.adopt(upload)], new, beside)

    async def settle(self, came: Sequence[Metainfo], new: Sequence[Datum], beside: Beside | None = None) -> None:
        """These contents have files: they are those of all data that wait for them, and of `new` ones. Hold `changing`.

        A file is durable before it is stored what it is, and that before it is seeded.

        Raises:
            UserError: as `DataStore.add_all`.
        """
        sizes = {one.content.root: one.content.size for one in came}
        try:
            changed = await self._store.came(sizes, self._clock.now(), new, beside)
        except BaseException:
            for root in sizes:
                await to_the_end(self.free(root))  # it may be nobody's
            raise
        for one in came:
            await self.repository.seed(one)
            self._faults.pop(one.content.root, None)
        self._tell(changed)

    async def free(self, root: ContentRoot) -> None:
        """Free the bytes of some content, if no living datum has it any more. Hold `changing` meanwhile."""
        if not await self._store.of_root(root):
            await self.repository.delete(root)

    async def follow(self, uids: Collection[Uid]) -> None:
        """Another process changed these data: their bytes may have come to the shared folder, or gone."""
        for datum in (await self._store.get(uids)).values() if uids else ():
            root, size = datum.data.root, datum.data.size
            if datum.awaited or self.repository.holds(root, size) == (datum.alive and not datum.damaged):
                continue
            async with self.changing:
                if datum.alive and not datum.damaged:
                    await self.repository.seed_stored(root, size)
                elif datum.damaged or not await self._store.of_root(root):
                    await self.repository.withdraw(root)
                    self.condemned.set()

    async def catch_up(self) -> None:
        """Other processes did what nobody here heard of: seed what is in the shared folder, and nothing else."""
        living = await self._store.contents()
        for (root, size), good in living.items():
            if good and not self.repository.holds(root, size):
                async with self.changing:
                    await self.repository.seed_stored(root, size)
        good_roots = {root for (root, _size), good in living.items() if good}
        for root in self.repository.seeded() - good_roots:
            async with self.changing:
                if not any(not datum.damaged for datum in await self._store.of_root(root)):
                    await self.repository.withdraw(root)

    def suspect(self, root: ContentRoot) -> None:
        """A host got a corrupt piece: the repository's own copy is to be read, soon, and one at a time."""
        self._suspected[root] = None
        self._suspicion.set()

    async def check_suspects(self) -> None:
        """Read each suspected copy, and stop seeding it if it is bad, until cancelled. Reading 20 GB takes minutes."""
        while True:
            await self._suspicion.wait()
            self._suspicion.clear()
            while self._suspected:
                root = next(iter(self._suspected))
                try:
                    await to_the_end(self._check(root))
                except Exception:
                    # A copy that can't be judged now is judged when the next corrupt piece is told of.
                    log.exception("a suspected copy could not be checked", root=root)
                del self._suspected[root]

    async def _check(self, root: ContentRoot) -> None:
        stamp = await self.repository.stamp(root)
        if not await self._store.of_root(root) or await self.repository.is_whole(root):
            return
        metainfo = await self.repository.stored_metainfo(root)
        why = "its bytes are not what was published" if metainfo is not None else "what its pieces are is lost"
        await self.condemn(root, stamp, damage(root, why))

    # What is bad

    async def condemn(self, root: ContentRoot, stamp: tuple[int, int], fault: BitDewError) -> None:
        """Serve some content no more, for its file was found bad, unless another file than that of `stamp` is there."""
        async with self.changing:
            if await self.repository.stamp(root) == stamp and await self._store.of_root(root):
                log.warning("the repository's copy is bad", root=root, why=fault.why)
                await self.repository.withdraw(root)
                self.blame(root, fault)
                await self._mark(root, fault.why, damaged=True)

    def blame(self, root: ContentRoot, fault: BitDewError) -> None:
        """The copy of `root` is bad, for this reason."""
        self._faults[root] = fault

    def fault_of(self, root: ContentRoot) -> BitDewError | None:
        """Why the repository's copy is bad, if it is and this process knows."""
        return self._faults.get(root)

    async def damaged(self) -> list[ContentRoot]:
        """The contents whose copies are bad, or gone."""
        return sorted({root for (root, _size), good in (await self._store.contents()).items() if not good})

    async def mended(self, metainfo: Metainfo) -> None:
        """Every piece of a content that was bad is there again, durably: serve it."""
        root = metainfo.content.root
        async with self.changing:
            living = await self._store.of_root(root)
            if not living:
                await self.repository.delete(root)
            elif any(datum.damaged for datum in living):  # else it was published again meanwhile
                await self.repository.seed(metainfo)
                await self._mark(root, "", damaged=False)
            self._faults.pop(root, None)

    async def _mark(self, root: ContentRoot, why: str, *, damaged: bool) -> None:
        self._tell(await self._store.mark_damaged(root, self._clock.now(), why, damaged=damaged))
        if damaged:
            self.condemned.set()

    def _tell(self, changed: Collection[Uid]) -> None:
        if changed:
            self.changed(changed)
