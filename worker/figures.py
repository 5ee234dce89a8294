"""Where the bytes of a copy came from, and how many pieces were wrong.

Owns the telling apart of the repository and everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def figures_of(progress: Progress, repository: Endpoint) -> Figures:
    """The figures of a transfer in a swarm. The repository is dialled, and dials nobody: whoever came is another."""
    from_repository = progress.received_from.get(repository, 0)
    return Figures(from_repository, sum(progress.received_from.values()) - from_repository, progress.corrupt)
