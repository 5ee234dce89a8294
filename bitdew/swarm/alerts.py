"""What libtorrent reports, copied into our own values.

A libtorrent alert dies at the next `pop_alerts`; touching it afterwards crashes the process. So each one is copied
here at once, and nothing of libtorrent's leaves this module but plain figures and texts.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import libtorrent as lt

from bitdew.core.host import Endpoint

from .bitfield import packed
from .progress import PeerSample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket is open at `endpoint`."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class NotListening:
    """A socket could not be opened at `endpoint`; `in_use` if another program holds it."""

    endpoint: Endpoint
    in_use: bool
    why: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The session has done everything that was asked before its statistics were."""


@dataclass(frozen=True, slots=True)
class Knocked:
    """Somebody came for a torrent that the session does not have; of which, libtorrent does not tell."""


@dataclass(frozen=True, slots=True)
class AlertsLost:
    """More happened than the queue could hold: what was waited for may never be reported."""


@dataclass(frozen=True, slots=True)
class TorrentEvent:
    """Something about one torrent, named by its v2 info-hash."""

    info_hash: str


@dataclass(frozen=True, slots=True)
class Snapshot(TorrentEvent):
    """The state of a torrent.

    `have` is the bitfield of verified pieces where it was asked for, or None. Rates are payload bytes per second,
    averaged over some seconds. `connections` counts those that are being made, `peers` does not.
    """

    checking: bool
    whole: bool
    pieces: int
    peers: int
    uploaded: int
    downloaded: int
    have: bytes | None
    upload_rate: int = 0
    download_rate: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Availability(TorrentEvent):
    """How many of the connected peers have each piece."""

    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PeerCame(TorrentEvent):
    """A connection was made."""

    peer: Endpoint


@dataclass(frozen=True, slots=True)
class PeerWent(TorrentEvent):
    """A connection ended, or could not be made."""

    peer: Endpoint
    why: str


@dataclass(frozen=True, slots=True)
class PeerBanned(TorrentEvent):
    """A peer's pieces were wrong and it is not asked again."""

    peer: Endpoint


@dataclass(frozen=True, slots=True)
class PieceCorrupt(TorrentEvent):
    """A piece arrived that does not match its hash."""

    piece: int


@dataclass(frozen=True, slots=True)
class DiskFault(TorrentEvent):
    """The file could not be read or written. `full`: for want of space."""

    full: bool
    why: str


@dataclass(frozen=True, slots=True)
class TorrentFault(TorrentEvent):
    """The torrent stopped for another reason than the disk."""

    why: str


@dataclass(frozen=True, slots=True)
class ClaimRejected(TorrentEvent):
    """The file on disk can't be what was claimed of it; it is checked."""

    why: str


@dataclass(frozen=True, slots=True)
class Checked(TorrentEvent):
    """What is on disk was looked at."""


@dataclass(frozen=True, slots=True)
class Flushed(TorrentEvent):
    """What libtorrent held in memory was handed to the operating system."""


@dataclass(frozen=True, slots=True)
class Moved(TorrentEvent):
    """The torrent's state changed: a snapshot is worth taking."""


@dataclass(frozen=True, slots=True)
class Removed(TorrentEvent):
    """The session forgot the torrent."""


Event = Listening | NotListening | Answered | Knocked | AlertsLost | TorrentEvent


def copied(alerts: Iterable[Any]) -> Iterator[Event]:
    """Our copies of `alerts`; those that say nothing to us are left out."""
    for alert in alerts:
        if type(alert) is lt.state_update_alert:
            for status in alert.status:
                yield _snapshot(status)
            continue
        if type(alert) is lt.peer_error_alert:
            if _is_knock(alert):
                yield Knocked()
            continue
        copy = _COPIES.get(type(alert))
        if copy is not None:
            yield copy(alert)


def connections(handle: lt.torrent_handle) -> tuple[PeerSample, ...]:
    """The open connections of a torrent. Waits for libtorrent's thread: call it in a worker thread.

    The Python binding of 2.1.1 can't read what `post_peer_info` reports, so there is no way without waiting.
    """
    try:
        peers = handle.get_peer_info()
    except RuntimeError:  # removed meanwhile
        return ()
    return tuple(
        PeerSample(
            _endpoint(peer.ip),
            incoming=not peer.flags & lt.peer_info.outgoing_connection,
            received=peer.total_download,
            shaken=not peer.flags & (lt.peer_info.handshake | lt.peer_info.connecting),
            silent=bool(peer.flags & lt.peer_info.snubbed),
        )
        for peer in peers
    )


def _hash(alert: Any) -> str:
    return str(alert.handle.info_hashes().v2)


def _endpoint(pair: tuple[str, int]) -> Endpoint:
    return Endpoint(str(pair[0]), int(pair[1]))


_CHECKING: Final = frozenset(
    {
        lt.torrent_status.states.queued_for_checking,
        lt.torrent_status.states.checking_files,
        lt.torrent_status.states.checking_resume_data,
        lt.torrent_status.states.allocating,
    }
)
_WHOLE: Final = frozenset({lt.torrent_status.states.finished, lt.torrent_status.states.seeding})


def _snapshot(status: Any) -> Snapshot:
    have = status.pieces  # without the flag query_pieces it has no bits
    return Snapshot(
        str(status.info_hashes.v2),
        checking=status.state in _CHECKING,
        whole=status.state in _WHOLE,
        pieces=status.num_pieces,
        peers=status.num_peers,
        uploaded=status.total_payload_upload,
        downloaded=status.total_payload_download,
        have=packed(have) if have else None,
        upload_rate=status.upload_payload_rate,
        download_rate=status.download_payload_rate,
        connections=status.num_connections,
    )


_CALLBACK_FAILED: Final = 234
"""OpenSSL's `SSL_R_CALLBACK_FAILED`: libtorrent's own, which finds a torrent by the name of the server, found none."""
_REASON: Final = 0x7FFFFF


def _is_knock(alert: Any) -> bool:
    return (
        alert.op is lt.operation_t.ssl_handshake
        and alert.error.category().name() == "asio.ssl"
        and alert.error.value() & _REASON == _CALLBACK_FAILED
    )


def _not_listening(alert: Any) -> NotListening:
    code = alert.error.value()
    return NotListening(
        Endpoint(str(alert.address), int(alert.port)),
        in_use=alert.error.category().name() == "system" and code == errno.EADDRINUSE,
        why=str(alert.error.message()),
    )


def _disk_fault(alert: Any) -> DiskFault:
    cause = alert.error
    full = cause.category().name() in {"system", "generic"} and cause.value() in {errno.ENOSPC, errno.EDQUOT}
    return DiskFault(_hash(alert), full, str(cause.message()))


_COPIES: Final[dict[type, Callable[[Any], Event]]] = {
    lt.listen_succeeded_alert: lambda a: Listening(Endpoint(str(a.address), int(a.port))),
    lt.listen_failed_alert: _not_listening,
    lt.session_stats_alert: lambda _: Answered(),
    lt.alerts_dropped_alert: lambda _: AlertsLost(),
    lt.peer_connect_alert: lambda a: PeerCame(_hash(a), _endpoint(a.endpoint)),
    lt.peer_disconnected_alert: lambda a: PeerWent(_hash(a), _endpoint(a.endpoint), str(a.error.message())),
    lt.peer_ban_alert: lambda a: PeerBanned(_hash(a), _endpoint(a.endpoint)),
    lt.piece_availability_alert: lambda a: Availability(_hash(a), tuple(map(int, a.piece_availability))),
    lt.hash_failed_alert: lambda a: PieceCorrupt(_hash(a), int(a.piece_index)),
    lt.file_error_alert: _disk_fault,
    lt.torrent_error_alert: lambda a: TorrentFault(_hash(a), str(a.error.message())),
    lt.fastresume_rejected_alert: lambda a: ClaimRejected(_hash(a), str(a.error.message())),
    lt.torrent_checked_alert: lambda a: Checked(_hash(a)),
    lt.cache_flushed_alert: lambda a: Flushed(_hash(a)),
    lt.state_changed_alert: lambda a: Moved(_hash(a)),
    lt.torrent_finished_alert: lambda a: Moved(_hash(a)),
    lt.torrent_removed_alert: lambda a: Removed(str(a.info_hashes.v2)),
}
