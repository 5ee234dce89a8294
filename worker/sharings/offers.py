"""What the volunteer shares, tried again and again: what holds is offered, what vanished is withdrawn.

Owns which of the declared sharings are offered now, and when each is tried next. Files that a trial depends on are
looked at every few seconds, which costs some calls of `stat`; the trial itself is repeated when one of them changed,
and every ten minutes. A host that shares nothing does nothing here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import error

from ..stamps import signature
from .declaration import Declaration
from .probing import Finding, Sharing, probe

if TYPE_CHECKING:
    from datetime import datetime

    from bitdew.core.clock import Clock

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""How often the files are looked at."""
AGAIN_SECONDS: Final = 600.0
"""How long a finding is taken for granted while its files stay the same."""
SLOW_SECONDS: Final = 60.0
"""When one that took too long is tried again."""
TRIALS: Final = 2
"""Programs that are asked at a time: the host is its owner's."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One declared sharing, and what it came to.

    Attributes:
        name: What it is called.
        declared: How it is tried.
        finding: What the last trial found; None before the first.
        sharing: What is offered; None if nothing is.
        tried: When that trial ended, UTC; None before the first.
    """

    name: str
    declared: Declaration
    finding: Finding | None = None
    sharing: Sharing | None = None
    tried: datetime | None = None

    def __str__(self) -> str:
        if self.sharing is not None:
            return f"{self.sharing.name} {self.sharing.version} is offered"
        return f"{self.name} is not offered" + (f": {self.finding.why}" if self.finding else "")


Told = Callable[[Offer], None]


class Offers:
    """The declared sharings of one host: `settle` before anything is announced, then `run`.

    Attributes:
        offers: Each by its name.
    """

    def __init__(self, clock: Clock, declared: Mapping[str, Declaration], tell: Told | None = None) -> None:
        """`tell` is called in the event loop with each offer that began, ended or has another version or programs."""
        self.offers: dict[str, Offer] = {}
        self._clock = clock
        self._tell = tell or (lambda _offer: None)
        self._due: dict[str, float] = {}
        self._stirred = asyncio.Event()
        self._settled = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.declare(declared)

    @property
    def sharings(self) -> list[Sharing]:
        """What is offered now, by name."""
        return [offer.sharing for _, offer in sorted(self.offers.items()) if offer.sharing is not None]

    def programs(self, name: str) -> Mapping[str, Path]:
        """What jobs may run of the sharing `name`: whole paths by the programs' names.

        Raises:
            HostError: `sharing.missing`, if it is not offered.
        """
        offer = self.offers.get(name)
        if offer is None or offer.sharing is None:
            why = "its volunteer does not share it" if offer is None else offer.finding.why if offer.finding else ""
            raise error("sharing.missing", f"{name} is not offered on this host", why=why)
        return MappingProxyType(dict(offer.sharing.programs))

    def declare(self, declared: Mapping[str, Declaration]) -> None:
        """Share these from now on. What is no more among them is withdrawn at once, what is new is tried soon."""
        gone = [offer for name, offer in self.offers.items() if name not in declared]
        for offer in gone:
            del self.offers[offer.name]
            self._due.pop(offer.name, None)
            if offer.sharing is not None:
                self._tell(Offer(offer.name, offer.declared))
        for name, one in declared.items():
            known = self.offers.get(name)
            if known is not None and known.declared == one:
                continue
            self.offers[name] = Offer(name, one)
            self._due[name] = self._clock.monotonic()
            if known is not None and known.sharing is not None:
                self._tell(self.offers[name])
        self._stir()

    def ask_again(self) -> None:
        """Have everything tried again."""
        self._due = dict.fromkeys(self.offers, self._clock.monotonic())
        self._stir()

    async def settled(self) -> None:
        """Return when nothing is left to be tried now: `run` does that."""
        await self._settled.wait()

    def _stir(self) -> None:
        self._settled.clear()
        self._stirred.set()

    def _overdue(self) -> list[str]:
        now = self._clock.monotonic()
        return [name for name, at in self._due.items() if at <= now]

    async def settle(self) -> None:
        """Try everything that is due; return when that is done."""
        async with self._one_at_a_time:
            await self._try(self._overdue())
            if not self._overdue():
                self._settled.set()

    async def run(self) -> None:
        """Keep the offers true, until cancelled."""
        while True:
            self._stirred.clear()
            await self.settle()
            if not self.offers:
                await self._stirred.wait()
                continue
            await self._rest()
            await self._look()

    async def _rest(self) -> None:
        """Until it is time to look at the files, or something is to be tried now."""
        waits = [asyncio.ensure_future(self._clock.sleep(LOOK_SECONDS)), asyncio.ensure_future(self._stirred.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _look(self) -> None:
        """Make due what depends on a file that changed."""
        known = {name: offer.finding for name, offer in self.offers.items() if offer.finding is not None}
        now_there = await asyncio.to_thread(_signatures, [(name, finding.files) for name, finding in known.items()])
        for name, finding in known.items():
            if name in self.offers and now_there[name] != finding.signature:
                self._due[name] = self._clock.monotonic()

    async def _try(self, names: Iterable[str]) -> None:
        tried = {name: self.offers[name] for name in names if name in self.offers}
        if not tried:
            return
        loop, given_up = asyncio.get_running_loop(), threading.Event()
        threads = ThreadPoolExecutor(TRIALS, thread_name_prefix="sharing")
        trials = {
            name: loop.run_in_executor(threads, partial(probe, name, offer.declared, given_up=given_up))
            for name, offer in tried.items()
        }
        try:
            await asyncio.wait(trials.values())
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait(trials.values())  # until their programs are gone, a twentieth of a second later
            raise
        finally:
            threads.shutdown(wait=False)
        for name, trial in trials.items():
            self._found(tried[name], trial.result())

    def _found(self, offer: Offer, finding: Finding) -> None:
        current = self.offers.get(offer.name)
        if current is None or current.declared != offer.declared:
            return  # its volunteer said otherwise meanwhile
        before = offer.finding
        kept = finding.passing and offer.sharing is not None and before is not None and not before.passing
        sharing = offer.sharing if kept else finding.sharing  # a busy host is asked once more before it withdraws
        new = Offer(offer.name, offer.declared, finding, sharing, self._clock.now())
        self.offers[offer.name] = new
        seconds = LOOK_SECONDS if kept else SLOW_SECONDS if finding.passing else AGAIN_SECONDS
        self._due[offer.name] = self._clock.monotonic() + seconds
        if before is None or sharing != offer.sharing:
            self._tell(new)


def _signatures(of: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, object]:
    return {name: signature(files) for name, files in of}
