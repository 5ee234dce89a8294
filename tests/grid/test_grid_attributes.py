"""Attributes on a real grid: what is wished for becomes true of real files on real workers, and stays so."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from bitdew.scheduler.planner import PlannerSettings

from bitdew.bootdisk import write_boot_disk
from bitdew.core.attribute import Attribute
from bitdew.core.states import MachineState, PlacementState
from bitdew.testing.grid import Grid, eventually

QUICK = PlannerSettings(settle=timedelta(seconds=1), repair_pause=timedelta(seconds=1))
SIZE = 300_000


@pytest.fixture
def put(tmp_path: Path):
    """Makes a datum of some bytes of its own."""

    async def make(grid: Grid, name: str, attribute: Attribute | str) -> None:
        path = tmp_path / name
        await asyncio.to_thread(path.write_bytes, name.encode().ljust(16, b".") * (SIZE // 16))
        await grid.client.put(path, name, attribute)

    return make


def wishes(**said) -> Attribute:
    return Attribute.from_dict(said)


async def holders(grid: Grid, name: str) -> set[str]:
    found = (await grid.client.where(name)).placements
    return {copy.host_name for copy in found if copy.state is PlacementState.HELD}


async def on_disk(grid: Grid, root: str) -> set[str]:
    """The hosts on whose file systems the bytes are."""
    paths = {name: host.settings.home / "copies" / root for name, host in grid.hosts.items()}
    return await asyncio.to_thread(lambda: {name for name, path in paths.items() if path.is_file()})


async def becomes(grid: Grid, name: str, *hosts: str) -> None:
    """Return once exactly these hosts hold the datum, and nothing more happens to it."""

    async def so() -> bool:
        grid.clock.skip(0.2)
        where = await grid.client.where(name)
        settled = all(p.state in {PlacementState.HELD, PlacementState.GONE} for p in where.placements)
        return settled and await holders(grid, name) == set(hosts)

    await eventually(so, grid.clock)


async def is_over(grid: Grid, name: str) -> None:
    async def gone() -> bool:
        grid.clock.skip(0.2)
        page = await grid.client.page(prefix=name)
        return name not in {datum.name for datum in page.data}

    await eventually(gone, grid.clock)


async def test_a_datum_goes_where_its_target_is_and_follows_it_through_a_chain(put):
    async with Grid(3, planner=QUICK) as grid:
        await grid.client.define("base", wishes(requires="host = host1"))
        await put(grid, "database", "base")
        await put(grid, "index", wishes(affinity="database"))
        await put(grid, "cache", wishes(affinity="index"))
        for name in ("database", "index", "cache"):
            await becomes(grid, name, "host1")
        await grid.client.define("base", wishes(requires="host in (host2, host3)", replica=2))
        for name in ("database", "index", "cache"):
            await becomes(grid, name, "host2", "host3")
        roots = [(await grid.client.datum(name)).root for name in ("database", "index", "cache")]

        async def moved() -> bool:
            return [await on_disk(grid, root) for root in roots] == [{"host2", "host3"}] * 3

        await eventually(moved, grid.clock)
        told = await grid.client.explain("cache")
        assert next(host for host in told.hosts if host.host_name == "host1").verdict == "refused"


async def test_a_lifetime_ends_and_takes_its_relatives_and_their_bytes_with_it(put):
    async with Grid(2, planner=QUICK) as grid:
        await put(grid, "run", wishes(lifetime="60s", replica=2))
        await put(grid, "step", wishes(lifetime="run"))
        await put(grid, "log", wishes(lifetime="step", replica=2))
        await put(grid, "kept", wishes(replica=2))
        for name in ("run", "log", "kept"):
            await becomes(grid, name, "host1", "host2")
        roots = [(await grid.client.datum(name)).root for name in ("run", "step", "log")]
        grid.clock.skip(60.0)
        for name in ("run", "step", "log"):
            await is_over(grid, name)

        async def freed() -> bool:
            grid.clock.skip(0.5)
            hosts = await grid.client.hosts()
            ended = [await grid.client.where(name) for name in ("run", "step", "log")]
            assert not any(where.data.alive for where in ended)
            told = [copy.freed for where in ended for copy in where.placements if copy.state is PlacementState.GONE]
            return len(told) == 5 and all(told) and all(host.used == SIZE for host in hosts)

        await eventually(freed, grid.clock)
        assert not any([await on_disk(grid, root) for root in roots])
        files = await asyncio.to_thread(lambda: list((grid.folder / "service" / "repository" / "files").iterdir()))
        assert {path.name.partition(".")[0] for path in files}.isdisjoint(roots)
        assert await holders(grid, "kept") == {"host1", "host2"}


async def test_a_disk_that_a_running_machine_uses_lives_until_that_ends(tmp_path):
    image = tmp_path / "disk.raw"
    await asyncio.to_thread(write_boot_disk, image, line="hello", size=3 * 2**20, seed=b"kept")
    async with Grid(1, planner=QUICK) as grid:
        disk = await grid.client.add_disk(image, "os", wishes(lifetime="30s"))
        await becomes(grid, "os", "host1")
        (machine,) = (await grid.client.deploy("os")).machines

        async def running() -> bool:
            return (await grid.client.machine(machine.uid)).state is MachineState.RUNNING

        await eventually(running, grid.clock)
        for _ in range(40):
            grid.clock.skip(1.0)
            await grid.client.hosts()
        told = await grid.client.explain("os")
        assert "machine" in told.lifetime + " ".join(told.next)
        assert await on_disk(grid, disk.root) == {"host1"}
        await grid.client.stop_machine(machine.uid)
        await is_over(grid, "os")


async def test_a_change_of_a_named_attribute_reaches_every_datum_that_has_it(put):
    async with Grid(3, planner=QUICK) as grid:
        await grid.client.define("hep", wishes(replica=1))
        for name in ("one", "two"):
            await put(grid, name, "hep")
        await put(grid, "other", wishes(replica=1))
        await grid.client.define("hep", wishes(replica=3))
        for name in ("one", "two"):
            await becomes(grid, name, "host1", "host2", "host3")
        assert len(await holders(grid, "other")) <= 1
        await grid.client.define("hep", wishes(replica=2))

        async def trimmed() -> bool:
            grid.clock.skip(0.5)
            return [len(await holders(grid, name)) for name in ("one", "two")] == [2, 2]

        await eventually(trimmed, grid.clock)
        await grid.client.choose("one", wishes(replica=0))
        await grid.client.define("hep", wishes(requires="host = host3"))
        await becomes(grid, "two", "host3")
        assert len(await holders(grid, "one")) == 1, "never the last verified copy"


async def test_distrib_keeps_data_of_one_attribute_apart_and_tells_what_has_no_place(put):
    async with Grid(2, planner=QUICK) as grid:
        await grid.client.define("part", wishes(distrib=1))
        for name in ("part-1", "part-2", "part-3"):
            await put(grid, name, "part")

        async def apart() -> bool:
            grid.clock.skip(0.2)
            found = [await holders(grid, name) for name in ("part-1", "part-2", "part-3")]
            return sorted(map(len, found)) == [0, 1, 1] and len(set().union(*found)) == 2

        await eventually(apart, grid.clock)
        (waiting,) = [name for name in ("part-1", "part-2", "part-3") if not await holders(grid, name)]
        told = await grid.client.explain(waiting)
        assert told.missing == 1
        assert all("distrib" in host.reason for host in told.hosts)
        await grid.add_host("host3")
        await becomes(grid, waiting, "host3")


async def test_spread_separates_copies_by_label_and_moves_them_when_a_new_value_joins(put):
    async with Grid(0, planner=QUICK) as grid:
        for name, site in (("a1", "lyon"), ("a2", "lyon")):
            await grid.add_host(name, labels={"site": site})
        await put(grid, "data", wishes(replica=2, spread="site"))
        await becomes(grid, "data", "a1", "a2")
        await grid.add_host("b1", labels={"site": "orsay"})

        async def separated() -> bool:
            grid.clock.skip(0.5)
            found = await holders(grid, "data")
            return len(found) == 2 and "b1" in found

        await eventually(separated, grid.clock)


async def test_a_pinned_copy_stays_whatever_else_is_wished(put):
    async with Grid(3, planner=QUICK) as grid:

        async def all_are_known() -> bool:  # a name is found among the hosts that have said what they are
            return len(await grid.client.hosts()) == 3

        await eventually(all_are_known, grid.clock)
        await put(grid, "seed", wishes(replica=1, pin=["host2"], requires="host = host1"))
        await becomes(grid, "seed", "host2")


async def test_wishes_survive_a_restart_of_the_service(put):
    async with Grid(2, planner=QUICK) as grid:
        await grid.client.define("both", wishes(replica=2))
        await put(grid, "data", "both")
        await put(grid, "near", wishes(affinity="attr:both"))
        await becomes(grid, "near", "host1", "host2")
        await grid.stop_service()
        await grid.start_service()
        await grid.client.define("both", wishes(replica=1, requires="host = host2"))
        await becomes(grid, "data", "host2")
        await becomes(grid, "near", "host2")
