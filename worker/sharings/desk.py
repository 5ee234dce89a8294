"""What this host shares, told to its owner: what is offered, what is not and why.

Owns the verb `sharings` of the control socket, and what is said where no worker runs. Changing what is shared goes the
way of all settings: `adjusting.change_limits`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from bitdew.clock import SystemClock
from bitdew.wire.model import Model, Sentence

from ..control import Verb, ask
from ..settings import WorkerSettings
from .declaration import MOST, trial_of
from .known import HYPERVISORS
from .offers import Offers

if TYPE_CHECKING:
    from .offers import Offer
    from .report import Sharings

PATIENCE_SECONDS: Final = 25.0
"""How long an answer waits for trials: what is not tried by then is said to be under way."""
VERB: Final = "sharings"


class SharingsQuestion(Model):
    """What to ask about sharings."""

    again: bool = False
    """Whether everything is tried again first."""


class SharingView(Model):
    """One sharing of a host."""

    name: str
    kind: Literal["application", "library", "hypervisor"]
    version: str
    """"" if it is not offered."""
    offered: bool
    why: Sentence
    """Why it is not offered; "" if it is."""
    programs: dict[str, str]
    """What jobs may run of it: paths by names."""
    command: list[str]
    """What is asked for its version."""
    tried: datetime | None


class SharingsView(Model):
    """All sharings of a host."""

    running: bool
    name: str
    home: str
    sharings: Annotated[list[SharingView], Field(max_length=MOST + len(HYPERVISORS))]


class SharingDesk:
    """Answers the owner of a worker that runs."""

    def __init__(self, settings: WorkerSettings, sharings: Sharings) -> None:
        self._settings = settings
        self._sharings = sharings
        self.verbs: Final = {VERB: Verb(SharingsQuestion, self._answer)}

    async def _answer(self, asked: SharingsQuestion) -> SharingsView:
        offers = self._sharings.offers
        if asked.again:
            offers.ask_again()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await offers.settled()
        hypervisors = [
            SharingView(
                name=found.sharing.name,
                kind="hypervisor",
                version=found.sharing.version,
                offered=True,
                why="",
                programs={},
                command=[],
                tried=None,
            )
            for found in self._sharings.found.values()
        ]
        return _view(self._settings, [*hypervisors, *_told(offers)], running=True)


async def show_sharings(home: Path, *, again: bool = False, settings: WorkerSettings | None = None) -> SharingsView:
    """What the worker in `home` shares. If it does not run, what it would share is tried here.

    `settings` says what that is; those that are kept in `home` by default.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    told = await ask(home, VERB, SharingsQuestion(again=again), SharingsView)
    if told is not None:
        return told
    if settings is None:
        settings = await asyncio.to_thread(WorkerSettings.load, home)
    offers = Offers(SystemClock(), settings.sharings)
    await offers.settle()
    return _view(settings, _told(offers), running=False)


def _view(settings: WorkerSettings, sharings: list[SharingView], *, running: bool) -> SharingsView:
    return SharingsView(running=running, name=settings.name, home=str(settings.home), sharings=sharings)


def _told(offers: Offers) -> list[SharingView]:
    return [_line(offer) for _, offer in sorted(offers.offers.items())]


def _line(offer: Offer) -> SharingView:
    sharing, finding = offer.sharing, offer.finding
    trial = trial_of(offer.name, offer.declared)
    why = "" if sharing else finding.why if finding else "it is being tried"
    return SharingView(
        name=offer.name,
        kind=trial.kind,
        version=sharing.version if sharing else "",
        offered=sharing is not None,
        why=why,
        programs={name: str(path) for name, path in sharing.programs.items()} if sharing else {},
        command=["import", trial.command[-1]] if offer.declared.python else list(trial.command),
        tried=offer.tried,
    )
