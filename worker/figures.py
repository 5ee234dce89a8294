"""Where the bytes of a copy came from, and how many pieces were wrong.

Owns the telling apart of the repository and everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bitdew.core.host import Endpoint
    from bitdew.swarm.progress import Progress


@dataclass(frozen=True, slots=True)
class Figures:
    """Where bytes came from.

    Attributes:
        from_repository: Payload bytes from the repository.
        from_peers: Payload bytes from everybody else.
        corrupt: Pieces that arrived wrong.
        reused: Bytes that were taken from other contents of this host.
    """

    from_repository: int = 0
    from_peers: int = 0
    corrupt: int = 0
    reused: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.from_repository + other.from_repository,
            self.from_peers + other.from_peers,
            self.corrupt + other.corrupt,
            self.reused + other.reused,
        )


def figures_of(progress: Progress, repository: Endpoint, peers: Iterable[Endpoint]) -> Figures:
    """The figures of a transfer in a swarm.

    A peer whose port is not known is taken for the repository only where no other known one has its address.
    """
    from_repository = from_peers = 0
    others = {peer.host for peer in peers}
    for source, size in progress.received_from.items():
        alone = source.port == 0 and source.host == repository.host and source.host not in others
        if alone or source == repository:
            from_repository += size
        else:
            from_peers += size
    return Figures(from_repository, from_peers, progress.corrupt)
