"""The copies of this host, one for each content: who wants it, who uses it, and the file behind it.

Owns sharing: two data with the same bytes are one file and one transfer, and a file that a machine boots from is not
removed. How one copy is fetched stands in `fetching`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.states import PlacementState

from .fetching import Copy
from .parking import Parking
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from bitdew.wire.models import PlaceOrder

    from .entries import HeldCopy
    from .surroundings import Surroundings


class Copies:
    """All copies of the host."""

    def __init__(self, around: Surroundings, held: dict[str, HeldCopy]) -> None:
        """`held` is what the journal knows of files that were verified before."""
        self._around = around
        self.parking = around.parking = Parking(around)
        self.turns = around.turns = Turns(around)
        self._held = held
        self._copies: dict[str, Copy] = {}
        self._users: dict[str, set[str]] = {}
        self._removing: set[str] = set()
        self._lock = asyncio.Lock()  # adding and removing: a copy must not be wanted while it is being removed
        self._moved = asyncio.Event()

    async def want(self, uid: str, order: PlaceOrder, tasks: asyncio.TaskGroup) -> Copy:
        """Have the content of `order` fetched, verified and kept for the datum `uid`. Repeating it adds peers.

        Raises:
            UserError: `input.invalid`, if an address in `order` can't be read.
        """
        async with self._lock:
            copy = self._copies.get(order.root)
            if copy is None:
                copy = self._copies[order.root] = Copy(self._around, order)
            copy.learn(order)
            copy.wanted.add(uid)
            self._around.bandwidth.want(order.root, uid, order.name)
            copy.carry_on(tasks, self._held.pop(order.root, None), first=uid)
            return copy

    async def release(self, uid: str, root: str, removing: Callable[[int], Awaitable[None]]) -> bool:
        """The datum `uid` needs `root` no more; if nothing else does, its files are removed. Whether that was so.

        As long as a machine uses them they stay, and this waits. `removing` is told how many bytes they take on the
        disk right before they go.

        Raises:
            HostError: `storage.failed`, `swarm.failed`.
        """
        while True:
            async with self._lock:
                copy = self._copies.get(root)
                others = copy is not None and copy.wanted - {uid}
                if others or not self._users.get(root):
                    if copy is not None:
                        copy.wanted.discard(uid)
                    self._around.bandwidth.release(root, uid)
                    if not others:
                        await self._remove(root, copy, removing)
                    return not others
                moved = self._moved
            await moved.wait()

    async def _remove(self, root: str, copy: Copy | None, removing: Callable[[int], Awaitable[None]]) -> None:
        self._removing.add(root)
        try:
            if copy is not None:
                await copy.end()
                del self._copies[root]
            self._held.pop(root, None)
            self.turns.forget(root)
            await self._around.journal.forget_copy(root)
            await removing(await asyncio.to_thread(self._around.storage.taken, root))
            await asyncio.to_thread(self._around.storage.remove, root)
        finally:
            self._removing.discard(root)

    async def looks_whole(self, root: str) -> bool:
        """Whether the file of `root` was verified before, and looks as it did then.

        Raises:
            HostError: `storage.failed`.
        """
        known = self._held.get(root)
        return known is not None and await asyncio.to_thread(self._around.storage.look, root) == known

    def hurry(self, roots: Iterable[str]) -> None:
        """Somebody here waits for these contents: what of them is still to come comes before others."""
        held = self.held()
        self.turns.hurry(root for root in roots if root not in held)

    async def borrow(self, root: str, machine: str) -> Path | None:
        """The verified file of `root`, which stays until `machine` gives it back; None if there is none now.

        A file that is gone, or does not look as it did when it was verified, is not lent: it is mended first.

        Raises:
            HostError: `storage.failed`.
        """
        copy = self._copies.get(root)
        if copy is None or copy.state is not PlacementState.HELD:
            self.turns.hurry([root])
            return None
        if not await copy.is_as_it_was():
            return None
        if root in self._removing or root not in self.held():  # meanwhile
            return None
        self.keep(root, machine)
        return self._around.storage.path(root)

    def keep(self, root: str, machine: str) -> None:
        """Keep the files of `root` for a machine that has them already: it ran on while the worker was away."""
        self._users.setdefault(root, set()).add(machine)

    def give_back(self, root: str, machine: str) -> None:
        """`machine` uses `root` no more."""
        self._users.get(root, set()).discard(machine)
        self.stir()

    def path(self, root: str) -> Path:
        """Where the bytes of `root` are or will be."""
        return self._around.storage.path(root)

    def size_of(self, root: str) -> int:
        """Bytes of the copy of `root`; 0 if there is none."""
        copy = self._copies.get(root)
        return copy.size if copy else 0

    def stir(self) -> None:
        """Wake whoever waits for a copy to be held or given back."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def held(self) -> dict[str, Copy]:
        """The copies that are held now, by root."""
        return {root: copy for root, copy in self._copies.items() if copy.state is PlacementState.HELD}

    def seeks(self, root: str) -> bool:
        """Whether `root` is being fetched by swarm now."""
        copy = self._copies.get(root)
        return copy is not None and copy.seeks

    def unneeded(self) -> set[str]:
        """The contents of which something may be here, and that no order and no machine needs now."""
        known = self._around.storage.counted() | set(self._copies)
        return {root for root in known if self._is_unneeded(root)}

    def _is_unneeded(self, root: str) -> bool:
        copy = self._copies.get(root)
        if self._users.get(root) or root in self._removing or root in self._held:
            return False
        return copy is None or copy.state is PlacementState.FAILED

    async def evict(self, root: str) -> bool:
        """Remove what is here of a content that nothing needs; False if something needs it by now.

        Raises:
            HostError: `storage.failed`, `swarm.failed`.
        """
        async with self._lock:
            if not self._is_unneeded(root):
                return False
            copy = self._copies.pop(root, None)
            if copy is not None:
                await copy.end()
            await self._around.journal.forget_copy(root)
            await asyncio.to_thread(self._around.storage.remove, root)
        await self._around.keeper.copy_evicted(root)
        return True

    @property
    def busy(self) -> bool:
        """Whether a copy is on its way."""
        return any(copy.busy for copy in self._copies.values())

    async def next_move(self) -> None:
        """Return when a copy was held, or given back, or changed otherwise."""
        await self._moved.wait()

    async def checkpoint(self) -> None:
        """Make what was fetched so far durable, in every copy that is on its way. Failures cost time only."""
        await asyncio.gather(*(copy.checkpoint() for copy in self._copies.values()))
