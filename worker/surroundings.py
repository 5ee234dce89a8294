"""What every copy of a host needs: where bytes come from and go to, and who is told.

Owns the shapes alone, so that the parts that bring a copy can name them without knowing each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from bitdew.core.clock import Clock
    from bitdew.swarm.session import Swarm

    from .bandwidth import Bandwidth
    from .entries import PlacementEntry
    from .fetching import Copy
    from .journal import Journal
    from .link import ServiceLink
    from .parking import Parking
    from .storage import Storage
    from .turns import Turns


class Keeper(Protocol):
    """Who is told of a copy."""

    async def copy_changed(self, copy: Copy, *, moved: bool) -> None:
        """Keep what is known of the copy now; `moved` if its state or reason changed, not only figures."""

    def copy_progressed(self, copy: Copy) -> None:
        """Bytes arrived."""

    def copies_wait(self, roots: Collection[str]) -> None:
        """These contents still wait for their turn."""

    async def copy_evicted(self, root: str) -> None:
        """Nothing of a content that failed is here any more."""


class Room(Protocol):
    """Who has room for a copy."""

    async def admit(self, root: str, size: int) -> None:
        """Keep room for all `size` bytes of `root`. Raises HostError: `storage.full`, `storage.failed`."""


class Witness(Protocol):
    """Who is told what becomes of data here, and need not know why."""

    def changed(self, entry: PlacementEntry) -> None:
        """A datum's state or order changed, or is known from an earlier start."""

    async def leaving(self, entry: PlacementEntry) -> None:
        """Return when the datum's copy may go, within a bounded time."""


@dataclass(slots=True)
class Surroundings:
    """What every copy needs. `keeper`, `room`, `parking` and `turns` are set before the first copy is wanted.

    Attributes:
        moved: The swarm listens at another port than before, where those who knew this host do not find it.
    """

    swarm: Swarm
    storage: Storage
    journal: Journal
    link: ServiceLink
    bandwidth: Bandwidth
    clock: Clock
    moved: bool = False
    keeper: Keeper = field(init=False)
    room: Room = field(init=False)
    parking: Parking = field(init=False)
    turns: Turns = field(init=False)
