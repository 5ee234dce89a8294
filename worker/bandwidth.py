"""The volunteer's caps on the network, put into force: over everything and per content, by swarm and by HTTP.

Owns who may take how much. libtorrent paces what comes by swarm and can't be told of other bytes, so each cap on what
comes in is shared: while anything comes by HTTP, swarms have half of it; HTTP has the other half while a swarm is
fetching, and all of it otherwise. Over half a second both together stay within the cap. What goes out by HTTP are the
results of jobs, and it is shared likewise: all of them together have half of the cap while swarms send too.

It must not keep the caps: they stand in the settings.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError
from bitdew.swarm.settings import SwarmLimits, TransferLimits

from .caps import DataCaps, tightest
from .outlet import Outlet
from .pacing import Meter, Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from bitdew.core.clock import Clock
    from bitdew.swarm.session import Swarm
    from bitdew.swarm.transfer import Transfer

LOOK_SECONDS: Final = 0.5
"""How long what swarms are doing is taken for granted."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """What is taken from the caps for a while, because the host's owner needs it.

    Attributes:
        upload: Bytes per second; 0 for no other cap than the usual one.
        download: Bytes per second; likewise.
        stopped: Whether nothing at all may be moved.
    """

    upload: int = 0
    download: int = 0
    stopped: bool = False


class Bandwidth:
    """What one host's transfers may use of its network, while it runs."""

    def __init__(
        self, limits: SwarmLimits, swarm: Swarm, clock: Clock, own: Mapping[str, TransferLimits] | None = None
    ) -> None:
        """`limits` are the caps with which `swarm` was started, `own` those of single data, by name or uid."""
        self.limits = limits
        self._swarm = swarm
        self._clock = clock
        self._caps = DataCaps(own or {})
        self._running: Counter[str] = Counter()
        self._lent = limits
        self._restriction = Restriction()
        self._open = asyncio.Event()
        self._open.set()
        self._looked = -LOOK_SECONDS
        self._pace = Throttle(limits.download, clock)
        self._outlet = Outlet(clock, self._look_in_time)
        self._own: dict[str, Throttle] = {}
        self._meters: dict[str, Meter] = {}

    # What the volunteer changes

    def change(self, limits: SwarmLimits, own: Mapping[str, TransferLimits]) -> None:
        """Put other caps into force, at once."""
        self._lent = limits
        self._enforce()
        for root in self._caps.replace(own):
            self._apply(root)

    def restrict(self, restriction: Restriction) -> None:
        """Let as much less be used from now on, and again as much more when that ends. Saying it again does nothing."""
        if restriction == self._restriction:
            return
        before, self._restriction = self._restriction, restriction
        self._enforce()
        if restriction.stopped == before.stopped:
            return
        (self._open.clear if restriction.stopped else self._open.set)()
        (self._outlet.shut if restriction.stopped else self._outlet.open)()
        with suppress(BitDewError):
            self._swarm.rest(restriction.stopped)

    def _enforce(self) -> None:
        """Have everything that runs keep to the caps as they are now."""
        upload, download = self._restriction.upload, self._restriction.download
        self.limits = replace(
            self._lent, upload=tightest((self._lent.upload, upload)), download=tightest((self._lent.download, download))
        )
        self._looked = -LOOK_SECONDS
        self._look()
        with suppress(BitDewError):  # the swarm is closed, and uses nothing any more
            self._swarm.set_limits(self._share())

    # What copies tell and ask

    def want(self, root: str, uid: str, name: str) -> None:
        """The datum `uid`, called `name`, wants the content `root`: its caps count."""
        before = self._caps.of(root)
        self._caps.want(root, uid, name)
        if self._caps.of(root) != before:
            self._apply(root)

    def release(self, root: str, uid: str) -> None:
        """It wants it no more."""
        before = self._caps.of(root)
        self._caps.release(root, uid)
        if self._caps.of(root) != before:
            self._apply(root)

    def of(self, root: str) -> TransferLimits:
        """The caps with which the content `root` has to be given to the swarm."""
        limits = self._caps.of(root)
        if limits.download and self._running[root]:
            return replace(limits, download=_half(limits.download))
        return limits

    def rates_by_http(self) -> dict[str, int]:
        """Bytes per second that come by HTTP now, of each content that does."""
        return {root: meter.rate for root, meter in self._meters.items()}

    @property
    def stopped(self) -> bool:
        """Whether nothing at all may be moved now."""
        return self._restriction.stopped

    @property
    def sent_by_http(self) -> int:
        """Bytes per second that leave by HTTP now."""
        return self._outlet.rate_now

    # HTTP

    @contextmanager
    def sending(self) -> Iterator[None]:
        """What this task sends to the service meanwhile, over HTTP, keeps the cap on what goes out."""
        try:
            with self._outlet.passing():
                self._enforce()
                yield
        finally:
            self._enforce()

    @asynccontextmanager
    async def coming(self, root: str) -> AsyncIterator[None]:
        """A download of `root`, which lasts as long as the context. It waits until anything may be moved."""
        await self._open.wait()
        if not self._running[root]:
            self._own[root] = Throttle(self._caps.of(root).download, self._clock)
            self._meters[root] = Meter(self._clock)
        self._running[root] += 1
        self._share_out(root)
        try:
            yield
        finally:
            self._running[root] -= 1
            if not self._running[root]:
                del self._running[root], self._own[root], self._meters[root]
            self._share_out(root)

    async def take(self, size: int, root: str) -> None:
        """Return when `size` bytes of `root` that came are within the caps. Until then nothing more should be read.

        Only while `root` is `coming`.
        """
        own, all_ = self._own[root], self._pace
        self._meters[root].count(size)
        self._look_in_time()
        await self._open.wait()
        marks = own.owe(size), all_.owe(size)
        await own.paid(marks[0])
        await all_.paid(marks[1])

    # How it is done

    def _look_in_time(self) -> None:
        if self._clock.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()

    def _look(self) -> None:
        """See what swarms are doing, and give HTTP the part that is its own."""
        self._looked = self._clock.monotonic()
        fetching = {t.metainfo.content.root for t in self._swarm.transfers.values() if t.fetching}
        cap = self.limits.download
        self._pace.change(_half(cap) if cap and fetching else cap)
        for root, pace in self._own.items():
            cap = self._caps.of(root).download
            pace.change(_half(cap) if cap and root in fetching else cap)
        cap = self.limits.upload
        shared = cap and self._outlet.used and any(t.usage.upload for t in self._swarm.transfers.values())
        self._outlet.allow(_half(cap) if shared else cap)

    def _share(self) -> SwarmLimits:
        upload, download = self.limits.upload, self.limits.download
        return replace(
            self.limits,
            upload=_half(upload) if upload and self._outlet.used else upload,
            download=_half(download) if download and self._running else download,
        )

    def _share_out(self, root: str) -> None:
        """A download of `root` began or ended: give swarms the parts that are theirs now."""
        if self.limits.download:
            with suppress(BitDewError):
                self._swarm.set_limits(self._share())
        if self._caps.of(root).download:
            self._apply(root)

    def _apply(self, root: str) -> None:
        """Put the caps of one content into force, wherever it is under way."""
        if root in self._own:
            self._look()
        transfer = self._transfer(root)
        if transfer is not None:
            with suppress(BitDewError):  # it is being removed
                transfer.set_limits(self.of(root))

    def _transfer(self, root: str) -> Transfer | None:
        found = (t for t in self._swarm.transfers.values() if t.metainfo.content.root == root)
        return next(found, None)


def _half(cap: int) -> int:
    return max(1, cap // 2)
