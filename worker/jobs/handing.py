"""Handing over what a run left: each output is uploaded as any datum is, to the place that its run has for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bitdew.client.image import FileSource
from bitdew.client.upload import uploaded
from bitdew.core.errors import BitDewError, error
from bitdew.wire.models import OutputKept, OutputModel, OutputRequest

if TYPE_CHECKING:
    from ..link import ServiceLink

PATIENCE: Final = 600.0
"""Seconds for which a service that is away is waited for."""
KEEP_SECONDS: Final = 120.0


async def hand_over(link: ServiceLink, run: str, outputs: Sequence[OutputModel], places: Mapping[str, Path]) -> None:
    """Upload these outputs of `run`. What was handed over before is not sent again.

    Raises:
        BitDewError: what the service says; `service.unreachable`, if it stays away; `disk.changed`.
    """
    for one in outputs:
        await _hand_over(link, run, one, places[one.path])


async def _hand_over(link: ServiceLink, run: str, output: OutputModel, place: Path) -> None:
    request, at = OutputRequest(path=output.path), f"/v1/runs/{run}/outputs"

    async def ask(method: str, path: str, reply: Any, *, body: Any = None, **more: Any) -> Any:
        if path == "/v1/uploads":  # the one step in which an output's upload differs from a datum's
            path, body = at, request
        return await link.call(method, path, reply, body=body, **more)

    source = await asyncio.to_thread(FileSource, place)
    try:
        async with uploaded(
            ask, source, "output", {}, disk=False, reading=None, sending=None, patience=PATIENCE
        ) as upload:
            if upload.content.root != output.root:
                raise error("disk.changed", f"{output.path} changed after it was claimed")
            path = f"{at}/{upload.uid}"

            async def keep() -> OutputKept:
                return await link.call("POST", path, OutputKept, body=request, seconds=KEEP_SECONDS)

            async def kept() -> OutputKept | None:
                return None

            await upload.adopted(keep, kept)
    except BitDewError as fault:
        if fault.key != "disk.name-taken":  # it was handed over, and only the answer was lost
            raise
