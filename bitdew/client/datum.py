"""`Datum`: one datum in a program's hands, to follow, read, change and end.

Owns no state but what was last seen of it: every answer is the service's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bitdew.core.attribute import Attribute
from bitdew.core.data import Kind
from bitdew.core.ids import ContentRoot
from bitdew.wire import models as m

from . import following, streaming
from .handle import Handle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .events import Event


class Datum(Handle[m.DataView]):
    """A datum, as `Dew.put`, `Dew.find` and `Dew.search` give it.

    What it is never changes; what is said of its copies does: `refresh` looks again.

    Attributes:
        view: What the service last said of it.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return self.view.name

    @property
    def root(self) -> ContentRoot:
        """Its content's identity."""
        return ContentRoot(self.view.root)

    @property
    def size(self) -> int:
        """Its bytes; of a folder, those of its archive."""
        return self.view.size

    @property
    def is_folder(self) -> bool:
        """Whether it comes back as a folder."""
        return self.view.kind is Kind.FOLDER

    @property
    def attribute(self) -> Attribute:
        """Its wishes, as they were last seen."""
        return Attribute.from_dict(self.view.attribute)

    def __repr__(self) -> str:
        return f"<Datum {self.name}: {self.size} bytes, {self.view.held} held>"

    # Following ------------------------------------------------------------------------------------------------------

    async def refresh(self) -> m.DataView:
        """Look again; what is so now. Raises UserError `data.not-found`."""
        self.view = await self._grid.datum(self.uid)
        return self.view

    async def where(self) -> m.WhereReply:
        """Where its copies are. Raises UserError `data.not-found`."""
        return await self._grid.where(self.uid)

    async def explain(self) -> m.ExplainReply:
        """Why its copies are where they are, and what happens next. Raises UserError `data.not-found`."""
        return await self._grid.explain(self.uid)

    def events(self) -> AsyncGenerator[Event]:
        """What is so of its copies now, then what happens to them, until its life ends.

        Progress is told by whole percents. A copy that passes two states at once is told in the last: of `Dew.events`
        none is missed.

        Raises:
            BitDewError: `data.not-found`; `service.unreachable`, if the service is away for longer than `patience`.
        """
        return following.happenings(self._grid, self.uid)

    async def held(self, replicas: int | None = None) -> m.WhereReply:
        """Return once `replicas` copies are verified and held, or as many as are wanted. Bound it by `asyncio.timeout`.

        Raises:
            BitDewError: `data.not-found`, if its life ends before; as `events`.
        """
        return await following.held(self._grid, self.uid, replicas)

    # Bytes ----------------------------------------------------------------------------------------------------------

    async def get(self, path: str | Path | None = None, *, force: bool = False) -> Path:
        """Bring its bytes to `path`; where they are then. As `Dew.get`."""
        return (await self._grid.get(self.uid, Path(path or self.name), force=force)).path

    async def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Its bytes from `start` up to, not including, `end`: all by default, at most 64 MiB, verified.

        Raises:
            BitDewError: `data.not-found`, `data.nowhere`, `input.invalid`, `input.too-large`, `swarm.corrupt`,
                `swarm.stalled`.
        """
        return await self._grid.read(self.uid, start, self.size if end is None else end)

    def stream(self, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Its bytes in order as they come, verified, however many they are. Raises what `read` does."""
        return streaming.stream(self._grid, self.uid, start, end)

    # Changing -------------------------------------------------------------------------------------------------------

    async def change(self, attribute: Attribute | str) -> None:
        """Give it other wishes, or the attribute of that name. Raises `data.not-found`, `attribute.…`."""
        await self._grid.choose(self.uid, attribute)
        await self.refresh()

    async def delete(self) -> None:
        """End its life everywhere. Raises UserError `data.not-found`."""
        await self._grid.remove(self.uid)
