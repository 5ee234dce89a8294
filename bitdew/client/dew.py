"""`Dew`: a service in a program's hands, as `bitdew.connect()` gives it.

Owns the shapes in which a developer says and gets things: paths as text, bytes, streams, handles. The calls themselves
are `BitDew`'s, which is there as `grid` for everything that has no shorter form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bitdew.core.errors import error
from bitdew.core.ids import checked_name

from . import streaming
from .active import EventStream, Since, Wanted
from .cursors import CursorFile
from .datum import Datum
from .events import Event, EventKind
from .grid import BitDew
from .image import FileSource
from .memory import BytesSource, collected
from .reacting import Reaction, reacting
from .transfers import Transfer, Transfers
from .work import Work

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from bitdew.core.attribute import Attribute
    from bitdew.wire import models as m

    from .seeding import Offer
    from .source import ByteSource

    Progress = Callable[[int, int], None]
    Bytes = str | Path | bytes | AsyncIterable[bytes]

H = TypeVar("H", bound=Callable[[Event], Any])


class Dew(Work):
    """A connection to a service. An async context manager; calls may run concurrently.

    >>> async with bitdew.connect() as dew:
    ...     inputs = await dew.put(b"some bytes", bitdew.Attribute(replica=2, ft=True), name="inputs")
    ...     where = await inputs.held()
    ...     print(where.data.held, await dew.read("inputs", 0, 4))
    2 b'some'

    Every method raises `BitDewError`. Bound any of them by `asyncio.timeout`, or cancel it: what was sent or fetched
    stays, and the same call goes on with it. Times are UTC, sizes bytes.

    Attributes:
        grid: Every call that the service has.
    """

    def __init__(self, grid: BitDew) -> None:
        super().__init__()
        self.grid = grid
        self._reactions: list[Reaction] = []
        self._transfers = Transfers()

    async def __aenter__(self) -> Self:
        """Raises UserError `profile.missing`, HostError `storage.failed`, and what the connection's opening raises."""
        await self.grid.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end_pools()
        await self._transfers.end()
        await self.grid.__aexit__(kind, fault, trace)

    # Data -----------------------------------------------------------------------------------------------------------

    async def put(
        self,
        source: Bytes,
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Datum:
        """Make a datum, and have copies placed as `attribute` wishes.

        Args:
            source: The path of a file or a folder; or bytes; or an asynchronous stream of bytes.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            name: Unique among the data that are alive; the path's last part by default.
            progress: Called with the bytes that are through, sent or not, and their total.

        Raises:
            BitDewError: as `BitDew.put`; `input.invalid` for bytes without a name.
        """
        if isinstance(source, str | Path):
            path = Path(source)
            called = checked_name(_name_for(path, name), "datum's name")
            view = await self.grid.put(await asyncio.to_thread(_opened, path), called, attribute, sending=progress)
        elif name is None:
            do = "Give them one: put(source, name='…')"
            raise error("input.invalid", "Bytes have no name of their own", do=do)
        elif isinstance(source, AsyncIterable):
            async with collected(source) as kept:
                view = await self.grid.put(kept, name, attribute, sending=progress)
        else:
            view = await self.grid.put(BytesSource(source), name, attribute, sending=progress)
        return Datum(self.grid, view)

    async def put_disk(
        self,
        path: str | Path,
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        os: str = "",
        version: str = "1",
        progress: Progress | None = None,
    ) -> Datum:
        """Make a disk image a disk that machines boot from, signed by this profile.

        Args:
            path: A raw image; or a qcow2, VMDK, VDI, VHD or OVA, which is converted first.
            attribute: As in `put`.
            name: As in `put`; without the ending of the image's file by default.
            os: What boots from it, in words.
            version: The publisher's version of it.
            progress: As in `put`.

        Raises:
            BitDewError: as `BitDew.add_disk`.
        """
        path = Path(path)
        named = _name_for(Path(path.stem), name)
        view = await self.grid.add_disk(path, named, attribute, os=os, version=version, progress=progress)
        return Datum(self.grid, view)

    async def get(
        self, name: str, path: str | Path | None = None, *, force: bool = False, progress: Progress | None = None
    ) -> Path:
        """Bring a datum's bytes back, as the file or the folder that it was; where they are then.

        Args:
            name: Its name or uid.
            path: Where they are to be; here, under its name, by default.
            force: Whether a file may take a file's place, and a folder a folder's.
            progress: Called with the bytes that came, and how many are to come.

        Raises:
            BitDewError: as `BitDew.get`.
        """
        where = None if path is None else Path(path)
        return (await self.grid.get(name, where, force=force, fetching=progress)).path

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the datum `name` from `start` up to, not including, `end`: all of them by default, verified.

        Raises:
            BitDewError: as `BitDew.read`; more than 64 MiB are `input.too-large`: see `stream`.
        """
        return await self.grid.read(name, start, end)

    def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes of the datum `name` in order as they come, verified, however many they are. As `read`."""
        return streaming.stream(self.grid, name, start, end)

    async def find(self, name: str) -> Datum:
        """The datum of this name or uid. Raises UserError `data.not-found`, with the nearest name."""
        return Datum(self.grid, await self.grid.datum(name))

    async def search(self, prefix: str = "", *, attribute: str | None = None) -> AsyncGenerator[Datum]:
        """All living data whose names begin with `prefix`, by name; with `attribute`, those that have the one so named.

        Raises:
            BitDewError: those of the connection.
        """
        async with aclosing(self.grid.data(prefix)) as found:
            async for view in found:
                if attribute is None or view.attribute_name == attribute:
                    yield Datum(self.grid, view)

    async def delete(self, name: str) -> None:
        """End a datum's life everywhere. Raises UserError `data.not-found`."""
        await self.grid.remove(name)

    def seeding(
        self,
        path: str | Path,
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        disk: dict[str, str] | None = None,
        upload: int = 0,
    ) -> AbstractAsyncContextManager[Offer]:
        """Offer a file, or a folder, for as long as the block lasts: hosts fetch it here, the repository gets none.

            async with dew.seeding("root.img", Attribute(replica=3)) as offer:
                await offer.held()

        Args:
            path: A file that is not empty, or a folder.
            attribute: As in `put`.
            name: As in `put`.
            disk: Make it a disk signed by this profile, with these `os`, `arch` and `version`.
            upload: Bytes per second that are sent at most; 0 is unlimited.

        Raises:
            BitDewError: as `BitDew.seed`.
        """
        path = Path(path)
        return self.grid.seed(path, _name_for(path, name), attribute, disk=disk, upload=upload)

    # Transfers ------------------------------------------------------------------------------------------------------

    @property
    def transfers(self) -> Transfers:
        """The transfers that `putting` and `getting` started: to wait for, or to limit all together."""
        return self._transfers

    def putting(
        self, source: Bytes, attribute: Attribute | str | None = None, *, name: str | None = None, rate: int = 0
    ) -> Transfer[Datum]:
        """As `put`, in the background: a transfer to follow, await, pause, limit or cancel.

        `rate` is in bytes per second, 0 for any. Eight transfers move at a time; what is not over when the connection
        ends is cancelled.
        """

        async def work(progress: Progress) -> Datum:
            return await self.put(source, attribute, name=name, progress=progress)

        label = name or (_name_for(Path(source), None) if isinstance(source, str | Path) else "")
        return self._transfers.start(label, work, rate)

    def getting(
        self, name: str, path: str | Path | None = None, *, force: bool = False, rate: int = 0
    ) -> Transfer[Path]:
        """As `get`, in the background; see `putting`."""

        async def work(progress: Progress) -> Path:
            return await self.get(name, path, force=force, progress=progress)

        return self._transfers.start(name, work, rate)

    # Attributes -----------------------------------------------------------------------------------------------------

    async def define(self, name: str, attribute: Attribute) -> None:
        """Keep wishes under a name: whoever changes them changes them for all the data that have it.

        Raises:
            BitDewError: as `BitDew.define`.
        """
        await self.grid.define(name, attribute)

    async def change(self, name: str, attribute: Attribute | str) -> None:
        """Give the datum `name` other wishes, or another attribute by its name.

        Raises:
            BitDewError: `data.not-found`, `certificate.role`, `attribute.…`.
        """
        await self.grid.choose(name, attribute)

    # ActiveData -----------------------------------------------------------------------------------------------------

    def events(
        self,
        *kinds: EventKind | str,
        attr: str | None = None,
        data: str | None = None,
        cursor: str | None = None,
        since: Since = "now",
    ) -> EventStream:
        """What happens to data and to their copies, as an asynchronous iterator and context manager.

        Args:
            kinds: Only these, as `"held"`; all of them by default.
            attr: Only of data that have this attribute, by name or uid.
            data: Only of this datum, by name or uid.
            cursor: The name under which this profile keeps how far the program has come: after a restart it goes on
                there, and nothing is missed. Where the log does not reach back so far, what is so is told, `again`.
            since: Where a cursor that is new begins, or a program without one: with what happens next, or with the
                oldest event that is kept (a week of them, a million at most).

        Raises:
            ValueError: for an unknown kind.
            UserError: `input.invalid`, for what can't be a cursor's name.
        """
        wanted = Wanted(tuple(map(EventKind, kinds)), data or "", attr or "")
        file = None if cursor is None else CursorFile(self.grid.profile, cursor)
        return EventStream(self.grid, wanted, since, file)

    def on(
        self,
        *kinds: EventKind | str,
        attr: str | None = None,
        data: str | None = None,
        cursor: str | None = None,
        since: Since = "now",
    ) -> Callable[[H], H]:
        """Have a function called with events, while `reacting` or `react` is under way; the arguments are `events`'s.

            @dew.on("held", attr="events", cursor="pipeline")
            async def process(event): ...

        A function that is no coroutine function is called in a thread. One that raises ends `react`, and its event was
        not handled.
        """
        stream = self.events(*kinds, attr=attr, data=data, cursor=cursor, since=since)

        def register(handler: H) -> H:
            self._reactions.append(Reaction(stream, handler))
            return handler

        return register

    def reacting(self) -> AbstractAsyncContextManager[None]:
        """Call the functions that `on` registered, for as long as the block lasts."""
        return reacting(list(self._reactions))

    async def react(self) -> None:
        """Call the functions that `on` registered until cancelled. Raises what they raise."""
        async with self.reacting():
            await asyncio.get_running_loop().create_future()

    # The grid -------------------------------------------------------------------------------------------------------

    async def hosts(self) -> list[m.HostView]:
        """All hosts that ever joined."""
        return await self.grid.hosts()


def connect(profile: str | Path | None = None, *, url: str | None = None) -> Dew:
    """A service, to be used with `async with`.

    Args:
        profile: Who one is, and at which service: a profile's name, a folder with an identity (its key, certificate
            and the service's CA), or `BITDEW_PROFILE`, or "default".
        url: Where that service is reached, if not where it was joined.
    """
    return Dew(BitDew.connect(profile, url))


def _opened(path: Path) -> Path | ByteSource:
    """The file at `path`, as bytes that a service which is away is waited for with; or `path`, where it is a folder."""
    return path if path.is_dir() else FileSource(path)


def _name_for(path: Path, name: str | None) -> str:
    return name if name is not None else (path.name or path.resolve().name)
