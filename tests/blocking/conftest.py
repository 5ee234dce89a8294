"""What the tests of the blocking twin share: a grid that turns in a loop of its own, as a service elsewhere does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bitdew import blocking
from bitdew.blocking import BlockingDew
from bitdew.blocking.portal import Portal
from bitdew.testing.grid import Grid


class Served(Grid):
    """A grid whose loop is `portal`'s."""

    portal: Portal

    def add_machine(self) -> None:
        """A host that runs any command, as a machine of the grid does."""
        self.portal.call(self.add_host("vm", jobs="anything", memory=2**31, cpus=4))


@pytest.fixture
def hosts() -> int:
    """How many hosts the grid has to begin with."""
    return 2


@pytest.fixture
def service(hosts: int) -> Iterator[Served]:
    with Portal() as portal:
        grid = Served(hosts)
        grid.portal = portal
        portal.call(grid.__aenter__())
        try:
            yield grid
        finally:
            portal.call(grid.__aexit__())


@pytest.fixture
def dew(service: Served) -> Iterator[BlockingDew]:
    with blocking.connect(service.folder / "operator") as dew:
        yield dew
