"""What other processes of the same database are told: what changed, so that they look at it.

Owns the channel between processes, not what they do with the news. A message is a hint: what is true stands in the
database. None is lost without a sign: whoever may have missed one is told to look at everything again (`resync`).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import stamina
import structlog
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.tasks import to_the_end

from .database import Database
from .faults import storage_fault
from .postgres import Line

log = structlog.get_logger(__name__)

CHANNEL: Final = "bitdew"
LARGEST: Final = 7900
"""Bytes of one message at most; PostgreSQL allows 7,999."""
MOST: Final = 32
"""Messages that one flood is told in; beyond, everything is to be looked at again."""
BACKLOG: Final = 2000
"""Messages that wait to be looked at, or to be sent; beyond, everything is looked at again instead."""
PROBE: Final = 15.0
"""Seconds of quiet after which the connection is tried."""
ANSWER: Final = 10.0
"""Seconds that the server has to answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What changed.

    Attributes:
        origin: The process that says it; the feed fills it in.
        topics: What others may wait for, as in `Changes`.
        data: Data to be planned again.
        hosts: Hosts that said something new, or whose copies changed.
        waiting: Hosts that have new orders, each with the highest generation.
        revoked: Subjects whose certificates were revoked.
        attributes: Attributes that have other wishes now.
        doubted: Hosts from which wrong pieces of some content came.
        calls: Hosts that are called for a content, with where whoever fetches it listens, or "".
        sought: Contents that are fetched from hosts by somebody who has no placement.
        resync: Anything may have changed, revocations included.
    """

    origin: str = ""
    topics: tuple[str, ...] = ()
    data: tuple[Uid, ...] = ()
    hosts: tuple[HostId, ...] = ()
    waiting: Mapping[HostId, int] = field(default_factory=dict)
    revoked: tuple[str, ...] = ()
    attributes: tuple[Uid, ...] = ()
    doubted: tuple[tuple[HostId, ContentRoot], ...] = ()
    calls: tuple[tuple[HostId, ContentRoot, str], ...] = ()
    sought: tuple[ContentRoot, ...] = ()
    resync: bool = False


class Feed(Protocol):
    """Tells other processes what changed here, and hears what changed there."""

    def publish(self, told: Told, *, stored: bool = False) -> None:
        """Let the others know, soon: this does not wait for them, nor for the database.

        What is `stored` was told along with a transaction: they know it already.
        """

    def listen(self, callback: Callable[[Told], None]) -> None:
        """Have `callback` called with what others say. It must not block."""

    async def run(self) -> None:
        """Carry messages, until cancelled."""


class SilentFeed:
    """The feed of the only process: nobody else is there to hear or to say anything."""

    def publish(self, told: Told, *, stored: bool = False) -> None:
        """Nobody hears it."""

    def listen(self, callback: Callable[[Told], None]) -> None:
        """Nobody says anything."""

    async def run(self) -> None:
        """Wait, until cancelled."""
        await asyncio.Event().wait()


class PostgresFeed:
    """LISTEN and NOTIFY, on a connection of its own. What is published within one turn of it goes as one message.

    What is said along with a transaction goes with that, on its connection: whoever is killed right after it was
    stored has told of it. When a connection is made, the first one included, `resync` is heard here; after a loss the
    others hear it too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._origin = new_uid()
        self._listeners: list[Callable[[Told], None]] = []
        self._outbox: list[Told] = []
        self._inbox: deque[str] = deque()
        self._woken = asyncio.Event()
        self._overrun = False
        self._owed = False
        database.carry = self._go_along

    def publish(self, told: Told, *, stored: bool = False) -> None:
        """As in `Feed`."""
        if stored:
            return
        if len(self._outbox) < BACKLOG:
            self._outbox.append(told)
        else:  # the database is away: nobody counts what changed meanwhile
            self._owed = True
        self._woken.set()

    def listen(self, callback: Callable[[Told], None]) -> None:
        """As in `Feed`."""
        self._listeners.append(callback)

    async def run(self) -> None:
        """As in `Feed`; the database may come and go meanwhile. What a listener raises ends it."""
        while True:
            line = await self._connect()
            try:
                await self._carry(line)
            except _BrokenError as fault:
                log.warning("the feed's connection is lost", why=str(fault.__cause__))
                self._owed = True
            finally:
                await to_the_end(line.hang_up())

    async def _connect(self) -> Line:
        def gone(fault: Exception) -> bool:
            return storage_fault(fault, "") is not None

        async for attempt in stamina.retry_context(
            on=gone, attempts=None, timeout=None, wait_initial=0.05, wait_max=2.0, wait_jitter=0.05
        ):
            with attempt:
                line = await Line.open(self._database.url)
                try:
                    line.driver.add_termination_listener(lambda _connection: self._woken.set())
                    await line.driver.add_listener(CHANNEL, self._heard)
                except BaseException:
                    await to_the_end(line.hang_up())
                    raise
                return line
        raise AssertionError("it is tried until it works")

    def _heard(self, _connection: Any, _process: int, _channel: str, payload: str) -> None:
        if len(self._inbox) < BACKLOG:
            self._inbox.append(payload)
        else:
            self._overrun = True
        self._woken.set()

    async def _carry(self, line: Line) -> None:
        # What was heard on another connection is old, and what was said between them was not heard at all.
        self._inbox.clear()
        self._deliver(Told(resync=True))
        while True:
            if self._owed:
                self._outbox = [Told(resync=True)]
            if self._outbox:
                outbox, self._outbox = self._outbox, []
                await self._send(line, outbox)
            self._deliver_all()
            try:
                async with asyncio.timeout(PROBE):
                    await self._woken.wait()
            except TimeoutError:
                await self._say(line, ["SELECT 1"])
            self._woken.clear()
            if line.closed:
                raise _BrokenError from ConnectionError("the server closed it")

    def _payloads(self, messages: Sequence[Told]) -> list[str]:
        payloads = list(_written(self._origin, together(messages)))
        return payloads if len(payloads) <= MOST else list(_written(self._origin, Told(resync=True)))

    async def _go_along(self, session: AsyncSession, messages: Sequence[Told]) -> None:
        if payloads := self._payloads(messages):
            await session.execute(_NOTIFY, {"payloads": payloads})

    async def _send(self, line: Line, outbox: Sequence[Told]) -> None:
        payloads = self._payloads(outbox)
        # Payloads are JSON of ours in ASCII; a quote is all that could end the literal.
        quoted = [payload.replace("'", "''") for payload in payloads]
        if quoted:  # who has nothing to say must not: the driver takes an empty statement for a broken connection
            await self._say(line, [f"NOTIFY {CHANNEL}, '{payload}'" for payload in quoted])
        self._owed = False

    async def _say(self, line: Line, statements: Sequence[str]) -> None:
        try:
            await line.say("; ".join(statements), seconds=ANSWER)
        except Exception as fault:
            self._owed = True
            raise _BrokenError from fault

    def _deliver_all(self) -> None:
        if self._overrun:
            self._overrun = False
            self._inbox.clear()
            self._deliver(Told(resync=True))
        while self._inbox:
            told = _read(self._inbox.popleft())
            if told.origin != self._origin:
                self._deliver(told)

    def _deliver(self, told: Told) -> None:
        for listener in self._listeners:
            listener(told)


class _BrokenError(Exception):
    """The connection can't be used any more."""


_PAYLOADS: Final = func.unnest(bindparam("payloads", type_=ARRAY(Text()))).column_valued("payload")
_NOTIFY: Final = select(func.pg_notify(CHANNEL, _PAYLOADS))


def along(session: AsyncSession, told: Told) -> None:
    """Let other processes hear this when what `session` writes, a transaction of `Database.write`, is stored."""
    Database.note(session, told)


def together(messages: Sequence[Told]) -> Told:
    """What several messages say, once."""
    if any(told.resync for told in messages):
        return Told(resync=True)
    waiting: dict[HostId, int] = {}
    for told in messages:
        for host, generation in told.waiting.items():
            waiting[host] = max(generation, waiting.get(host, 0))
    return Told(
        topics=tuple(dict.fromkeys(one for told in messages for one in told.topics)),
        data=tuple(dict.fromkeys(one for told in messages for one in told.data)),
        hosts=tuple(dict.fromkeys(one for told in messages for one in told.hosts)),
        waiting=waiting,
        revoked=tuple(dict.fromkeys(one for told in messages for one in told.revoked)),
        attributes=tuple(dict.fromkeys(one for told in messages for one in told.attributes)),
        doubted=tuple(dict.fromkeys(one for told in messages for one in told.doubted)),
        calls=tuple(dict.fromkeys(one for told in messages for one in told.calls)),
        sought=tuple(dict.fromkeys(one for told in messages for one in told.sought)),
    )


# On the wire a message is a list: the origin, then pairs of a letter and a value.
_LETTERS: Final = {
    "t": "topics",
    "d": "data",
    "h": "hosts",
    "w": "waiting",
    "r": "revoked",
    "a": "attributes",
    "c": "doubted",
    "l": "sought",
    "k": "calls",
}


def _written(origin: str, told: Told) -> Iterator[str]:
    """The message in as many payloads as it needs."""
    things: list[tuple[str, Any]] = [("s", True)] if told.resync else []
    for letter, name in _LETTERS.items():
        value = getattr(told, name)
        things += [(letter, list(one) if letter == "w" else one) for one in (value.items() if letter == "w" else value)]
    part: dict[str, list[Any]] = {}
    size = 0
    for letter, thing in things:
        cost = len(json.dumps(thing)) + 8
        if size + cost > LARGEST - 100:
            yield json.dumps([origin, part], separators=(",", ":"))
            part, size = {}, 0
        part.setdefault(letter, []).append(thing)
        size += cost
    if part:
        yield json.dumps([origin, part], separators=(",", ":"))


def _read(payload: str) -> Told:
    """The message in a payload. One that can't be read, of another release, is heard as `resync`."""
    try:
        origin, part = json.loads(payload)
        return Told(
            origin=str(origin),
            topics=tuple(map(str, part.get("t", ()))),
            data=tuple(map(Uid, part.get("d", ()))),
            hosts=tuple(map(HostId, part.get("h", ()))),
            waiting={HostId(host): int(generation) for host, generation in part.get("w", ())},
            revoked=tuple(map(str, part.get("r", ()))),
            attributes=tuple(map(Uid, part.get("a", ()))),
            doubted=tuple((HostId(host), ContentRoot(root)) for host, root in part.get("c", ())),
            calls=tuple((HostId(h), ContentRoot(root), str(where)) for h, root, where in part.get("k", ())),
            sought=tuple(map(ContentRoot, part.get("l", ()))),
            resync=not part.keys() <= _LETTERS.keys(),
        )
    except (ValueError, TypeError, AttributeError):
        return Told(resync=True)


def new_feed(database: Database) -> Feed:
    """The feed that fits the database."""
    return PostgresFeed(database) if database.shared else SilentFeed()
