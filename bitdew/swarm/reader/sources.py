"""The peers of one reader: who is dialled when, who is asked for what, and who is not asked again.

Owns the connections. What is wanted is the reader's matter.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitdew.core.blocks import length_of_piece
from bitdew.core.errors import BitDewError, error

from .source import Source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bitdew.core.host import Endpoint
    from bitdew.swarm.metainfo import Metainfo

MOST: Final = 8
"""Peers that are connected at a time."""
DEPTH: Final = 4 * 2**20
"""Bytes that one peer is asked for at a time, beside one more piece: a round trip's worth on a fast line."""
DIAL_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
"""How long after a dial in vain it is dialled again: a host that had set its copy aside has it back by then. Twice as
long after each further one, up to"""
LONGEST_AGAIN: Final = 8.0
ASK_SECONDS: Final = 5.0
"""How often it is asked who has it, while something is waited for. That also keeps hosts from setting copies aside."""
_CHANCE: Final = random.Random()  # noqa: S311 (it spreads load, and keeps no secret)


@dataclass(slots=True)
class _Peer:
    """One that has it, or is said to: when it may be dialled, and whether that is under way."""

    due: float = 0.0
    pause: float = AGAIN_SECONDS
    source: Source | None = None
    dialling: asyncio.Task[None] | None = None
    why: str = ""


class Sources:
    """Whom one content is read from.

    Attributes:
        fault: Why nothing can come now, if nobody is connected or being dialled; None otherwise.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        context: ssl.SSLContext,
        peer_id: bytes,
        who: Callable[[], Awaitable[list[Endpoint]]],
        *,
        came: Callable[[Source, int, bytes], None],
        stirred: Callable[[], None],
    ) -> None:
        self._metainfo = metainfo
        self._context = context
        self._peer_id = peer_id
        self._who = who
        self._came, self._stirred = came, stirred
        self._now = asyncio.get_running_loop().time
        self._peers: dict[Endpoint, _Peer] = {}
        self._banned: dict[Endpoint, int] = {}  # and the piece that was wrong
        self._asking: asyncio.Task[None] | None = None
        self._asked = float("-inf")
        self._unknown: BitDewError | None = None  # why nobody could say who has it
        self._emptied = asyncio.Event()

    async def close(self) -> None:
        """Hang up on everybody."""
        work = [peer.dialling for peer in self._peers.values() if peer.dialling is not None]
        if self._asking is not None:
            work.append(self._asking)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        while self.ready:
            self._emptied.clear()
            for source in self.ready:
                source.hang_up()
            await self._emptied.wait()

    @property
    def ready(self) -> list[Source]:
        """Those who are connected."""
        return [peer.source for peer in self._peers.values() if peer.source is not None]

    def told(self) -> str:
        """How it stands with them, in words."""
        reasons = sorted({peer.why for peer in self._peers.values() if peer.source is None and peer.why})
        told = f"{len(self.ready)} of {len(self._peers)} who have it are connected"
        return told + (f" ({'; '.join(reasons)[:200]})" if reasons else "")

    @property
    def fault(self) -> BitDewError | None:
        """See the class."""
        if any(peer.source is not None or peer.dialling is not None for peer in self._peers.values()):
            return None
        if self._asking is not None:
            return None
        if self._banned and not self._peers:
            root, (peer, piece) = self._metainfo.content.root, next(iter(self._banned.items()))
            why = f"piece {piece} of {peer} was wrong, and so was what others sent" if len(self._banned) > 1 else ""
            why = why or f"piece {piece} of {peer} was wrong, and nobody else has it"
            message = f"What hosts send of {root[:16]}… is not what was published"
            return error("swarm.corrupt", message, why=why, piece=piece, root=str(root))
        return self._unknown

    # Whom there is

    def look(self, *, needed: bool) -> None:
        """Ask who has it, and dial those who are due; only as long as something is `needed`."""
        now = self._now()
        if needed and self._asking is None and now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._asking = asyncio.create_task(self._ask_who(), name="asks who has it")
        busy = sum(peer.source is not None or peer.dialling is not None for peer in self._peers.values())
        for endpoint, peer in self._peers.items():
            if busy < MOST and peer.source is None and peer.dialling is None and peer.due <= now:
                busy += 1
                peer.dialling = asyncio.create_task(self._dial(endpoint, peer), name=f"dials {endpoint}")

    def begin_anew(self) -> None:
        """Whoever asks next finds nobody banned, and asks anew who has it."""
        self._banned.clear()
        self._unknown = None
        self._asked = float("-inf")

    async def _ask_who(self) -> None:
        try:
            found = await self._who()
        except BitDewError as fault:
            self._unknown = fault
        else:
            self._unknown = None
            for endpoint in _CHANCE.sample(found, len(found)):  # many who read are not all sent to the same few
                if endpoint not in self._banned:
                    self._peers.setdefault(endpoint, _Peer())
            for endpoint in [
                one for one, p in self._peers.items() if one not in found and not (p.source or p.dialling)
            ]:
                del self._peers[endpoint]
        finally:
            self._asking = None
            self._stirred()

    async def _dial(self, endpoint: Endpoint, peer: _Peer) -> None:
        source = peer.source = Source(
            self._metainfo, self._peer_id, came=self._came, stirred=self._stirred, lost=self._on_lost
        )
        loop, connected = asyncio.get_running_loop(), False
        # libtorrent finds by the name of the server what somebody came for.
        name = self._metainfo.info_hash[:40]
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await loop.create_connection(
                    lambda: source, endpoint.host, endpoint.port, ssl=self._context, server_hostname=name
                )
            connected = True
        except (OSError, ssl.SSLError, TimeoutError) as fault:
            self._put_off(endpoint, peer, str(fault) or "it does not answer")
        finally:
            if not connected:
                peer.source = None
            peer.dialling = None
            self._stirred()

    def _put_off(self, endpoint: Endpoint, peer: _Peer, why: str) -> None:
        peer.why = f"{endpoint}: {why}"
        peer.due = self._now() + peer.pause * _CHANCE.uniform(0.7, 1.3)
        peer.pause = min(2 * peer.pause, LONGEST_AGAIN)

    def _on_lost(self, source: Source, why: str) -> None:
        for endpoint, peer in list(self._peers.items()):
            if peer.source is source:
                peer.source = None
                if endpoint in self._banned:
                    del self._peers[endpoint]
                elif source.received:
                    peer.pause = AGAIN_SECONDS
                self._put_off(endpoint, peer, why)
        self._emptied.set()
        self._stirred()

    # Who is asked

    def asked_for(self, number: int) -> list[Source]:
        """Those who were asked for a piece and have not sent it."""
        return [source for source in self.ready if number in source.asked]

    def ask(self, number: int, *, idle: bool) -> bool:
        """Ask whoever has least to send for a piece; with `idle`, one who has nothing to send. Whether there is one."""
        length = length_of_piece(self._metainfo.content, number)
        able = [s for s in self.ready if number not in s.asked and s.can_give(number) and _has_room(s, length)]
        able = [source for source in able if not source.asked] if idle else able
        if not able:
            return False
        min(_CHANCE.sample(able, len(able)), key=lambda source: source.backlog).ask(number)
        return True

    def can_have(self, number: int, *, besides: Source) -> bool:
        """Whether somebody else can be asked for a piece."""
        return any(source.can_give(number) for source in self.ready if source is not besides)

    def take_back(self, number: int) -> None:
        """A piece is wanted no more."""
        for source in self.asked_for(number):
            source.take_back(number)

    def ban(self, source: Source, number: int) -> None:
        """It sent a wrong piece: it is not asked again."""
        for endpoint, peer in self._peers.items():
            if peer.source is source:
                self._banned[endpoint] = number
        source.hang_up()


def _has_room(source: Source, length: int) -> bool:
    return not source.asked or source.backlog + length <= DEPTH
