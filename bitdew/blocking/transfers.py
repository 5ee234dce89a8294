"""`BlockingTransfer` and `BlockingTransfers`: the twins of `Transfer` and `Transfers`, called through a portal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from bitdew.client.transfers import Transfer, Transfers, TransferState

    from .portal import Portal

T = TypeVar("T")
R = TypeVar("R")


class BlockingTransfer(Generic[T, R]):
    """The twin of `Transfer`; `result` is what awaiting that one is."""

    def __init__(self, portal: Portal, transfer: Transfer[T], shaped: Callable[[T], R]) -> None:
        self._portal = portal
        self.twin = transfer
        self._shaped = shaped

    @property
    def name(self) -> str:
        """As `Transfer.name`."""
        return self.twin.name

    @property
    def done(self) -> int:
        """As `Transfer.done`."""
        return self.twin.done

    @property
    def total(self) -> int:
        """As `Transfer.total`."""
        return self.twin.total

    @property
    def state(self) -> TransferState:
        """As `Transfer.state`."""
        return self.twin.state

    @property
    def is_over(self) -> bool:
        """As `Transfer.is_over`."""
        return self.twin.is_over

    def __repr__(self) -> str:
        return repr(self.twin)

    def result(self, timeout: float | None = None) -> R:
        """What it gave, or raises what it raised; within `timeout` seconds. Raises TimeoutError."""

        async def wait() -> T:
            async with asyncio.timeout(timeout):
                return await self.twin

        return self._shaped(self._portal.call(wait()))

    def pause(self) -> None:
        """As `Transfer.pause`."""
        self._portal.do(self.twin.pause)

    def resume(self) -> None:
        """As `Transfer.resume`."""
        self._portal.do(self.twin.resume)

    def limit(self, rate: int) -> None:
        """As `Transfer.limit`."""
        self._portal.do(lambda: self.twin.limit(rate))

    def cancel(self) -> None:
        """As `Transfer.cancel`."""
        self._portal.call(self.twin.cancel())

    def follow(self) -> Generator[BlockingTransfer[T, R]]:
        """As `Transfer.follow`."""
        looks = self._portal.each(self.twin.follow())
        try:
            for _ in looks:
                yield self
        finally:
            looks.close()


class BlockingTransfers:
    """The twin of `Transfers`."""

    def __init__(self, portal: Portal, transfers: Transfers) -> None:
        self._portal = portal
        self.twin = transfers
        self._known: dict[Transfer[Any], BlockingTransfer[Any, Any]] = {}

    def add(self, start: Callable[[], Transfer[T]], shaped: Callable[[T], R]) -> BlockingTransfer[T, R]:
        """A transfer that `start` begins, in the loop."""
        transfer = self._portal.do(start)
        self._known = {one: known for one, known in self._known.items() if not one.is_over}
        self._known[transfer] = made = BlockingTransfer(self._portal, transfer, shaped)
        return made

    def __iter__(self) -> Iterator[BlockingTransfer[Any, Any]]:
        """As in `Transfers`."""
        return iter([self._known[one] for one in self._portal.do(lambda: list(self.twin))])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def limit(self, rate: int) -> None:
        """As `Transfers.limit`."""
        self._portal.do(lambda: self.twin.limit(rate))

    def wait(self, *transfers: BlockingTransfer[Any, Any], some: int | None = None) -> list[BlockingTransfer[Any, Any]]:
        """As `Transfers.wait`."""
        asked = {one.twin: one for one in transfers or tuple(self)}
        over = self._portal.call(self.twin.wait(*asked, some=some)) if asked else []
        return [asked[one] for one in over]
