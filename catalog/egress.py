"""What leaves the repository over HTTPS: in which pace, and to whom.

Owns that all of it together keeps one rate, and that help for swarms goes to few hosts at a time. What leaves by swarm
is libtorrent's matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bitdew.core.errors import error
from bitdew.core.ids import ContentRoot, HostId
from bitdew.wire.pacing import Pace
from bitdew.wire.server import FileReply

from .permits import Permits
from .repository import Repository

Entitled = Callable[[ContentRoot, HostId], Awaitable[None]]


class Egress:
    """Answers with the repository's files."""

    def __init__(self, repository: Repository, pace: Pace, permits: Permits, entitled: Entitled) -> None:
        """`entitled` refuses a host that neither has some content nor is to have it."""
        self._repository = repository
        self._pace = pace
        self._entitled = entitled
        self.permits = permits

    async def content(self, root: ContentRoot) -> FileReply:
        """Some content, for whoever wants it by HTTPS.

        Raises:
            UserError: `data.not-found`.
            HostError: `storage.failed`.
        """
        return FileReply(await self._repository.file_of(root), self._count(root), self._pace)

    async def blocks(self, root: ContentRoot) -> FileReply:
        """The hashes of some content's blocks, for a host that may have most of these. They are no bytes of it.

        Raises:
            UserError: `data.not-found`; ServiceError: `help.busy`, as long as they are not known.
        """
        return FileReply(await self._repository.blocks.file_of(await self._repository.content(root)), pace=self._pace)

    async def help(self, root: ContentRoot, host: HostId) -> FileReply:
        """The same for a host whose swarm can't go on; few at a time get it, and the others fetch from those.

        Raises:
            UserError: `data.not-ordered`, `data.not-found`.
            ServiceError: `help.busy`, with the seconds after which to ask again.
            HostError: `storage.failed`.
        """
        await self._entitled(root, host)
        path = await self._repository.file_of(root)
        wait = self.permits.ask(root, host)
        if wait:
            why = "other hosts take what is missing now, and pass it on in the swarm"
            raise error("help.busy", f"{root[:16]}… can't be had by HTTPS now", why=why, root=root, retry_after=wait)
        return FileReply(path, self._count(root), self._pace, lambda: self.permits.prolong(root, host))

    def _count(self, root: ContentRoot) -> Callable[[int], None]:
        return lambda size: self._repository.count_sent(root, size)
