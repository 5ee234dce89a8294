"""Publishing from where the file is: its bytes go by swarm from here to the hosts, and never to the repository.

Owns the offer: the publisher's own node in the swarm, its word to the service every few seconds, its certificate, and
the eye on the file. It must not decide where copies go.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import urlsplit

from bitdew.core.data import ImageRecord, Kind
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import checked_name, new_uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.trust.keys import certificate_expires
from bitdew.trust.records import sign_record
from bitdew.wire import limits
from bitdew.wire import models as m

from .converted import check_raw
from .data import DataCalls, chosen
from .door import Door, SwarmCalls
from .image import FileSource
from .packing import packed
from .reading import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bitdew.core.attribute import Attribute
    from bitdew.core.content import Content
    from bitdew.swarm.seeder.offer import Offer as Sending
    from bitdew.swarm.seeder.seeder import Seeder

    Progress = Callable[[int, int], None]

T = TypeVar("T")
ANYWHERE: Final = Endpoint("0.0.0.0", 0)  # noqa: S104 (hosts are to reach it; who may is for the certificates to say)
BEAT: Final = 4.0
"""Seconds between two words to the service."""
AWAY: Final = 1.0
"""Seconds before a service that was away is asked again."""
POLL: Final = 20.0
"""Seconds that a question for news is held open."""
TAKE_BACK_SECONDS: Final = 5.0
RECORD_VALIDITY: Final = timedelta(days=365)


class SeedCalls(DataCalls, SwarmCalls):
    """The part of `BitDew` that publishes without a copy in the repository."""

    @contextlib.asynccontextmanager
    async def seed(
        self,
        path: Path,
        name: str,
        attribute: Attribute | str | None = None,
        *,
        disk: dict[str, str] | None = None,
        listen: Endpoint = ANYWHERE,
        upload: int = 0,
        packing: Progress | None = None,
        reading: Progress | None = None,
    ) -> AsyncIterator[Offer]:
        """Offer the file, or the folder, at `path` as the datum `name` from where it is, while the block lasts.

            async with grid.seed(Path("hep.raw"), "hep", Attribute(replica=3)) as offer:
                await offer.held()

        A datum of this name and these bytes that waits for its publisher is gone on with, and keeps its attribute. What
        was made stays when the block ends, also if nobody holds it yet: it waits for the same call.

        Args:
            path: A regular file that is not empty, which is read once and never written to; or a folder, whose archive
                lies among the temporary files for as long as the block lasts.
            name: Unique among the data that are alive.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            disk: Make it a disk signed by this profile, with these `os`, `arch` and `version`.
            listen: Where hosts fetch it; an unspecified address tells them the one that leads to the service.
            upload: Bytes per second that are sent at most; 0 is unlimited.
            packing: Called with the bytes of a folder's archive that were written, and their total.
            reading: Called with the bytes identified and their total.

        Raises:
            BitDewError: `disk.file-missing`, `disk.file-unreadable`, `disk.empty`, `disk.changed`, `disk.format`,
                `disk.name-taken`, `storage.full`, `storage.failed` where a folder is packed,
                `certificate.role`, `input.invalid`, `input.too-large`, `attribute.…`, `port.in-use`, `swarm.failed`.
        """
        from bitdew.swarm.seeder.seeder import Seeder
        from bitdew.swarm.settings import SwarmLimits

        checked_name(name, "datum's name")
        choice, path = chosen(attribute), await asyncio.to_thread(path.absolute)
        if isinstance(choice, str):
            await self.attribute(choice)  # rather told before 20 GB are read than after
        known = await self._known(name)
        if known is not None and not known.awaited:
            do = "Choose another name, or remove the old one: bitdew data rm"
            raise error("disk.name-taken", f"A datum named {name!r} is there already", do=do, name=name)
        kind = Kind.FILE
        async with contextlib.AsyncExitStack() as stack:
            if disk is not None:
                await asyncio.to_thread(check_raw, path)
            elif await asyncio.to_thread(path.is_dir):
                kind, path = Kind.FOLDER, await stack.enter_async_context(packed(path, packing))
            source = await asyncio.to_thread(FileSource, path)
            reader = await stack.enter_async_context(Reader(source))
            _require_size(source)
            content = await reader.identify(reading)
            metainfo = await asyncio.to_thread(build_metainfo, content)
            if known is None:
                await self._describe(content, name, kind, choice, disk)
            elif known.root != content.root:
                why = f"its root is {known.root[:16]}…, and the file's is {content.root[:16]}…"
                do = "Offer the file that was announced, or choose another name."
                raise error("disk.changed", f"{path} is not what {name!r} waits for", why=why, do=do)
            door = Door(self)
            await door.renew()
            seeder = await stack.enter_async_context(
                await Seeder.start(listen, door.credentials, SwarmLimits(upload=upload))
            )
            sending = await seeder.add(metainfo, path)
            yield await stack.enter_async_context(Offer(self, name, source, seeder, sending, door))

    async def _known(self, name: str) -> m.DataView | None:
        """The living datum of this name."""
        found = (await self.page(name, limit=1)).data
        return found[0] if found and found[0].name == name else None

    async def _describe(
        self, content: Content, name: str, kind: Kind, choice: m.Choice, disk: dict[str, str] | None
    ) -> None:
        if disk is None:
            request = m.DatumRequest(name=name, root=content.root, size=content.size, kind=kind, attribute=choice)
            await self.create([request])
            return
        signing = self.identity.signing
        if signing is None:
            why = f"the profile {self._folder.folder} has the role {self.identity.subject.role} and no signing key"
            raise error("certificate.role", f"{name} can't be added by this profile", why=why)
        now, info_hash = datetime.now(UTC), build_metainfo(content).info_hash
        record = ImageRecord(
            uid=new_uid(),
            name=name,
            root=content.root,
            info_hash=info_hash,
            size=content.size,
            format="raw",
            os=disk.get("os", ""),
            arch=disk.get("arch", "x86_64"),
            version=disk.get("version", "1"),
            publisher=self.identity.subject.name,
            issued=now,
            expires=min(now + RECORD_VALIDITY, certificate_expires(signing.certificate)),
        )
        signed = m.RecordModel.of(await asyncio.to_thread(sign_record, record, signing))
        described = m.DescribedDiskRequest(record=signed, attribute=choice)
        await self._call("POST", "/v1/disks/described", m.DescribedDisk, body=described)

    # What an offer says and asks

    async def offered(self, name: str, swarm: Endpoint, metainfo: bytes | None) -> float:
        """Say that a datum is offered at `swarm`; seconds within which that is to be said again."""
        request = m.OriginRequest(swarm=str(swarm), metainfo=metainfo)
        return (await self._call("PUT", f"/v1/data/{name}/origin", m.OriginReply, body=request)).seconds

    async def withdrawn(self, name: str) -> None:
        """Say that a datum is offered no longer."""
        await self._call("DELETE", f"/v1/data/{name}/origin", m.Nothing, seconds=TAKE_BACK_SECONDS)

    async def local_address(self) -> str:
        """The address of this machine that leads to the service; nothing is sent to find it.

        Raises:
            ServiceError: `service.unreachable`, if there is no way.
        """
        url = urlsplit(self._url or self.identity.url)
        try:
            return await asyncio.to_thread(_towards, url.hostname or "", url.port or 443)
        except OSError as fault:
            raise error("service.unreachable", f"There is no way to {url.geturl()}", why=str(fault)) from fault


class Offer:
    """A file that is offered to its swarm. Made by `BitDew.seed`; an async context manager.

    Attributes:
        name: The datum's name.
        content: What the bytes are.
        swarm: Where hosts fetch them.
    """

    def __init__(
        self,
        grid: SeedCalls,
        name: str,
        source: FileSource,
        seeder: Seeder,
        sending: Sending,
        door: Door,
    ) -> None:
        """Nothing is said to the service yet."""
        self.name = name
        self.content = sending.metainfo.content
        self.swarm = seeder.endpoint
        self._grid = grid
        self._metainfo = sending.metainfo
        self._source = source
        self._seeder = seeder
        self._sending = sending
        self._door = door
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if ip_address(self.swarm.host).is_unspecified:
            self.swarm = Endpoint(await self._grid.local_address(), self.swarm.port)
        await self._grid.offered(self.name, self.swarm, self._metainfo.encoded)
        self._beating = asyncio.create_task(self._beat(), name="offer")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        # A service that is away now notices by itself that nothing is said any more.
        with contextlib.suppress(BitDewError):
            await self._grid.withdrawn(self.name)

    @property
    def sent(self) -> int:
        """Payload bytes that left here."""
        return self._sending.uploaded

    async def held(self, progress: Callable[[m.WhereReply], None] | None = None) -> m.WhereReply:
        """Return when as many copies are held as are wanted; for "everywhere", when nothing is missing.

        A service that is away is waited for: hosts go on meanwhile. `progress` is called with each change.

        Raises:
            UserError: `disk.changed`, if the file changed or vanished; `data.not-found`, if the datum's life ended;
                what else ends the offer, as `certificate.revoked`.
        """
        return await self._while_offered(self._all_held(progress))

    async def stay(self) -> None:
        """Offer it until cancelled. Raises what `held` does."""
        await self._while_offered(asyncio.get_running_loop().create_future())

    async def _while_offered(self, work: Awaitable[T]) -> T:
        assert self._beating is not None  # noqa: S101 (entered)
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._beating}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._beating.result()
            return await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _all_held(self, progress: Callable[[m.WhereReply], None] | None) -> m.WhereReply:
        since = -1
        while True:
            try:
                reply = await self._grid.where(self.name, since, POLL if since >= 0 else 0.0)
                missing = (await self._grid.explain(self.name)).missing
            except BitDewError as fault:
                if not _passes(fault):
                    raise
                await asyncio.sleep(AWAY)
                since = -1  # one that restarts counts its versions anew
                continue
            since, datum = reply.version, reply.data
            if progress:
                progress(reply)
            if not datum.alive:
                why = datum.died_because or "it was removed"
                raise error("data.not-found", f"{self.name!r} ended while it was offered", why=why, name=self.name)
            if not missing and not datum.intended and datum.held >= max(1, datum.wanted):
                return reply

    async def _beat(self) -> None:
        """Say that it is offered, and look whether it can be, until something ends that.

        Raises:
            BitDewError: as `held`.
        """
        metainfo: bytes | None = None
        while True:
            await asyncio.sleep(BEAT)
            await self._look()
            try:
                if await self._door.renew():
                    await self._seeder.set_credentials(self._door.credentials)
                await self._grid.offered(self.name, self.swarm, metainfo)
                metainfo = None
            except BitDewError as fault:
                if not _passes(fault):
                    raise
                metainfo = self._metainfo.encoded  # it may come back from a backup

    async def _look(self) -> None:
        """Raise what keeps the file from being offered."""
        try:
            await asyncio.to_thread(self._source.check_unchanged)
        except BitDewError as fault:
            await self._seeder.remove(self._sending)  # hosts would refuse what it has now, piece by piece
            raise error(
                "disk.changed",
                f"{self._source.label} changed while it was offered",
                why=fault.why,
                do="It is offered no longer. Put the original back and run the same command, or add it anew.",
                path=self._source.label,
            ) from None
        if self._sending.fault is not None:
            raise self._sending.fault


def _passes(fault: BitDewError) -> bool:
    """Whether the service may be back soon."""
    return fault.kind.exit_code == 6 and fault.key != "service.version"


def _require_size(source: FileSource) -> None:
    if source.size < 1:
        raise error("disk.empty", f"{source.path} is empty", why="swarms carry files of at least one byte")
    if source.size > limits.LARGEST_SEEDED:
        why = f"it has {source.size} bytes, and {limits.LARGEST_SEEDED} are allowed"
        do = "Put it without --seed."
        raise error("input.too-large", f"{source.path} is too large to be offered from here", why=why, do=do)


def _towards(host: str, port: int) -> str:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, proto) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])
