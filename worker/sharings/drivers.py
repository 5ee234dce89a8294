"""The hypervisors of this host, tried at the start and again while the worker runs.

Owns which of them are announced. A driver that was usable once stays known for the machines that it runs, also when its
program vanishes: then it is withdrawn, and comes after all others. Its programs are looked at every few seconds; the
driver itself is asked when one of them changed, when it made a machine or started one in vain, and every ten minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import structlog

from ..stamps import Signature, signature

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Fingerprint, Hypervisor

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""How often the programs of hypervisors are looked at."""
AGAIN_SECONDS: Final = 600.0
"""How often every driver is asked again."""
DOUBT_SECONDS: Final = 60.0
"""How often at most one is asked that failed to do something; and when one is asked again that was just withdrawn."""
Told = Callable[[str, str], None]


class Drivers:
    """The drivers that the volunteer allows: `probe` before anything is announced, then `run`.

    Attributes:
        hypervisors: Those that are, or were, usable, by name: the announced first, then as they were handed in.
        found: What each of the announced is here.
    """

    def __init__(self, clock: Clock, tell: Told) -> None:
        """`tell` is called with the name and the news of each that comes, goes or changes after the start."""
        self.hypervisors: dict[str, Hypervisor] = {}
        self.found: dict[str, Fingerprint] = {}
        self._clock = clock
        self._tell = tell
        self._all: list[Hypervisor] = []
        self._known: dict[str, tuple[tuple[str, ...], Signature]] = {}
        self._asked: dict[str, float] = {}
        self._withdrawn: set[str] = set()

    async def probe(self, drivers: Iterable[Hypervisor]) -> None:
        """Try each of `drivers`; one that fails is not announced."""
        self._all = list(drivers)
        await self._ask(self._all)

    async def run(self) -> None:
        """Keep what is announced true, until cancelled. Who has no driver waits for nothing."""
        due = self._clock.monotonic() + AGAIN_SECONDS
        while self._all:
            watched = any(found.programs for found in self.found.values()) or len(self.hypervisors) > len(self.found)
            await self._clock.sleep(LOOK_SECONDS if watched else AGAIN_SECONDS)
            if self._clock.monotonic() >= due:
                due = self._clock.monotonic() + AGAIN_SECONDS
                changed = self._all
            else:
                changed = await asyncio.to_thread(self._changed)
                changed += [driver for driver in self._all if self._is_doubted(driver) and driver not in changed]
            before = dict(self.found)
            await self._ask(changed)
            self._tell_news(before)

    def _changed(self) -> list[Hypervisor]:
        """The drivers whose programs are not what they were. Blocks for a moment."""
        changed = {name for name, (programs, seen) in self._known.items() if signature(programs) != seen}
        return [driver for driver in self._all if driver.name in changed]

    def _is_doubted(self, driver: Hypervisor) -> bool:
        """Whether it is time to ask again one that failed, or that its last answer withdrew: its host may be busy."""
        doubted = driver.doubtful or driver.name in self._withdrawn
        return doubted and self._clock.monotonic() - self._asked[driver.name] >= DOUBT_SECONDS

    async def _ask(self, drivers: list[Hypervisor]) -> None:
        self._asked.update({driver.name: self._clock.monotonic() for driver in drivers})
        outcomes = await asyncio.gather(*map(self._fingerprint, drivers), return_exceptions=True)
        for driver, outcome in zip(drivers, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.warning("a hypervisor could not be tried", hypervisor=driver.name, why=str(outcome))
                continue  # what it was before holds: the trial broke, and not the hypervisor
            before = self.found.pop(driver.name, None)
            self._withdrawn.discard(driver.name)
            if outcome is None:
                if before is not None:
                    self._withdrawn.add(driver.name)
                log.info("a hypervisor is not usable here", hypervisor=driver.name, missing=driver.missing)
            else:
                self.found[driver.name] = outcome
        self._put_in_order()

    async def _fingerprint(self, driver: Hypervisor) -> Fingerprint | None:
        """What it is now; None also if one of its programs is gone, whatever it remembers."""
        known, seen = self._known.get(driver.name, ((), ()))
        if known:
            seen = await asyncio.to_thread(signature, known)  # before it is asked: what changes meanwhile is seen next
        outcome = await driver.fingerprint()
        if outcome is not None and outcome.programs != known:
            known = outcome.programs
            seen = await asyncio.to_thread(signature, known)
        self._known[driver.name] = known, seen
        return outcome if len(seen) == len(known) else None

    def _put_in_order(self) -> None:
        """In place: others hold these tables."""
        known = {one.name: one for one in self._all if one.name in self.found or one.name in self.hypervisors}
        ordered = {name: self.found[name] for name in known if name in self.found}
        self.found.clear()
        self.found.update(ordered)
        self.hypervisors.clear()
        self.hypervisors.update({name: known[name] for name in self.found})
        self.hypervisors.update(known)

    def _tell_news(self, before: dict[str, Fingerprint]) -> None:
        for name in sorted(before.keys() | self.found.keys()):
            old, new = before.get(name), self.found.get(name)
            if new is None and old is not None:
                missing = next((one.missing for one in self._all if one.name == name), "")
                self._tell(name, f"{name} is not offered: {missing or 'its program is gone'}")
            elif new is not None and new != old:
                self._tell(name, f"{name} {new.sharing.version} is offered")
