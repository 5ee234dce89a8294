"""`BlockingHandle`: the twin of `Handle`, called through a portal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from bitdew.client.handle import Handle
    from bitdew.core.ids import Uid

    from .portal import Portal

View = TypeVar("View")
Twin = TypeVar("Twin", bound="Handle[Any]")


class BlockingHandle(Generic[Twin, View]):
    """What data, jobs, deployments and machines have in common without asyncio.

    Attributes:
        twin: What it stands for, for use inside of the loop.
    """

    def __init__(self, portal: Portal, twin: Twin) -> None:
        self._portal = portal
        self.twin = twin

    @property
    def view(self) -> View:
        """What the service last said of it."""
        view: View = self.twin.view
        return view

    @property
    def uid(self) -> Uid:
        """Its identity."""
        return self.twin.uid
