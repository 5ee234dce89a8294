"""The last step of publishing, when the service vanishes in it: the bytes came, and become a datum once."""

from __future__ import annotations

import asyncio
import random

import pytest

from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.errors import error
from bitdew.testing.grid import Grid

SIZE = 700_001
LAST = ("/datum", "/v1/disks")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(random.Random(9).randbytes(SIZE))
    return path


async def publish(client, file, kind):
    if kind == "disk":
        return await client.add_disk(file, "events", Attribute(replica=0))
    return await client.put(file, "events", Attribute(replica=0))


class Vanishing(BitDew):
    """A client whose service vanishes in the last step."""

    vanish = None
    asked = 0

    async def _call(self, method, path, *rest, **more):
        if method == "POST" and path.endswith(LAST):
            self.asked += 1
            if self.asked == 1:
                return await self.vanish(lambda: super(Vanishing, self)._call(method, path, *rest, **more))
        return await super()._call(method, path, *rest, **more)


@pytest.mark.parametrize("kind", ["disk", "datum"])
async def test_a_service_that_is_restarted_before_the_last_step_makes_a_datum_of_what_came(file, kind):
    async with Grid(0) as grid, Vanishing.connect(grid.folder / "operator") as client:

        async def vanish(call):
            await grid.stop_service()
            starting = asyncio.create_task(grid.start_service())
            try:
                return await call()
            finally:
                await starting

        client.vanish = vanish
        assert (await publish(client, file, kind)).size == SIZE
        assert client.asked == 2
        assert [datum.name async for datum in grid.client.data()] == ["events"]
        assert await grid.client.read("events", 0, SIZE) == file.read_bytes()


@pytest.mark.parametrize("kind", ["disk", "datum"])
async def test_an_answer_that_is_lost_is_found_again(file, kind):
    async with Grid(0) as grid, Vanishing.connect(grid.folder / "operator") as client:

        async def vanish(call):
            await call()
            raise error("service.unreachable", "The answer was lost", url="")

        client.vanish = vanish
        made = await publish(client, file, kind)
        assert made.uid == (await grid.client.datum("events")).uid
        assert not made.awaited
        assert grid.service.rooms.contents.repository.uploads.under_way == ()


async def test_a_service_that_stays_away_is_given_up_and_the_same_call_goes_on_later(file):
    async with Grid(0) as grid, Vanishing.connect(grid.folder / "operator") as client:

        async def vanish(_call):
            raise error("service.unreachable", "It is gone", url="")

        client.vanish, client.patience = vanish, 0.1
        with pytest.raises(Exception, match="gone"):
            await client.put(file, "events", Attribute(replica=0))
        (there,) = grid.service.rooms.contents.repository.uploads.under_way
        assert (await client.put(file, "events", Attribute(replica=0))).size == SIZE
        assert grid.service.rooms.contents.repository.uploads.under_way == ()
        assert there
