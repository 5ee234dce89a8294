"""The tap of a transfer: whatever it sends or receives passes here, and may be held up.

Owns who is paused and at what rate bytes pass. Which transfer bytes belong to is known from the context that they are
moved in: tasks inherit it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PART: Final = 16 * 1024
"""Bytes that pass at once where a rate is kept: at the lowest rate, the other end still hears something in time."""
LOWEST: Final = 1024
"""Bytes per second, the lowest rate that there is: a line that is slower counts as dead."""


class Tap:
    """Lets bytes pass, at a rate, while it is open."""

    def __init__(self, rate: int = 0) -> None:
        """`rate` is in bytes per second; 0 is unlimited. Raises ValueError for less than `LOWEST`."""
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self.rate = rate

    @property
    def rate(self) -> int:
        """Bytes per second; 0 is unlimited."""
        return self._rate

    @rate.setter
    def rate(self, rate: int) -> None:
        if rate < 0 or 0 < rate < LOWEST:
            raise ValueError(f"a rate is 0 for any, or at least {LOWEST} bytes per second: not {rate}")
        self._rate = rate
        self._changed.set()

    @property
    def is_open(self) -> bool:
        """Whether bytes pass."""
        return self._open.is_set()

    def shut(self) -> None:
        """Let nothing pass."""
        self._open.clear()

    def open(self) -> None:
        """Let bytes pass again."""
        self._open.set()

    async def opened(self) -> None:
        """Return when it is open."""
        await self._open.wait()

    async def take(self, size: int) -> None:
        """Return when `size` bytes may pass; a change of the rate counts from then on."""
        now = asyncio.get_running_loop().time
        async with self._turn:
            left = float(size)
            while left > 0 and self._rate:
                rate, begun = self._rate, now()
                self._changed.clear()
                try:
                    async with asyncio.timeout(left / rate):
                        await self._changed.wait()
                except TimeoutError:
                    return
                left -= rate * (now() - begun)


TAPS: Final[ContextVar[Sequence[Tap]]] = ContextVar("taps", default=())
"""What the bytes of this context have to pass."""


def is_held() -> bool:
    """Whether the transfer that this is has to stand still."""
    return not all(tap.is_open for tap in TAPS.get())


async def released() -> None:
    """Return when the transfer that this is may go on."""
    for tap in TAPS.get():
        await tap.opened()


async def passing(size: int) -> None:
    """Return when `size` bytes of the transfer that this is may pass."""
    for tap in TAPS.get():
        await tap.take(size)


def parts(raw: bytes) -> Sequence[bytes]:
    """`raw`, in parts if a rate is to be kept."""
    if not any(tap.rate for tap in TAPS.get()):
        return [raw]
    return [raw[at : at + PART] for at in range(0, len(raw), PART)]
