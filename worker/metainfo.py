"""The .torrent of a content: from the disk, or else from the service.

Owns where it is looked for. However its bytes come, a copy is verified by it and seeded with it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot
from bitdew.swarm.metainfo import Metainfo, read_metainfo
from bitdew.wire.models import MetainfoReply

from .link import patiently

if TYPE_CHECKING:
    from .link import ServiceLink
    from .storage import Storage

log = structlog.get_logger(__name__)


async def metainfo_of(root: str, size: int, storage: Storage, link: ServiceLink) -> Metainfo:
    """The metainfo of the content `root` of `size` bytes, asked for however long the service is away.

    Raises:
        UserError: `input.invalid`, if it contradicts `size` or itself; what the service says.
        HostError: `storage.full`, `storage.failed`.
    """
    expected = ContentRoot(root)
    encoded = await asyncio.to_thread(storage.read_metainfo, root)
    if encoded is not None:
        try:
            return _checked(read_metainfo(encoded, expected=expected), size)
        except BitDewError as fault:
            log.warning("a stored .torrent is damaged", root=root, why=str(fault))
    path = f"/v1/metainfo/{root}"
    reply = await patiently(lambda: link.call("GET", path, MetainfoReply))
    metainfo = _checked(read_metainfo(reply.metainfo, expected=expected), size)
    await asyncio.to_thread(storage.write_metainfo, root, metainfo.encoded)
    return metainfo


def _checked(metainfo: Metainfo, size: int) -> Metainfo:
    content = metainfo.content
    if content.size != size:
        why = f"the order says {size} bytes, the metainfo {content.size}"
        raise error("input.invalid", f"The order for {content.root[:16]}… contradicts its metainfo", why=why)
    return metainfo
