"""The repository without files: it has the bytes that it was given, and seeds them, as far as anyone can tell."""

from __future__ import annotations

from collections.abc import Mapping

from bitdew.core.ids import ContentRoot

from ...catalog.repository import Repository


class SimulatedRepository(Repository):
    """Knows which contents are there; it outlives the services that use it, as a folder does."""

    def __init__(self) -> None:  # (nothing of a real one is needed: neither a folder nor a swarm)
        self.contents: set[ContentRoot] = set()

    async def open(self, living: Mapping[tuple[ContentRoot, int], bool]) -> list[ContentRoot]:
        """The contents that are not there, or not as they should be."""
        return [root for (root, _size), good in living.items() if not good or root not in self.contents]

    def holds(self, root: ContentRoot, size: int) -> bool:  # noqa: ARG002 (a content has one size here)
        """Whether the bytes are there."""
        return root in self.contents

    async def delete(self, root: ContentRoot) -> None:
        """Free the bytes."""
        self.contents.discard(root)

    async def withdraw(self, root: ContentRoot) -> None:
        """Seed them no more."""

    def egress(self, root: ContentRoot) -> int:  # noqa: ARG002
        """What it gave out is counted by the links here."""
        return 0
