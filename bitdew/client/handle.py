"""`Handle`: something of the service's in a program's hands.

Owns what data, jobs, deployments and machines have in common there: whose they are, and what was last seen of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from bitdew.core.ids import Uid

if TYPE_CHECKING:
    from .grid import BitDew


class Seen(Protocol):
    """What the service says of something that has an identity."""

    @property
    def uid(self) -> str: ...  # noqa: D102


View = TypeVar("View", bound=Seen)


class Handle(Generic[View]):
    """What was last seen of something of the service's, and the connection on which it is asked again.

    Attributes:
        view: What the service last said of it.
    """

    def __init__(self, grid: BitDew, view: View) -> None:
        self._grid = grid
        self.view = view

    @property
    def uid(self) -> Uid:
        """Its identity."""
        return Uid(self.view.uid)
