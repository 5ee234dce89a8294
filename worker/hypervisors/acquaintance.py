"""What a hypervisor was found to be, and when that is no longer believed.

Owns the memory of one trial. It is made anew when a program, or a device, that it depends on is another one or gone,
when something failed that should not have, and whenever nothing was found. How to try is the driver's matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from bitdew.core.errors import BitDewError

from ..stamps import Signature, signature
from .threads import to_the_end

T = TypeVar("T")


class Acquaintance(Generic[T]):
    """One hypervisor, as its driver knows it.

    Attributes:
        found: What it was when it was tried last; None if it was not usable, or was not tried.
        missing: What was missing then, in words; "" if nothing was.
        doubtful: Something failed since that trial, which may be the hypervisor's own fault.
    """

    def __init__(self, files: Sequence[str], trial: Callable[[], T | str]) -> None:
        """`files` are what the trial depends on, by names or paths; `trial` blocks, and says what is missing."""
        self.found: T | None = None
        self.missing = ""
        self.doubtful = False
        self._files = tuple(files)
        self._trial = trial
        self._seen: Signature = ()
        self._turn = asyncio.Lock()

    async def look(self) -> T | None:
        """What it is now: tried, or remembered where nothing speaks against that."""
        async with self._turn:
            seen = await asyncio.to_thread(signature, self._files)
            if self.found is None or self.doubtful or seen != self._seen:
                self._seen, self.doubtful = seen, False
                found = await to_the_end(self._trial)
                self.found, self.missing = (None, found) if isinstance(found, str) else (found, "")
        return self.found

    @contextmanager
    def doubting(self) -> Iterator[None]:
        """What fails within makes it doubtful."""
        try:
            yield
        except BitDewError:
            self.doubtful = True
            raise
