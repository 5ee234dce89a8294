"""Adding a disk in two steps, so that the second, with which it comes to be, can be timed alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from bitdew.core.attribute import Attribute
from bitdew.core.content import ContentHasher
from bitdew.core.data import ImageRecord
from bitdew.core.ids import new_uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.trust.identity import Identity
from bitdew.trust.records import sign_record
from bitdew.trust.tls import client_context
from bitdew.wire.models import DiskRequest, DiskView, RecordModel, UploadDone, UploadReply, UploadRequest
from bitdew.wire.transport import Transport

CHUNK = 1024 * 1024


class Publisher:
    """Sends disks to one service. An async context manager."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._transport = Transport(identity.url, client_context(identity.ca, identity.identity))

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def send(self, content: bytes, name: str, wish: Attribute | int) -> DiskRequest:
        """Send the bytes; the request that makes a disk of them. `wish` may be a number of copies alone."""
        begun = UploadRequest(name=name, size=len(content))
        upload = (await self._transport.call("POST", "/v1/uploads", UploadReply, body=begun)).upload
        await self._transport.call("PUT", f"/v1/uploads/{upload}", UploadDone, body=_chunks(content), seconds=None)
        signed = await asyncio.to_thread(self._signed, content, name)
        attribute = wish if isinstance(wish, Attribute) else Attribute(replica=wish)
        return DiskRequest(upload=upload, record=signed, attribute=attribute.to_dict())

    async def commit(self, request: DiskRequest) -> DiskView:
        """Make the disk."""
        return await self._transport.call("POST", "/v1/disks", DiskView, body=request)

    def _signed(self, content: bytes, name: str) -> RecordModel:
        hasher = ContentHasher(len(content))
        hasher.update(content)
        found, now = hasher.finish(), datetime.now(UTC)
        record = ImageRecord(
            uid=new_uid(),
            name=name,
            root=found.root,
            info_hash=build_metainfo(found).info_hash,
            size=found.size,
            format="raw",
            os="",
            arch="x86_64",
            version="1",
            publisher=self._identity.subject.name,
            issued=now,
            expires=now + timedelta(days=1),
        )
        if self._identity.signing is None:
            raise RuntimeError("the operator of a new service can sign")
        return RecordModel.of(sign_record(record, self._identity.signing))


def random_bytes(size: int, seed: int) -> bytes:
    """The same bytes for the same seed; nothing can compress or share them."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - no secret


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]
