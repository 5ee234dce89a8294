"""Small data, put with all their bytes in one request.

Owns that a request whose answer was lost is not taken for refused: it is asked again, and what it has made is found.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError
from bitdew.wire import limits
from bitdew.wire import models as m
from bitdew.wire.transport import is_nobody_there

from .flow import passing, released
from .following import Patience

if TYPE_CHECKING:
    from bitdew.core.data import Kind
    from bitdew.core.ids import ContentRoot

    from .data import DataCalls
    from .source import ByteSource


async def put_whole(
    grid: DataCalls, source: ByteSource, name: str, choice: m.Choice, kind: Kind, *, waiting: bool
) -> m.DataView:
    """Make the bytes of `source`, which are few, the datum `name`; the source is closed.

    With `waiting`, a service that is not there when this begins is waited for, as one is that vanishes later.

    Raises:
        BitDewError: as `BitDew.put`.
    """
    raw, root = await asyncio.to_thread(read_small, source)
    request = m.WholeRequest(name=name, root=root, raw=raw, kind=kind, attribute=choice)
    patience, lost = Patience(grid.patience), False
    await released()
    await passing(len(raw))
    while True:
        try:
            async with grid.turns:
                return (await grid.call("POST", "/v1/whole", m.AnyDatum, body=request)).root
        except BitDewError as fault:
            if lost and fault.key == "disk.name-taken":
                there = await grid.datum(name)
                if there.root == root and not there.awaited:
                    return there
            if not (waiting or lost) and is_nobody_there(fault):
                raise
            await patience.bear(fault)
            lost = True


def is_small(source: ByteSource) -> bool:
    """Whether all of it may go in one request."""
    return source.size <= limits.SMALL


def read_small(source: ByteSource) -> tuple[bytes, ContentRoot]:
    """All of it, and what that is; it is closed. Blocks. Raises what its reading raises."""
    try:
        raw = source.read_at(0, source.size) if source.size else b""
        hasher = ContentHasher(len(raw))
        hasher.update(raw)
        content = hasher.finish()
        source.check_unchanged()
        return raw, content.root
    finally:
        source.close()
