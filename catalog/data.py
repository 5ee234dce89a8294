"""Creating data, filling them with bytes, giving them other attributes, and ending their lives.

Owns the data themselves; what makes one a disk is `disks`'s. Many are created at once, and those that many callers
create at the same time are stored together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bitdew.batching import Batcher
from bitdew.core.clock import Clock
from bitdew.core.content import ROOT_OF_NOTHING, Content, piece_length_for
from bitdew.core.data import Data
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, new_uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.tasks import to_the_end
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import Choice, DatumRequest

from .attribute_store import AttributeRecord
from .attributes import Attributes, Resolving
from .contents import Contents
from .data_store import DataStore, Datum
from .references import datum_not_found
from .upload_file import About

MANY: Final = 200
"""Data that are described in the event loop; more are, in a thread: ten thousand take a tenth of a second."""
TOGETHER: Final = 128
"""Requests whose data are stored together at most: whoever comes next waits for them all."""


@dataclass(slots=True, eq=False)
class _Creation:
    """One caller's data on their way into the database."""

    asked: Sequence[DatumRequest]
    owner: str
    data: list[Datum] = field(default_factory=list)
    fault: BitDewError | None = None


class DataRoom:
    """The catalog's data.

    Attributes:
        changed: Told the data that are new, ended, or have other wishes. New ones that can only wait for their bytes
            are told when those come: a million that are announced at once are no work.
        reattached: Told the attributes that a datum was taken from and given to.
    """

    def __init__(self, store: DataStore, attributes: Attributes, contents: Contents, clock: Clock) -> None:
        self._store = store
        self._attributes = attributes
        self._contents = contents
        self._clock = clock
        self._batcher: Batcher[_Creation, list[Uid]] = Batcher(self._store_together, name="new data", most=TOGETHER)
        self.changed: Callable[[Collection[Uid]], None] = lambda _uids: None
        self.reattached: Callable[[Collection[Uid]], None] = lambda _attributes: None

    # Creating

    async def create(self, asked: Sequence[DatumRequest], owner: Subject) -> list[Uid]:
        """Create data before their bytes come: all of them, or none. Their uids, in the same order.

        Raises:
            UserError: `disk.name-taken`, `attribute.…`, `input.invalid` for a root and size that don't
                go together.
        """
        return await self._batcher.ask(_Creation(asked, owner.subject_id))

    async def _store_together(self, creations: Sequence[_Creation]) -> list[list[Uid] | Exception]:
        try:
            async with self._attributes.linking, self._contents.changing:
                await self._describe(creations)
                await self._add([creation for creation in creations if creation.fault is None])
        except BitDewError as fault:
            for creation in creations:
                creation.fault = creation.fault or fault
        made = (datum for one in creations if one.fault is None for datum in one.data)
        if told := [datum.data.uid for datum in made if datum.can_move]:
            self.changed(told)
        return [one.fault or [datum.data.uid for datum in one.data] for one in creations]

    async def _describe(self, creations: Sequence[_Creation]) -> None:
        """Make data of what was asked; who asks for what can't be gets the fault."""
        records = Resolving(self._attributes)
        now, described = self._clock.now(), 0
        held = await self._contents.held({(ContentRoot(one.root), one.size) for c in creations for one in c.asked})
        for creation in creations:
            try:
                attributes = [await records.of(one.attribute, creation.owner) for one in creation.asked]
                described += len(creation.asked)
                if described <= MANY:
                    creation.data = _made(creation, attributes, held, now)
                else:
                    creation.data = await asyncio.to_thread(_made, creation, attributes, held, now)
            except BitDewError as fault:
                creation.fault = fault

    async def _add(self, creations: Sequence[_Creation]) -> None:
        """Store what was described. A name that is taken is the fault of who asked for it, and of no one else."""
        if not creations:
            return
        try:
            await self._store.add_all([datum for creation in creations for datum in creation.data])
        except BitDewError as fault:
            if len(creations) == 1:
                creations[0].fault = fault
                return
            middle = len(creations) // 2
            await self._add(creations[:middle])
            await self._add(creations[middle:])

    # Bytes

    async def receive(self, name: str, chunks: AsyncIterator[bytes], caller: Subject) -> Datum:
        """Take in the bytes of a datum that awaits them, or whose copy in the repository is damaged.

        Raises:
            UserError: `data.not-found`, `certificate.role`, `input.invalid` if it has its bytes; `disk.changed` if
                those that came are not the ones that were announced.
            HostError: `storage.full`, `storage.failed`.
        """
        datum = await self.mine(name, caller, "fill")
        if not datum.awaited and not datum.damaged:
            raise error("input.invalid", f"{name!r} has its bytes already", do="There is nothing to send.")
        uploads = self._contents.repository.uploads
        upload = await uploads.begin(About(caller.subject_id, datum.data.name, datum.data.size))
        try:
            require_same(datum, await uploads.receive_all(upload.uid, chunks))
            async with self._contents.changing:
                await self.living(datum.data.uid)  # else no one would ever free them
                await to_the_end(self._contents.keep(upload))
        except BaseException:
            await to_the_end(uploads.abandon(upload.uid))
            raise
        return await self.living(datum.data.uid)

    # Finding

    async def find(self, name: str) -> Datum:
        """The living datum of this name or uid; if there is none, the one that ended last, whose copies may still go.

        Raises:
            UserError: `data.not-found`, with the nearest name of a living one.
        """
        datum = await self._store.find(name) or await self._store.find_ended(name)
        if datum is None:
            raise datum_not_found(name, await self._attributes.data_like(name))
        return datum

    async def living(self, name: str) -> Datum:
        """The living datum of this name or uid.

        Raises:
            UserError: `data.not-found`, with the reason if its life has ended.
        """
        return _alive(await self.find(name), name)

    async def readable(self, name: str, caller: Subject) -> Datum:
        """As `living`, for a person: what others put for their jobs is not there.

        Raises:
            UserError: `data.not-found`.
        """
        return _alive(await self.shown(name, caller), name)

    async def shown(self, name: str, caller: Subject) -> Datum:
        """As `find`, for a person: what others put for their jobs is not there.

        Raises:
            UserError: `data.not-found`.
        """
        datum = await self.find(name)
        if datum.for_jobs and caller.role is not Role.OPERATOR and datum.data.owner != caller.subject_id:
            raise datum_not_found(name, await self._attributes.data_like(name))
        return datum

    # Changing and ending

    async def choose(self, name: str, choice: Choice, caller: Subject) -> AttributeRecord:
        """Give a datum another attribute. A life that is counted from the datum's creation still is.

        Raises:
            UserError: `data.not-found`, `certificate.role`, `attribute.…`.
        """
        async with self._attributes.linking:
            datum = await self.mine(name, caller, "change")
            record = await self._attributes.resolve(choice, caller.subject_id)
            await self._attributes.refuse_circle_of(datum.data.uid, datum.data.name, record)
            ends, now = record.ends(datum.data.created), self._clock.now()
            await self._store.set_attribute(datum.data.uid, record.uid, ends, now)
        self.reattached([datum.attribute.uid, record.uid])
        self.changed([datum.data.uid])
        return record

    async def remove(self, name: str, caller: Subject) -> None:
        """End a datum's life: the repository frees its bytes, and hosts are ordered to drop their copies.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        datum = await self.mine(name, caller, "remove")
        async with self._contents.changing:
            ended = await to_the_end(self._end(datum.data.uid, datum.data.root, f"{caller.name} removed it"))
        if ended:
            self.changed([datum.data.uid])

    async def end(self, planned: Datum, because: str) -> bool:
        """End a life that is over, as was decided when the datum was `planned`.

        Returns:
            False if it had ended, or was given other wishes meanwhile: what was decided may not be true of those.
        """
        uid = planned.data.uid
        async with self._attributes.linking, self._contents.changing:
            datum = (await self._store.get([uid])).get(uid)
            ended = datum is not None and _same_wishes(datum, planned)
            ended = ended and await to_the_end(self._end(uid, planned.data.root, because))
        if ended:
            self.changed([uid])
        return ended

    async def _end(self, uid: Uid, root: ContentRoot, because: str) -> bool:
        ended = await self._store.end(uid, self._clock.now(), because)
        if ended:
            await self._contents.free(root)
        return ended

    async def mine(self, name: str, caller: Subject, deed: str) -> Datum:
        """The living datum of this name or uid, if the caller may do `deed` with it.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        datum = await self.living(name)
        require_mine(datum, caller, deed, name)
        return datum


def _alive(datum: Datum, name: str) -> Datum:
    """`datum`, which is called `name`, if it lives; else the error tells why it does not."""
    if not datum.alive:
        at = f" at {datum.died:%Y-%m-%d %H:%M:%S} UTC" if datum.died else ""
        because = datum.died_because.removeprefix(f"{datum.data.name} ends: ")
        why = f"its life ended{at}" + (f": {because}" if because else "")
        do = "Put it again, or list what there is: bitdew data ls"
        raise error("data.not-found", f"There is no datum {name[:140]!r} any more", why=why, do=do, name=name[:140])
    return datum


def _same_wishes(one: Datum, other: Datum) -> bool:
    wishes, others = one.attribute, other.attribute
    return (wishes.uid, wishes.version, one.ends) == (others.uid, others.version, other.ends)


def _made(
    creation: _Creation, attributes: Sequence[AttributeRecord], held: Collection[tuple[str, int]], now: datetime
) -> list[Datum]:
    made = []
    for asked, attribute in zip(creation.asked, attributes, strict=True):
        if (asked.size == 0) != (asked.root == ROOT_OF_NOTHING):
            why = f"no bytes have the root {ROOT_OF_NOTHING}, and no others have it"
            raise error("input.invalid", f"The root of {asked.name!r} does not fit its size", why=why, name=asked.name)
        length, root = piece_length_for(asked.size), ContentRoot(asked.root)
        made.append(
            Datum(
                data=Data(new_uid(), asked.name, root, asked.size, length, now, creation.owner, asked.kind),
                # The swarm's name does not depend on the piece layer, which only the bytes will tell.
                info_hash=build_metainfo(Content(root, asked.size, length, b"")).info_hash,
                attribute=attribute,
                awaited=(root, asked.size) not in held,
                ends=attribute.ends(now),
            )
        )
    return made


def require_mine(datum: Datum, caller: Subject, deed: str, name: str) -> None:
    """Refuse `deed` to whoever is neither the owner of a datum, which was asked for by `name`, nor an operator.

    Raises:
        UserError: `certificate.role`.
    """
    if caller.role is not Role.OPERATOR and datum.data.owner != caller.subject_id:
        why = "only its owner or an operator may"
        raise error("certificate.role", f"{name!r} is not yours to {deed}", why=why)


def require_same(datum: Datum, content: Content) -> None:
    """Refuse other bytes than those that were announced.

    Raises:
        UserError: `disk.changed`.
    """
    if content.root != datum.data.root:
        why = f"announced was the root {datum.data.root[:16]}…, what came has the root {content.root[:16]}…"
        raise error("disk.changed", f"These are not the bytes of {datum.data.name!r}", why=why)
