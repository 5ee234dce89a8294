"""Bytes put for jobs of one's own to read: few in one request, more by an upload.

Owns that what is there already is not sent, and that a request whose answer was lost finds what it has made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bitdew.core.errors import BitDewError, error
from bitdew.wire import models as m

from .connection import ADOPT_SECONDS
from .flow import passing, released
from .following import Patience
from .image import root_of
from .upload import uploaded
from .whole import is_small, read_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sending import Ask
    from .source import ByteSource

PATH = "/v1/job-inputs"


async def put_for_jobs(
    ask: Ask, source: ByteSource, label: str, patience: float, sending: Callable[[int, int], None] | None = None
) -> str:
    """The uid of the datum that the bytes of `source` are for jobs of the caller's; the source is closed.

    Args:
        ask: Calls the service.
        source: The bytes.
        label: What people call them.
        patience: Seconds that a service which is away is waited for.
        sending: Called with the bytes that are through, sent or not, and their total.

    Raises:
        BitDewError: `job.inputs-full`; as `BitDew.put`.
    """
    label = label.encode(errors="replace").decode()[:255]
    if is_small(source):
        return await _put_small(ask, source, label, patience)
    root, wish = await asyncio.to_thread(root_of, source), m.JobInputRequest(label=label, root="0" * 64, size=0)

    async def asking(method: str, path: str, reply: Any, *, body: Any = None, **more: Any) -> Any:
        nonlocal wish
        if path != "/v1/uploads":
            return await ask(method, path, reply, body=body, **more)
        # The one step in which this upload differs from a datum's.
        words = {name: getattr(body, name) for name in ("size", "fingerprint", "empty")}
        wish = m.JobInputRequest(label=label, root=root, **words)
        begun = await ask("POST", PATH, m.JobInputReply, body=wish)
        if begun.upload is None:
            raise _ThereAlready(_datum_of(begun))
        return m.UploadReply(upload=begun.upload, held=begun.held)

    try:
        async with uploaded(
            asking, source, "input", {}, disk=False, reading=None, sending=sending, patience=patience
        ) as upload:
            done = m.JobInputDone(root=upload.content.root)

            async def keep() -> str:
                reply = await ask("POST", f"{PATH}/{upload.uid}", m.JobInputReply, body=done, seconds=ADOPT_SECONDS)
                return _datum_of(reply)

            async def made() -> str | None:
                return (await ask("POST", PATH, m.JobInputReply, body=wish)).data

            return await upload.adopted(keep, made)
    except _ThereAlready as there:
        return there.uid


async def _put_small(ask: Ask, source: ByteSource, label: str, seconds: float) -> str:
    raw, root = await asyncio.to_thread(read_small, source)
    wish = m.JobInputRequest(label=label, root=root, size=len(raw), raw=raw)
    patience = Patience(seconds)
    await released()
    await passing(len(raw))
    while True:
        try:
            return _datum_of(await ask("POST", PATH, m.JobInputReply, body=wish))
        except BitDewError as fault:
            await patience.bear(fault)


def _datum_of(reply: m.JobInputReply) -> str:
    if reply.data is None:
        raise error("internal", "The service named no datum")
    return reply.data


class _ThereAlready(Exception):  # noqa: N818 (nothing went wrong)
    """The service has these bytes for jobs of the caller's."""

    def __init__(self, uid: str) -> None:
        super().__init__(uid)
        self.uid = uid
