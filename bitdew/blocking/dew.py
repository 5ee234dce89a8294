"""`BlockingDew` and `BlockingDatum`: every public method of `Dew` and `Datum`, called through a portal.

Owns no behaviour of its own. A test holds the two sides against each other, method by method.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bitdew.client import dew as twin
from bitdew.client.datum import Datum
from bitdew.client.events import Event, EventKind
from bitdew.wire import models as m

from .handle import BlockingHandle
from .portal import Portal
from .transfers import BlockingTransfer, BlockingTransfers
from .work import BlockingWork

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from bitdew.client.active import Since
    from bitdew.client.seeding import Offer
    from bitdew.core.attribute import Attribute
    from bitdew.core.ids import ContentRoot

    Progress = Callable[[int, int], None]

T = TypeVar("T")
H = TypeVar("H", bound=Callable[[Event], Any])


class BlockingDatum(BlockingHandle[Datum, m.DataView]):
    """The twin of `Datum`.

    Attributes:
        twin: The datum itself, for use inside of the loop.
    """

    @property
    def name(self) -> str:
        """As `Datum.name`."""
        return self.twin.name

    @property
    def root(self) -> ContentRoot:
        """As `Datum.root`."""
        return self.twin.root

    @property
    def size(self) -> int:
        """As `Datum.size`."""
        return self.twin.size

    @property
    def is_folder(self) -> bool:
        """As `Datum.is_folder`."""
        return self.twin.is_folder

    @property
    def attribute(self) -> Attribute:
        """As `Datum.attribute`."""
        return self.twin.attribute

    def __repr__(self) -> str:
        return repr(self.twin)

    def refresh(self) -> m.DataView:
        """As `Datum.refresh`."""
        return self._portal.call(self.twin.refresh())

    def where(self) -> m.WhereReply:
        """As `Datum.where`."""
        return self._portal.call(self.twin.where())

    def explain(self) -> m.ExplainReply:
        """As `Datum.explain`."""
        return self._portal.call(self.twin.explain())

    def events(self) -> Generator[Event]:
        """As `Datum.events`."""
        return self._portal.each(self.twin.events())

    def held(self, replicas: int | None = None, *, timeout: float | None = None) -> m.WhereReply:
        """As `Datum.held`, within `timeout` seconds. Raises TimeoutError."""
        return self._portal.call(_within(timeout, self.twin.held(replicas)))

    def get(self, path: str | Path | None = None, *, force: bool = False) -> Path:
        """As `Datum.get`."""
        return self._portal.call(self.twin.get(path, force=force))

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """As `Datum.read`."""
        return self._portal.call(self.twin.read(start, end))

    def stream(self, start: int = 0, end: int | None = None) -> Generator[bytes]:
        """As `Datum.stream`."""
        return self._portal.each(self.twin.stream(start, end))

    def change(self, attribute: Attribute | str) -> None:
        """As `Datum.change`."""
        self._portal.call(self.twin.change(attribute))

    def delete(self) -> None:
        """As `Datum.delete`."""
        self._portal.call(self.twin.delete())


class BlockingDew(BlockingWork):
    """The twin of `Dew`. A context manager; it may be used from several threads.

    Attributes:
        twin: The connection itself, for use inside of the loop.
        portal: The way into that loop: `portal.call(dew.twin.grid.hosts())`.
    """

    def __init__(self, dew: twin.Dew) -> None:
        self.twin = dew
        self.portal = Portal()
        self._transfers = BlockingTransfers(self.portal, dew.transfers)
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        """Raises what `Dew` raises when it is entered."""
        with ExitStack() as exits:
            exits.enter_context(self.portal)
            self.portal.call(self.twin.__aenter__())
            exits.callback(lambda: self.portal.call(self.twin.__aexit__(None, None, None)))
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def put(
        self,
        source: str | Path | bytes | Iterable[bytes],
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> BlockingDatum:
        """As `Dew.put`; a stream is any iterable of bytes, as an open file is. `progress` is called in the loop."""
        given = source if isinstance(source, str | Path | bytes) else _chunks(source)
        return self._datum(self.portal.call(self.twin.put(given, attribute, name=name, progress=progress)))

    def put_disk(
        self,
        path: str | Path,
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        os: str = "",
        version: str = "1",
        progress: Progress | None = None,
    ) -> BlockingDatum:
        """As `Dew.put_disk`."""
        work = self.twin.put_disk(path, attribute, name=name, os=os, version=version, progress=progress)
        return self._datum(self.portal.call(work))

    def get(
        self, name: str, path: str | Path | None = None, *, force: bool = False, progress: Progress | None = None
    ) -> Path:
        """As `Dew.get`."""
        return self.portal.call(self.twin.get(name, path, force=force, progress=progress))

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """As `Dew.read`."""
        return self.portal.call(self.twin.read(name, start, end))

    def stream(self, name: str, start: int = 0, end: int | None = None) -> Generator[bytes]:
        """As `Dew.stream`."""
        return self.portal.each(self.twin.stream(name, start, end))

    def find(self, name: str) -> BlockingDatum:
        """As `Dew.find`."""
        return self._datum(self.portal.call(self.twin.find(name)))

    def search(self, prefix: str = "", *, attribute: str | None = None) -> Generator[BlockingDatum]:
        """As `Dew.search`."""
        found = self.portal.each(self.twin.search(prefix, attribute=attribute))
        try:
            yield from map(self._datum, found)
        finally:
            found.close()

    def delete(self, name: str) -> None:
        """As `Dew.delete`."""
        self.portal.call(self.twin.delete(name))

    def seeding(
        self,
        path: str | Path,
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        disk: dict[str, str] | None = None,
        upload: int = 0,
    ) -> AbstractContextManager[Offer]:
        """As `Dew.seeding`; the offer's own calls go through `portal.call`."""
        return self.portal.during(self.twin.seeding(path, attribute, name=name, disk=disk, upload=upload))

    @property
    def transfers(self) -> BlockingTransfers:
        """As `Dew.transfers`."""
        return self._transfers

    def putting(
        self,
        source: str | Path | bytes | Iterable[bytes],
        attribute: Attribute | str | None = None,
        *,
        name: str | None = None,
        rate: int = 0,
    ) -> BlockingTransfer[Datum, BlockingDatum]:
        """As `Dew.putting`."""
        given = source if isinstance(source, str | Path | bytes) else _chunks(source)
        return self._transfers.add(lambda: self.twin.putting(given, attribute, name=name, rate=rate), self._datum)

    def getting(
        self, name: str, path: str | Path | None = None, *, force: bool = False, rate: int = 0
    ) -> BlockingTransfer[Path, Path]:
        """As `Dew.getting`."""
        return self._transfers.add(lambda: self.twin.getting(name, path, force=force, rate=rate), Path)

    def define(self, name: str, attribute: Attribute) -> None:
        """As `Dew.define`."""
        self.portal.call(self.twin.define(name, attribute))

    def change(self, name: str, attribute: Attribute | str) -> None:
        """As `Dew.change`."""
        self.portal.call(self.twin.change(name, attribute))

    def events(
        self,
        *kinds: EventKind | str,
        attr: str | None = None,
        data: str | None = None,
        cursor: str | None = None,
        since: Since = "now",
    ) -> Generator[Event]:
        """As `Dew.events`, begun before this returns. What is under way when the loop over it is left comes again."""
        stream = self.twin.events(*kinds, attr=attr, data=data, cursor=cursor, since=since)
        self.portal.call(stream.__aenter__())
        return self.portal.each(stream)

    def on(
        self,
        *kinds: EventKind | str,
        attr: str | None = None,
        data: str | None = None,
        cursor: str | None = None,
        since: Since = "now",
    ) -> Callable[[H], H]:
        """As `Dew.on`; the function is called in a thread."""
        return self.twin.on(*kinds, attr=attr, data=data, cursor=cursor, since=since)

    def reacting(self) -> AbstractContextManager[None]:
        """As `Dew.reacting`; what a function raises is told at the block's end."""
        return self.portal.during(self.twin.reacting())

    def react(self) -> None:
        """As `Dew.react`, until interrupted."""
        self.portal.call(self.twin.react())

    def hosts(self) -> list[m.HostView]:
        """As `Dew.hosts`."""
        return self.portal.call(self.twin.hosts())

    def _datum(self, datum: Datum) -> BlockingDatum:
        return BlockingDatum(self.portal, datum)


def connect(profile: str | Path | None = None, *, url: str | None = None) -> BlockingDew:
    """As `bitdew.connect`, to be used with `with`."""
    return BlockingDew(twin.connect(profile, url=url))


async def _within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


async def _chunks(source: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """What `source` gives, taken from it in a thread: it may block."""
    chunks = iter(source)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
