"""The volunteer's protection, in force: looks, decides, and has machines and swarms follow.

Owns the verdict and the owner's own pause. While machines run and a rule asks for input, it looks twice a second, so
that an owner who returns is alone within a second; otherwise every few seconds, and with nothing to look at hardly
ever.
It must not pause anything itself: machines ask the leave, and swarms are the bandwidth's matter.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.wire.model import ErrorView, Model

from ..bandwidth import Restriction
from ..events import EventKind
from .manual import read_pause, write_pause
from .rules import FREE, Observations, Pause, Rules, Verdict, decide
from .senses import SystemSenses

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.core.clock import Clock

    from ..bandwidth import Bandwidth
    from ..events import Announcer
    from .leave import Leave
    from .senses import Senses

HASTE_SECONDS: Final = 0.4
"""Between looks while a machine runs that an owner's return would pause."""
CALM_SECONDS: Final = 5.0
"""Between looks otherwise."""
REST_SECONDS: Final = 600.0
"""Between looks where no rule asks for anything."""
LONGEST_PAUSE: Final = 366 * 86400.0


class PauseRequest(Model):
    """The owner says to stop."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_PAUSE)] | None = None
    """How long; until the owner says otherwise if None."""


class Guard:
    """One host's protection. `begin` before anything runs, then `run`.

    Attributes:
        rules: Those in force.
        verdict: What may run now.
        seen: What it was decided from.
        pause: What the owner said, if that has not ended.
    """

    def __init__(
        self,
        rules: Rules,
        home: Path,
        *,
        leave: Leave,
        bandwidth: Bandwidth,
        clock: Clock,
        announcer: Announcer,
        machines_run: Callable[[], bool],
        senses: Senses | None = None,
    ) -> None:
        """`machines_run` says whether any machine, or job, is there to be paused."""
        self.rules = rules
        self.verdict: Verdict = FREE
        self.seen = Observations(clock.now())
        self.pause: Pause | None = None
        self._home = home
        self._leave = leave
        self._bandwidth = bandwidth
        self._clock = clock
        self._announcer = announcer
        self._machines_run = machines_run
        self._senses = senses or SystemSenses()
        self._stirred = asyncio.Event()
        self._looking = asyncio.Lock()
        leave.asked = self.stir

    async def begin(self) -> None:
        """Take up what the owner said before, and look for the first time."""
        self.pause = await asyncio.to_thread(read_pause, self._home)
        await self.look()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._stirred.clear()
            await wait_at_most(self._clock, self._patience(), self._stirred.wait())
            await self.look()

    def change(self, rules: Rules) -> None:
        """Go by other rules from now on."""
        self.rules = rules
        self.stir()

    def stir(self) -> None:
        """Look soon: something is different."""
        self._stirred.set()

    async def stop(self, asked: PauseRequest) -> None:
        """The owner says to stop; everything pauses before this returns, or within a second of it.

        Raises:
            HostError: `storage.failed`. Nothing is changed then.
        """
        now = self._clock.now()
        await self._say(Pause(now + timedelta(seconds=asked.seconds) if asked.seconds else None))

    async def go_on(self) -> None:
        """The owner takes that back. Rules hold all the same.

        Raises:
            HostError: `storage.failed`. Nothing is changed then.
        """
        await self._say(None)

    async def look(self) -> None:
        """Look at the host, and put into force what follows."""
        async with self._looking:
            self.seen = await asyncio.to_thread(self._senses.observe, self.rules)
            now = self.seen.local.astimezone(UTC)
            if self.pause is not None and not self.pause.holds(now):
                await self._forget()
            self._follow(decide(self.rules, self.seen, self.pause))

    async def _say(self, pause: Pause | None) -> None:
        async with self._looking:
            await asyncio.to_thread(write_pause, self._home, pause)
            self.pause = pause
            self._follow(decide(self.rules, self.seen, pause))
        self.stir()

    async def _forget(self) -> None:
        self.pause = None
        try:
            await asyncio.to_thread(write_pause, self._home, None)
        except BitDewError as fault:  # it has ended all the same: that is read from it
            self._announcer.tell(EventKind.TROUBLE, str(self._home), str(fault), key=fault.key)

    def _follow(self, verdict: Verdict) -> None:
        before, self.verdict = self.verdict, verdict
        self._leave.say(None if verdict.machines else _refusal(verdict))
        self._bandwidth.restrict(self._restriction())
        if (before.machines, before.swarms) != (verdict.machines, verdict.swarms):
            machines = "machines may run" if verdict.machines else "machines are paused"
            text = f"{machines}, swarms are {verdict.swarms}"
            why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
            fields = {"machines": verdict.machines, "swarms": verdict.swarms, "reasons": list(verdict.reasons)}
            self._announcer.tell(EventKind.ACTIVITY, "", text + why, **fields)

    def _restriction(self) -> Restriction:
        if self.verdict.swarms == "capped":
            return Restriction(upload=self.rules.upload, download=self.rules.download)
        return Restriction(stopped=self.verdict.swarms == "stopped")

    def _patience(self) -> float:
        rules = self.rules
        seconds = REST_SECONDS
        if self.seen.on_battery is not None or self.seen.metered is not None or rules.busy_percent:
            seconds = CALM_SECONDS
        if rules.when != "always":
            seconds = HASTE_SECONDS if self.verdict.machines and self._machines_run() else CALM_SECONDS
        if self.verdict.until is not None:
            left = (self.verdict.until - self._clock.now()).total_seconds()
            # Never longer than a while: the clock on the wall may be set, and a host may sleep.
            seconds = min(seconds, CALM_SECONDS * 6, max(0.01, left))
        return seconds


def _refusal(verdict: Verdict) -> ErrorView:
    why = "; ".join(verdict.reasons)
    return ErrorView.of(error("host.in-use", "The host lends nothing to machines now", why=why))
