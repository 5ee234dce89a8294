"""How libtorrent is set: a closed, TCP-only swarm whose caps hold on a LAN too.

Owns every libtorrent setting. The figures were measured with libtorrent 2.1.1 on loopback and shaped links.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import libtorrent as lt

if TYPE_CHECKING:
    from bitdew.core.host import Endpoint


@dataclass(frozen=True, slots=True)
class SwarmLimits:
    """What the swarm may use of this machine's network, over all transfers.

    Attributes:
        upload: Bytes per second to peers; 0 is unlimited.
        download: Bytes per second from peers; 0 is unlimited.
        connections: How many peers at most, at least 1.
    """

    upload: int = 0
    download: int = 0
    connections: int = 500


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What one transfer may use of that; 0 is no limit of its own.

    Attributes:
        upload: Bytes per second to peers.
        download: Bytes per second from peers.
        connections: How many peers at most.
    """

    upload: int = 0
    download: int = 0
    connections: int = 0


LARGEST_RATE: Final = 2**31 - 2
"""Bytes per second. libtorrent keeps rates in 32 bits: 2 GiB/s would become no limit at all, and 5 GiB/s 1 GiB/s."""
LARGEST_CONNECTIONS: Final = 20_000
"""A bound that libtorrent's own figure for "no limit" suggests."""
PATIENT: Final = 1_000_000
"""How often a peer is dialled in vain before it is given up: never."""
_SLACK: Final = 10
"""Connections that are kept free at most, for peers who come to us. See `limits_as_settings`."""

DH_PARAMETERS: Final = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""The group ffdhe2048 of RFC 7919, appendix A.1. It is public and fixed; libtorrent asks for one with a certificate."""

_ALERTS: Final[int] = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.storage
    | lt.alert_category.peer
    | lt.alert_category.connect
)


def is_wildcard(endpoint: Endpoint) -> bool:
    """Whether `endpoint` means every address of the machine."""
    return ipaddress.ip_address(endpoint.host).is_unspecified


def limits_as_settings(limits: SwarmLimits) -> lt.settings_pack:
    """The part of the settings that may change while the swarm runs.

    libtorrent lets in some peers beyond its limit, so that a transfer without any peer can get one in place of another
    transfer's. That slack is taken out of the cap here, which so holds.
    """
    connections = min(max(limits.connections, 1), LARGEST_CONNECTIONS)
    slack = min(_SLACK, connections // 4)
    return {
        "upload_rate_limit": min(limits.upload, LARGEST_RATE),
        "download_rate_limit": min(limits.download, LARGEST_RATE),
        "connections_limit": connections - slack,
        "connections_slack": slack,
    }


def set_transfer_limits(handle: lt.torrent_handle, limits: TransferLimits) -> None:
    """Set the caps of one torrent. It does not wait for libtorrent."""
    handle.set_upload_limit(min(limits.upload, LARGEST_RATE))
    handle.set_download_limit(min(limits.download, LARGEST_RATE))
    handle.set_max_connections(min(limits.connections, LARGEST_CONNECTIONS) or -1)


def open_session(listen: Endpoint, limits: SwarmLimits) -> lt.session:
    """A libtorrent session that listens for TLS peers at `listen` and nowhere else. Starts threads: tens of ms."""
    settings: lt.settings_pack = {
        "alert_mask": _ALERTS,
        "alert_queue_size": 20_000,
        "user_agent": "bitdew",
        # Where: "s" is TLS, and without a second entry there is no plaintext port. The two that follow forbid
        # libtorrent to take another port than asked. A fixed source address lets a peer know us by it.
        "listen_interfaces": f"{listen}s",
        "listen_system_port_fallback": False,
        "max_retry_port_bind": 0,
        "outgoing_interfaces": "" if is_wildcard(listen) else listen.host,
        "listen_queue_size": 500,
        # Who: only peers that we are told of, over TCP. uTP on a LAN moves 7 to 9 MB/s where TCP moves 94 to 140.
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "mixed_mode_algorithm": 0,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": "",
        "allow_multiple_connections_per_ip": True,
        # A peer that is away for a while is tried again after a pause that grows to half a minute, not given up.
        "min_reconnect_time": 1,
        "max_failcount": PATIENT,
        # A peer that is silent is not relied on after seconds, and one that is gone without a word not after a minute.
        "piece_timeout": 10,
        "peer_timeout": 30,
        "connection_speed": 200,
        "smooth_connects": False,
        # Whole files dial only while something moves, see `warmth`: a peer that is off would be tried
        # again for each of them, twice a minute, for ever.
        "seeding_outgoing_connections": False,
        # Two finished peers stay connected, so that the last sample of what each of them gave isn't lost; where
        # connections are scarce, idle ones go after a minute.
        "close_redundant_connections": False,
        "inactivity_timeout": 60,
        # How: all are sent to at a time; a large write cache hides a full disk. Deep request queues cost duplicates
        # in the end game; shallow ones keep a peer slow that began slowly, so that some uplinks fill and others idle.
        "unchoke_slots_limit": -1,
        "max_out_request_queue": 64,
        "request_queue_time": 2,
        # What a peer is to be told, and asked for, waits behind the pieces that are handed over for it already. Where
        # the uplink is full and slow (10 Mbit/s), 64 KiB for each of 15 peers were 0.8 s: such a host asked too late
        # for what it lacked, and ended a quarter later than all others.
        "send_buffer_watermark": 1 << 20,
        "send_buffer_low_watermark": 8 << 10,
        "send_buffer_watermark_factor": 15,
        "max_queued_disk_bytes": 16 << 20,
        "hashing_threads": 2,
        "tick_interval": 100,
        "stop_tracker_timeout": 1,
        **limits_as_settings(limits),
    }
    session = lt.session(lt.session_params(settings))
    # By default peers on private and loopback addresses are in a class of their own, which no limit binds and
    # which is never choked. Put everybody into the global class.
    everybody = lt.ip_filter()
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)  # noqa: S104 (a range, not a socket)
    everybody.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1 << lt.session.global_peer_class_id)
    session.set_peer_class_filter(everybody)
    return session


def free_port(listen: Endpoint) -> int:
    """A port that is free at the address of `listen`."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((listen.host, 0))
        return int(probe.getsockname()[1])
