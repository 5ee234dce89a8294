"""What a peer shows, and what it accepts, at the door of a swarm."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SwarmCredentials:
    """The certificates of one peer, as PEM texts.

    libtorrent trusts the first certificate of a text only and presents one leaf only: no bundles, no chains.

    Attributes:
        root_certificate: The CA of the swarm's members. Peers with another one, or none, are refused.
        certificate: This peer's own, signed directly by that root, with the SAN dNSName `*`.
        private_key: The key of `certificate`, not encrypted.
    """

    root_certificate: str
    certificate: str
    private_key: str = field(repr=False)
