"""Lists that come in pages, asked for one page after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


class Page(Protocol):
    """A part of a list."""

    @property
    def next(self) -> str | None:
        """The place behind which the next part begins; None if this is the last one."""


P = TypeVar("P", bound=Page)


async def pages(ask: Callable[[str], Awaitable[P]]) -> AsyncGenerator[P]:
    """All pages of a list: `ask` gives the one behind a place, the first one behind ""."""
    after: str | None = ""
    while after is not None:
        page = await ask(after)
        yield page
        after = page.next
