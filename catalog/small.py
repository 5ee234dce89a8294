"""Small data, each with all its bytes in one request: what comes at the same time is kept together.

Owns that many of them cost little more than one: one look at what is there, one wait for the disk, one transaction.
What becomes of each is what an upload of it would become; what is wrong with one is no other's fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bitdew.batching import Batcher
from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name
from bitdew.swarm.metainfo import Metainfo, build_metainfo
from bitdew.trust.roles import Subject
from bitdew.wire.models import WholeRequest

from .attributes import Resolving
from .data import require_mine, require_same
from .data_store import Datum, name_taken
from .holdings import Holdings
from .publishing import new_datum, not_claimed
from .uploads import no_room, told

TOGETHER: Final = 64
"""Requests that are kept together at most: whoever comes next waits for them all, and they have 32 MiB."""


@dataclass(slots=True, eq=False)
class _Coming:
    """One request on its way.

    Attributes:
        metainfo: What its bytes are.
        kept: The datum that it made, or that waited for it.
        filled: Whether the datum was there and waited.
        for_jobs: Whether it is for jobs of the sender's own.
    """

    asked: WholeRequest
    sender: Subject
    for_jobs: bool = False
    metainfo: Metainfo | None = None
    kept: Datum | None = None
    filled: bool = False
    fault: BitDewError | None = None


class SmallData:
    """The way into the catalog for small data."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        # Whether a name is free for the second that wants it, the first decides.
        self._batcher: Batcher[_Coming, tuple[Datum, bool]] = Batcher(
            self._keep_together, name="small data", most=TOGETHER, apart=lambda coming: coming.asked.name
        )

    async def put(self, asked: WholeRequest, sender: Subject, *, for_jobs: bool = False) -> tuple[Datum, bool]:
        """Make these bytes a datum, or fill the one of its name that waits for them, which keeps its wishes.

        `for_jobs`: it is for jobs of the sender's own.

        Returns:
            The datum, and whether it is new.

        Raises:
            UserError: `input.invalid` for a name that is none, `disk.changed` for bytes that are not what was said or
                awaited, `disk.name-taken`, `certificate.role`, `attribute.…`. HostError: `storage.full`,
                `storage.failed`.
        """
        checked_name(asked.name)
        return await self._batcher.ask(_Coming(asked, sender, for_jobs))

    async def _keep_together(self, together: Sequence[_Coming]) -> list[tuple[Datum, bool] | Exception]:
        try:
            await asyncio.to_thread(_identify, together)
            async with self._holdings.attributes.linking, self._holdings.contents.changing:
                await self._describe(_good(together))
                await self._require_room(_good(together))
                await self._write(_good(together))
                await self._settle(_good(together))
        except BitDewError as fault:
            for coming in together:
                coming.fault = coming.fault or fault
        if new := [one.kept.data.uid for one in _good(together) if one.kept is not None and not one.filled]:
            self._holdings.data.changed(new)
        return [_outcome(coming) for coming in together]

    async def _describe(self, together: Sequence[_Coming]) -> None:
        """Find, or make, each one's datum."""
        known = await self._holdings.store.named([coming.asked.name for coming in together])
        records, now = Resolving(self._holdings.attributes), self._holdings.clock.now()
        for coming in together:
            asked, sender, metainfo = coming.asked, coming.sender, coming.metainfo
            try:
                if (there := known.get(asked.name)) is not None:
                    _require_in_need(there, coming)
                    coming.kept, coming.filled = replace(there, awaited=False, damaged=False), True
                elif metainfo is not None:
                    record = await records.of(asked.attribute, sender.subject_id)
                    datum = new_datum(asked.name, metainfo, asked.kind, record, sender.subject_id, now)
                    coming.kept = replace(datum, for_jobs=coming.for_jobs)
            except BitDewError as fault:
                coming.fault = fault

    async def _require_room(self, together: Sequence[_Coming]) -> None:
        free = await self._holdings.contents.repository.uploads.room()
        for coming in together:
            if (size := len(coming.asked.raw)) > free:
                coming.fault = no_room(coming.asked.name, size, free)
            free -= 0 if coming.fault else size

    async def _write(self, together: Sequence[_Coming]) -> None:
        """Make their files durable: first of all together, and if that fails, of each, to know whose fault it is."""
        repository = self._holdings.contents.repository
        files = {one.metainfo.content.root: (one.metainfo, one.asked.raw) for one in together if one.metainfo}
        try:
            if files:
                await repository.keep_whole(list(files.values()))
        except OSError:
            for coming in together:
                try:
                    if coming.metainfo is not None:
                        await repository.keep_whole([(coming.metainfo, coming.asked.raw)])
                except OSError as fault:
                    coming.fault = told(fault, coming.asked.name, len(coming.asked.raw))

    async def _settle(self, together: Sequence[_Coming]) -> None:
        """Store what they are. What one can't be stored for is not the others' fault."""
        came = {one.metainfo.content.root: one.metainfo for one in together if one.metainfo}
        new = [one.kept for one in together if one.kept is not None and not one.filled]
        if not came:
            return
        try:
            await self._holdings.contents.settle(list(came.values()), new)
        except BitDewError as fault:
            if len(together) == 1:
                together[0].fault = fault
                return
            if fault.kind.fault != "user":
                raise
            for coming in together:
                await self._settle([coming])


def _outcome(coming: _Coming) -> tuple[Datum, bool] | Exception:
    if coming.fault is not None:
        return coming.fault
    if coming.kept is None:
        return error("internal", f"{coming.asked.name!r} could not be kept")
    return coming.kept, not coming.filled


def _good(together: Sequence[_Coming]) -> list[_Coming]:
    return [coming for coming in together if coming.fault is None]


def _identify(together: Sequence[_Coming]) -> None:
    for coming in together:
        asked = coming.asked
        hasher = ContentHasher(len(asked.raw))
        hasher.update(asked.raw)
        content = hasher.finish()
        if content.root == asked.root:
            coming.metainfo = build_metainfo(content)
        else:
            coming.fault = not_claimed(asked.name, content, asked.root)


def _require_in_need(there: Datum, coming: _Coming) -> None:
    """Refuse bytes that the datum of this name has no need of, or that are not its own."""
    name = coming.asked.name
    if not there.awaited and not there.damaged:
        raise name_taken(name)
    require_mine(there, coming.sender, "fill", name)
    if coming.metainfo is not None:
        require_same(there, coming.metainfo.content)
