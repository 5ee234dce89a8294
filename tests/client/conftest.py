"""What the tests of the developer's API share: a grid, a connection with it, and hosts that run jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import bitdew
from bitdew import Dew
from bitdew.testing.grid import Grid, GridHost


@pytest.fixture
def hosts() -> int:
    """How many hosts the grid has to begin with."""
    return 0


@pytest.fixture
async def grid(hosts: int) -> AsyncIterator[Grid]:
    async with Grid(hosts) as grid:
        yield grid


@pytest.fixture
async def dew(grid: Grid) -> AsyncIterator[Dew]:
    async with bitdew.connect(grid.folder / "operator") as dew:
        yield dew


async def machine(grid: Grid, name: str = "h1", cpus: int = 4) -> GridHost:
    """A host that runs any command, as a machine of the grid does."""
    return await grid.add_host(name, jobs="anything", memory=2**31, cpus=cpus)
