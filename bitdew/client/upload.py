"""An upload from its beginning to a content that both sides agree on; taken back, or left to be gone on with.

Owns these steps, and the question whether the repository has the bytes already. What is made of the content is up to
whoever uploads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bitdew.core.content import sampled
from bitdew.core.errors import BitDewError, error
from bitdew.wire import limits
from bitdew.wire import models as m

from .reading import Reader
from .sending import COMPLETE_SECONDS, LONGEST_PAUSE, PAUSE, Sending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bitdew.core.content import Content

    from .sending import Ask
    from .source import ByteSource

    Progress = Callable[[int, int], None]

T = TypeVar("T")
_ADOPTED: Final = frozenset({"upload.not-found", "disk.name-taken"})
"""What a service says of an upload of which it made something."""
TAKE_BACK_SECONDS: Final = 5.0
"""Seconds for taking back an upload that failed; the service forgets it in time by itself."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload that is complete.

    Attributes:
        uid: Its identity.
        content: What the bytes are.
    """

    uid: str
    content: Content
    _complete: Callable[[], Awaitable[m.UploadDone]]
    _patience: float

    async def adopted(self, ask: Callable[[], Awaitable[T]], made: Callable[[], Awaitable[T | None]]) -> T:
        """The answer to `ask`, by which the service makes something of the upload: the last step.

        A service that vanishes meanwhile is asked again when it is back. If only its answer was lost, `made` finds what
        it has made.

        Raises:
            BitDewError: what the service says; `service.unreachable`, if it stays away.
        """
        now, pause, lost = asyncio.get_running_loop().time, PAUSE, False
        until = now() + self._patience
        while True:
            try:
                if lost:
                    await self._complete_again()
                return await ask()
            except BitDewError as fault:
                if lost and fault.key in _ADOPTED and (found := await made()) is not None:
                    return found
                if fault.key != "service.unreachable" or now() + pause > until:
                    raise
            lost = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _complete_again(self) -> None:
        """A service that has started again knows what came, and has to be told that it is all."""
        try:
            await self._complete()
        except BitDewError as fault:
            if fault.key != "input.invalid":  # it was told already
                raise


@contextlib.asynccontextmanager
async def uploaded(
    ask: Ask,
    source: ByteSource,
    name: str,
    choice: m.Choice,
    *,
    disk: bool,
    reading: Progress | None,
    sending: Progress | None,
    patience: float,
) -> AsyncIterator[Uploaded]:
    """The bytes of `source`, which is closed at the end, in the repository. The body makes something of them.

    What fails is taken back. What was interrupted, or lost its service for longer than `patience` seconds, stays there
    for a while: the same upload goes on where it stopped.

    Raises:
        BitDewError: as `Reader.identify` and `Sending.run`; `input.too-large`; what the service says.
    """
    async with Reader(source) as reader:
        if source.size > limits.LARGEST_DISK:
            why = f"it has {source.size} bytes, and {limits.LARGEST_DISK} are allowed"
            raise error("input.too-large", f"{source.label} is too large", why=why)
        asked = m.UploadRequest(
            name=name,
            size=source.size,
            disk=disk,
            attribute=choice,
            fingerprint=source.fingerprint,
            empty=reader.empty,
        )
        begun = await ask("POST", "/v1/uploads", m.UploadReply, body=asked)
        try:
            content = await _found(ask, reader, begun, reading)
            held = content is not None
            if content is None:
                content = await Sending(ask, reader, begun.upload, sending, patience).run()
            path, request = f"/v1/uploads/{begun.upload}/complete", m.CompleteRequest(root=content.root, held=held)
            complete = functools.partial(ask, "POST", path, m.UploadDone, body=request, seconds=COMPLETE_SECONDS)
            yield Uploaded(begun.upload, content, complete, patience)
        except BitDewError as fault:
            if fault.key != "service.unreachable":
                with contextlib.suppress(BitDewError):
                    await ask("DELETE", f"/v1/uploads/{begun.upload}", m.Nothing, seconds=TAKE_BACK_SECONDS)
            raise


async def _found(ask: Ask, reader: Reader, begun: m.UploadReply, reading: Progress | None) -> Content | None:
    """What the bytes are, if the repository has them already: then nothing is sent."""
    alike = [held.root for held in begun.held if await _is_like(reader, held)]
    if not alike:
        return None
    content = await reader.identify(reading)
    if content.root not in alike:
        return None
    request = m.CompleteRequest(root=content.root, held=True)
    path = f"/v1/uploads/{begun.upload}/complete"
    try:
        await ask("POST", path, m.UploadDone, body=request, seconds=COMPLETE_SECONDS)
    except BitDewError as fault:
        if fault.key != "data.not-found":
            raise
        return None  # it went meanwhile
    return content


async def _is_like(reader: Reader, held: m.HeldContent) -> bool:
    """Whether the bytes are those of `held` where it is sampled: what differs is mostly told by a few pieces."""
    tree = reader.tree
    for place, number in enumerate(sampled(tree.size, limits.SAMPLES)):
        if not tree.has(number):
            (piece,) = await asyncio.to_thread(reader.read, [(number, False)])
            tree.put(number, piece.root)
        if tree.root(number) != held.samples[32 * place : 32 * place + 32]:
            return False
    return True
