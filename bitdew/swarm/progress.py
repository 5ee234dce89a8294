"""How far a transfer is, and from whom its bytes came."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bitdew.core.host import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

TransferState = Literal["checking", "fetching", "finished", "seeding"]
"""checking: what is on disk is being looked at. fetching: pieces are missing. finished: every piece arrived, but may
be in a cache still. seeding: the file is whole and durable, or was known to be whole."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a transfer.

    Attributes:
        done: Bytes in verified pieces; a short last piece counts as a whole one until the file is whole.
        size: Bytes in all.
        state: See `TransferState`.
        peers: How many are connected, and not silent: who was asked for pieces and has sent nothing for long does not
            count.
        uploaded: Payload bytes sent since the transfer was added.
        downloaded: Payload bytes received since then, those thrown away included.
        received_from: Payload bytes by the peer's listening endpoint. Where a peer came to us, nothing tells its
            listening port: the port is 0. Sampled several times a second: what a peer sent in the last moment before
            it vanished may be missing.
        corrupt: How many pieces arrived wrong.
    """

    done: int
    size: int
    state: TransferState
    peers: int = 0
    uploaded: int = 0
    downloaded: int = 0
    received_from: dict[Endpoint, int] = field(default_factory=dict)
    corrupt: int = 0

    @property
    def received_by_address(self) -> dict[str, int]:
        """Payload bytes by the peer's IP address."""
        totals: Counter[str] = Counter()
        for endpoint, size in self.received_from.items():
            totals[endpoint.host] += size
        return dict(totals)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a transfer uses of the network now.

    Attributes:
        upload: Payload bytes per second to peers, averaged over some seconds.
        download: The same from peers.
        connections: Peers that are connected, or being connected to.
    """

    upload: int = 0
    download: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class PeerSample:
    """One connection at one moment.

    Attributes:
        remote: The far end of the connection.
        incoming: It came to us, so that `remote.port` is not where the peer listens.
        received: Payload bytes that came through it so far.
        shaken: Both ends have said who they are.
        silent: It was asked for pieces, and has sent nothing for as long as is waited for one.
    """

    remote: Endpoint
    incoming: bool
    received: int
    shaken: bool = True
    silent: bool = False


class ReceivedTally:
    """Adds up what each peer sent over all its connections, from samples of the connections that are open."""

    def __init__(self) -> None:
        self._open: dict[Endpoint, PeerSample] = {}
        self._closed: Counter[tuple[Endpoint, bool]] = Counter()

    def take(self, samples: Iterable[PeerSample]) -> None:
        """Take a sample of every open connection. One that is missing, or counts from zero again, was closed."""
        now = {sample.remote: sample for sample in samples}
        for remote, last in list(self._open.items()):
            if remote not in now or now[remote].received < last.received:
                self.close(remote)
        self._open = now

    def close(self, remote: Endpoint) -> None:
        """The connection to `remote` ended."""
        last = self._open.pop(remote, None)
        if last is not None:
            self._closed[last.remote, last.incoming] += last.received

    def by_listener(self) -> dict[Endpoint, int]:
        """Bytes by the endpoint that we dialled, or by the address alone of who came: others may listen there too."""
        totals: Counter[Endpoint] = Counter()
        for (remote, incoming), received in self._everything():
            if received:
                totals[Endpoint(remote.host, 0) if incoming else remote] += received
        return dict(totals)

    def _everything(self) -> Iterable[tuple[tuple[Endpoint, bool], int]]:
        yield from self._closed.items()
        for sample in self._open.values():
            yield (sample.remote, sample.incoming), sample.received
