"""The announce endpoint: who else has, or fetches, some content. The second way to peers, after the orders.

Who asks is known by the certificate of its connection: there is no token that could be passed on. It answers only a
host that has the content, or is to have it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, HostId
from bitdew.wire import limits
from bitdew.wire.models import AnnounceReply

Locators = Callable[[ContentRoot, HostId], Awaitable[list[Endpoint]]]


class Announce:
    """Answers announces from the locators that the scheduler keeps."""

    def __init__(self, locators: Locators) -> None:
        """Nothing happens yet.

        Args:
            locators: Gives the endpoints of hosts that hold or fetch a content, without the asking host's, near ones
                first. It refuses a host that has nothing to do with the content.
        """
        self._locators = locators

    async def peers(self, root: ContentRoot, asking: HostId, repository: Endpoint) -> AnnounceReply:
        """Hosts first: the repository is the last resort of a swarm, not its first.

        Raises:
            UserError: `data.not-ordered`.
        """
        found = await self._locators(root, asking)
        return AnnounceReply(peers=[str(peer) for peer in [*found[: limits.PEERS - 1], repository]])
