"""A seeder: one port, any number of contents, one cap.

Owns the listening socket, who may come in, and the cap on what is sent. A content that nobody fetches costs nothing.

The order of closing: no more connections; everybody is hung up on; reads under way end.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import ssl
from typing import TYPE_CHECKING, Final, Self

from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.swarm.settings import SwarmLimits
from bitdew.trust.keys import KeyPair
from bitdew.trust.tls import server_context, use_pair

from .offer import Offer
from .peer import SeederPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bitdew.swarm.credentials import SwarmCredentials
    from bitdew.swarm.metainfo import Metainfo

BACKLOG: Final = 500
BURST_SECONDS: Final = 0.05
"""What the cap saves up: as much as a late wake-up of the event loop costs."""
_UNLIMITED: Final = SwarmLimits()


class Seeder:
    """Offers whole files to the members of a closed swarm. Made by `start`.

    Attributes:
        endpoint: Where it listens for TLS peers.
        peer_id: What peers know it by.
        on_fault: Told an offer whose file can't be read any more.
    """

    def __init__(self, context: ssl.SSLContext, limits: SwarmLimits) -> None:
        """Use `Seeder.start`."""
        self.endpoint = Endpoint("0.0.0.0", 0)  # noqa: S104 (nothing listens yet)
        self.peer_id = b"-BD0100-" + secrets.token_bytes(12)
        self._context = context
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._offers: dict[bytes, Offer] = {}
        self._peers: set[SeederPeer] = set()
        self._emptied = asyncio.Event()
        self._paid_until = 0.0
        self._wake: asyncio.TimerHandle | None = None
        self._held_up: dict[SeederPeer, None] = {}
        self.on_fault: Callable[[Offer], None] = lambda _offer: None

    @classmethod
    async def start(cls, listen: Endpoint, credentials: SwarmCredentials, limits: SwarmLimits = _UNLIMITED) -> Self:
        """Listen for TLS peers at `listen`; port 0 takes any that is free.

        Raises:
            UserError: `port.in-use`, `input.invalid`.
            HostError: `swarm.failed`, if the address can't be listened at for another reason.
        """
        pair = KeyPair(credentials.certificate, credentials.private_key)
        context = await asyncio.to_thread(server_context, pair, credentials.root_certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        made = cls(context, limits)
        loop = asyncio.get_running_loop()
        try:
            made._server = await loop.create_server(
                lambda: SeederPeer(made), listen.host, listen.port, ssl=context, backlog=BACKLOG
            )
        except OSError as cause:
            key = "port.in-use" if cause.errno == errno.EADDRINUSE else "swarm.failed"
            do = "" if key == "port.in-use" else "Check that the address is one of this machine."
            why = cause.strerror or str(cause)
            raise error(key, f"Can't listen for peers at {listen}", why=why, do=do, endpoint=str(listen)) from None
        made.endpoint = Endpoint(listen.host, made._server.sockets[0].getsockname()[1])
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up on everybody and free the port; again does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        if self._wake is not None:
            self._wake.cancel()
        for offer in list(self._offers.values()):
            await offer.end()
        self._offers.clear()
        for peer in list(self._peers):
            peer.hang_up()
        while self._peers:
            self._emptied.clear()
            await self._emptied.wait()
        await server.wait_closed()

    @property
    def offers(self) -> Mapping[str, Offer]:
        """What is offered, by info-hash."""
        return {offer.metainfo.info_hash: offer for offer in self._offers.values()}

    @property
    def peers(self) -> int:
        """How many hosts are connected."""
        return len(self._peers)

    async def add(self, metainfo: Metainfo, path: Path) -> Offer:
        """Offer the file at `path`, which is whole.

        Raises:
            HostError: `swarm.failed`, if it is closed or offers this content already.
        """
        short = bytes.fromhex(metainfo.info_hash)[:20]
        if self._server is None:
            raise error("swarm.failed", "The swarm is closed")
        if short in self._offers:
            raise error("swarm.failed", f"{path.name} is offered already", info_hash=metainfo.info_hash)
        offer = self._offers[short] = Offer(metainfo, path, self._on_fault)
        return offer

    async def remove(self, offer: Offer) -> None:
        """Offer it no more; the file stays. Nothing happens if it was removed before."""
        short = bytes.fromhex(offer.metainfo.info_hash)[:20]
        if self._offers.get(short) is offer:
            del self._offers[short]
        await offer.end()

    def set_limits(self, limits: SwarmLimits) -> None:
        """Change the caps at once."""
        self._limits = limits

    async def set_credentials(self, credentials: SwarmCredentials) -> None:
        """Show a renewed certificate to peers from now on; connections that are open stay."""
        pair = KeyPair(credentials.certificate, credentials.private_key)
        await asyncio.to_thread(use_pair, self._context, pair)

    def _on_fault(self, offer: Offer) -> None:
        for peer in [peer for peer in self._peers if peer.serves(offer)]:
            peer.hang_up()
        self.on_fault(offer)

    # What peers ask

    def enter(self, peer: SeederPeer) -> bool:
        """Let one more in, if there is room."""
        if self._server is None or len(self._peers) >= self._limits.connections:
            return False
        self._peers.add(peer)
        return True

    def forget(self, peer: SeederPeer) -> None:
        """It is gone."""
        self._peers.discard(peer)
        if not self._peers:
            self._emptied.set()
        self._held_up.pop(peer, None)

    def offer_of(self, info_hash: bytes) -> Offer | None:
        """The offer with this info-hash of 20 bytes."""
        offer = self._offers.get(info_hash)
        return offer if offer is not None and offer.fault is None else None

    def may_send(self, size: int, peer: SeederPeer) -> bool:
        """Whether the cap allows `size` more bytes now; if not, the peer is asked again later."""
        rate = self._limits.upload
        if not rate:
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._paid_until > now:
            self._held_up[peer] = None
            if self._wake is None:
                self._wake = loop.call_at(self._paid_until, self._on_wake)
            return False
        self._paid_until = max(self._paid_until, now - BURST_SECONDS) + size / rate
        return True

    def _on_wake(self) -> None:
        self._wake = None
        held_up, self._held_up = self._held_up, {}
        for peer in held_up:
            peer.flush()
