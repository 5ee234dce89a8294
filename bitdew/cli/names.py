"""The names that a shell completes: of data, disks, hosts, jobs and more, as the service knows them.

Owns the questions and their bounds. Whoever types waits for them: they take two seconds at most, and name a hundred
things at most. Where there is no service, or it refuses, nothing is completed and nothing is said.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
    from typing import Any

    from bitdew.client.grid import BitDew

Named = list[tuple[str, str]]
"""Names, each with what is said of it."""
T = TypeVar("T")
SECONDS: Final = 2.0
"""How long the service may take, connecting included."""
MOST: Final = 100
"""Names that are offered at a time."""


def profiles(context: typer.Context, incomplete: str) -> Named:  # noqa: ARG001 (as typer calls it)
    """The profiles of this machine's user."""
    from bitdew.client.profiles import profile_names

    with suppress(Exception):
        return [(name, "") for name in profile_names() if name.startswith(incomplete)]
    return []


def data(context: typer.Context, incomplete: str) -> Named:
    """Data that are alive, disks among them."""
    return _asked(context, incomplete, _data(incomplete))


def inputs(context: typer.Context, incomplete: str) -> Named:
    """Data as the inputs of a job; where `=` follows, what comes is a path of the job's own."""
    return [] if "=" in incomplete else data(context, incomplete)


def disks(context: typer.Context, incomplete: str) -> Named:
    """Disks."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.name, f"{one.os or one.arch}, version {one.version}") for one in await grid.disks()]

    return _asked(context, incomplete, ask)


def hosts(context: typer.Context, incomplete: str) -> Named:
    """Hosts."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.name, str(one.state)) for one in await grid.hosts()]

    return _asked(context, incomplete, ask)


def attributes(context: typer.Context, incomplete: str) -> Named:
    """Attributes that have a name."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.name, f"{one.data} data have it") for one in await grid.attributes() if one.name]

    return _asked(context, incomplete, ask)


def machines(context: typer.Context, incomplete: str) -> Named:
    """Machines, by their ids."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.uid, f"{one.state}, from {one.disk}") for one in (await grid.machine_page()).machines]

    return _asked(context, incomplete, ask)


def deployments(context: typer.Context, incomplete: str) -> Named:
    """Deployments, by their ids."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.uid, f"{one.count} from {one.disk}") for one in (await grid.deployment_page()).deployments]

    return _asked(context, incomplete, ask)


def machines_or_deployments(context: typer.Context, incomplete: str) -> Named:
    """Both, where a command takes either."""
    return [*deployments(context, incomplete), *machines(context, incomplete)][:MOST]


def jobs(context: typer.Context, incomplete: str) -> Named:
    """Jobs, by their ids."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        found = grid.jobs(prefix=incomplete)
        return [(one.uid, f"{one.name}, {one.state}") for one in await _first(found)]

    return _asked(context, incomplete, ask)


def tokens(context: typer.Context, incomplete: str) -> Named:
    """Tokens that can still be used, by their ids."""

    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        return [(one.uid, f"{one.role} {one.note}".strip()) for one in await grid.tokens()]

    return _asked(context, incomplete, ask)


def _data(prefix: str) -> Callable[[BitDew], Coroutine[Any, Any, Iterable[tuple[str, str]]]]:
    async def ask(grid: BitDew) -> Iterable[tuple[str, str]]:
        from bitdew.core.units import format_size

        return [(one.name, format_size(one.size)) for one in (await grid.page(prefix, limit=MOST)).data]

    return ask


async def _first(found: AsyncGenerator[T]) -> list[T]:
    taken: list[T] = []
    try:
        async for one in found:
            taken.append(one)
            if len(taken) == MOST:
                break
    finally:
        await found.aclose()
    return taken


def _asked(
    context: typer.Context,
    incomplete: str,
    question: Callable[[BitDew], Coroutine[Any, Any, Iterable[tuple[str, str]]]],
) -> Named:
    """What the service of the command's profile answers; nothing where it can't."""
    profile, url = context.params.get("profile"), context.params.get("url")

    async def ask() -> Iterable[tuple[str, str]]:
        from bitdew.client.grid import BitDew

        async with asyncio.timeout(SECONDS), BitDew.connect(profile, url) as grid:
            return await question(grid)

    # Whatever it is, the one who presses the key must not see a traceback in the middle of a line.
    with suppress(Exception):
        return [pair for pair in asyncio.run(ask()) if pair[0].startswith(incomplete)][:MOST]
    return []
