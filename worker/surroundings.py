"""What every copy of a host needs: where bytes come from and go to, and who is told.

Owns the shapes alone, so that the parts that bring a copy can name them without knowing each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.swarm.session import Swarm

    from .bandwidth import Bandwidth
    from .fetching import Copy
    from .journal import Journal
    from .link import ServiceLink
    from .storage import Storage


class Keeper(Protocol):
    """Who is told of a copy."""

    async def copy_changed(self, copy: Copy, *, moved: bool) -> None:
        """Keep what is known of the copy now; `moved` if its state or reason changed, not only figures."""

    def copy_progressed(self, copy: Copy) -> None:
        """Bytes arrived."""


@dataclass(slots=True)
class Surroundings:
    """What every copy needs. `keeper` is set before the first copy is wanted."""

    swarm: Swarm
    storage: Storage
    journal: Journal
    link: ServiceLink
    bandwidth: Bandwidth
    clock: Clock
    keeper: Keeper = field(init=False)
