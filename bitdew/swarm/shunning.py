"""Peers that sent wrong pieces, and how they are kept from coming back at once.

Owns the judgement of addresses. libtorrent bans a peer of one torrent only after it has shaken hands with it, and the
peer, which knows nothing of the ban, dials once a second: each time that costs a TLS handshake. So whole addresses are
refused, before the first byte, as long as a transfer needs better sources and nobody else is at that address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libtorrent as lt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .record import TransferRecord


def shunned_addresses(lively: Iterable[TransferRecord], every: Iterable[TransferRecord]) -> frozenset[str]:
    """The addresses to refuse: of peers that are banned where pieces are missing, and of no other known source.

    Pieces are missing only in `lively` transfers; `every` one is looked at only where somebody is banned.
    Several hosts may share an address, and a copy may be bad while the host's others are good: then it is not refused.
    """
    banned = {peer.host for transfer in lively if transfer.fetching for peer in transfer.banned}
    if not banned:
        return frozenset()
    needed = {source.host for transfer in every for source in transfer.trusted}
    return frozenset(banned - needed)


class Shunning:
    """What one session refuses now."""

    def __init__(self) -> None:
        self._refused: frozenset[str] = frozenset()

    def apply(self, session: lt.session, lively: Iterable[TransferRecord], every: Iterable[TransferRecord]) -> None:
        """Have `session` refuse those addresses, and no others any more."""
        addresses = shunned_addresses(lively, every)
        if addresses == self._refused:
            return
        self._refused, made = addresses, lt.ip_filter()
        for address in addresses:
            made.add_rule(address, address, 1)
        session.set_ip_filter(made)
