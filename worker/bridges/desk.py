"""The bridges and plug-ins of a host, shown and changed by its owner, whether the worker runs or not.

Owns the verb `bridges` of the control socket, and the same at rest. `worker.json` is read again before it is written,
and written before anything changes. It tells nobody of copies itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, ValidationError

from bitdew.core.errors import error
from bitdew.wire import limits
from bitdew.wire.model import Count, ErrorView, Model, NameText, Sentence

from ..adjusting import told_or_kept
from ..configuration.layers import Layers
from ..configuration.saying import with_names
from ..control import Verb, ask
from ..plugins.selection import Selection
from ..settings import WorkerSettings, save_said
from .making import BRIDGE
from .settings import Bridge

if TYPE_CHECKING:
    from ..limits import Limits
    from ..plugins.audience import Audience, Member

VERB: Final = "bridges"


class ListenerLine(Model):
    """One who is told of this host's copies."""

    name: str
    kind: str
    """xwhep, webhook or command; plug-in for one that is installed."""
    target: Sentence
    """Whom it leads to."""
    only: Selection
    state: str
    """at rest, starting, told, telling, failing or broken."""
    known: Count
    """Copies that it has taken."""
    waiting: Count
    """Copies that it is still to be told of, or that are still to be withdrawn."""
    last: datetime | None
    """When it took something last."""
    reason: ErrorView | None
    """What went wrong last, as long as that is not over."""
    remark: Sentence
    """What else its owner should know."""


class BridgesChange(Model):
    """What to change: bridges to set up, or to put in another's place, by name; and those to take away."""

    add: dict[NameText, Bridge] = Field(default_factory=dict, max_length=limits.BRIDGES)
    remove: Annotated[list[NameText], Field(max_length=limits.BRIDGES)] = Field(default_factory=list)


class BridgesView(Model):
    """Everybody who is told of this host's copies."""

    running: bool
    bridges: list[ListenerLine]
    plugins: list[ListenerLine]
    """Plug-ins that are installed; none where no worker runs that would have looked."""


class BridgeDesk:
    """Answers the owner of a worker that runs."""

    def __init__(self, audience: Audience, limits: Limits) -> None:
        """`limits` has the settings in force."""
        self._audience = audience
        self._limits = limits
        self.verbs: Final = {VERB: Verb(BridgesChange, self.change)}

    async def change(self, change: BridgesChange) -> BridgesView:
        """Keep `change` and put it into force; who is told now.

        Raises:
            UserError: `bridge.not-found`, `input.invalid`. Nothing is changed then.
            HostError: `storage.failed`.
        """
        in_force = self._limits
        async with in_force.writing:
            if change != BridgesChange():
                new = changed(in_force.settings, change)
                await asyncio.to_thread(keep, new.home, change, in_force.settings)
                in_force.settings = new
                self._audience.lend(new)
        return self.view()

    def view(self) -> BridgesView:
        """Who is told now, and how that goes."""
        members = self._audience.members.values()
        told = {member.listener.name: _line(member) for member in members if member.listener.kind == BRIDGE}
        asked = self._limits.settings.bridges
        return BridgesView(
            running=True,
            bridges=_sorted(told.get(name) or _untold(name, bridge, "starting") for name, bridge in asked.items()),
            plugins=_sorted(_line(member) for member in members if member.listener.kind != BRIDGE),
        )


def _line(member: Member) -> ListenerLine:
    told, listener = member.teller.told, member.listener
    bridge: Bridge | None = listener.about[0] if isinstance(listener.about, tuple) else None
    return ListenerLine(
        name=listener.name,
        kind=bridge.kind if bridge else listener.kind,
        target=bridge.target[: limits.TEXT] if bridge else "",
        only=listener.selection,
        state=told.state,
        known=told.known,
        waiting=told.waiting,
        last=told.last,
        reason=told.reason,
        remark=member.teller.remark,
    )


def _untold(name: str, bridge: Bridge, state: str) -> ListenerLine:
    """A bridge that nobody was told by yet."""
    return ListenerLine(
        name=name,
        kind=bridge.kind,
        target=bridge.target[: limits.TEXT],
        only=bridge.only,
        state=state,
        known=0,
        waiting=0,
        last=None,
        reason=None,
        remark="",
    )


def _sorted(lines: Iterable[ListenerLine]) -> list[ListenerLine]:
    return sorted(lines, key=lambda line: line.name)


def changed(settings: WorkerSettings, change: BridgesChange) -> WorkerSettings:
    """`settings` with `change` in them.

    Raises:
        UserError: `bridge.not-found`; `input.invalid`, if there would be more than a host may have.
    """
    bridges = dict(settings.bridges)
    for name in change.remove:
        if bridges.pop(name, None) is None:
            raise error("bridge.not-found", f"{settings.name} has no bridge {name}", name=name)
    bridges |= change.add
    try:
        return WorkerSettings.model_validate({**settings.model_dump(), "bridges": bridges, "home": settings.home})
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        raise error("input.invalid", "So many bridges are impossible", why=first["msg"], field="bridges") from None


def keep(home: Path, change: BridgesChange, otherwise: WorkerSettings | None = None) -> WorkerSettings:
    """Write `change` into the settings that are kept in `home`; what stands there now. Blocks.

    `otherwise` is what to write it into if nothing is kept there.

    Raises:
        UserError: `profile.missing`, `bridge.not-found`, `input.invalid`.
        HostError: `storage.failed`.
    """
    kept = Layers.kept(home, otherwise)
    changed(kept.settings(), change)
    new = kept.saying(with_names(kept, "bridges", change.add, change.remove))
    settings = new.settings()
    if change.add or change.remove:
        save_said(home, new.said.values)
    return settings


def view_at_rest(settings: WorkerSettings) -> BridgesView:
    """The bridges of a worker that does not run."""
    lines = _sorted(_untold(name, bridge, "at rest") for name, bridge in settings.bridges.items())
    return BridgesView(running=False, bridges=lines, plugins=[])


async def change_bridges(home: Path, change: BridgesChange) -> BridgesView:
    """Change the bridges of the worker in `home`, at once if it runs, or show them if nothing is to change.

    Raises:
        UserError: `profile.missing`, `bridge.not-found`, `input.invalid`. Nothing is changed then.
        HostError: `worker.unreachable`, `storage.failed`.
    """

    async def tell() -> BridgesView | None:
        told = await ask(home, VERB, change, BridgesView)
        if told is None and change == BridgesChange():
            return view_at_rest(await asyncio.to_thread(WorkerSettings.load, home))
        return told

    return await told_or_kept(home, tell, lambda: view_at_rest(keep(home, change)))
