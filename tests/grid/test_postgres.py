"""The main job on PostgreSQL: what the services keep there is what they keep in SQLite."""

from __future__ import annotations

import asyncio

from bitdew.bootdisk import write_boot_disk
from bitdew.core.attribute import Attribute
from bitdew.core.requirement import Requirement
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid, eventually
from bitdew.testing.mock_hypervisor import MockHypervisor

MB = 2**20


async def test_a_grid_on_postgresql_places_boots_restarts_and_frees(postgres_url, tmp_path):
    image, extra = tmp_path / "disk.raw", tmp_path / "extra"
    await asyncio.to_thread(write_boot_disk, image, line="hello", size=3 * MB, seed=b"postgres")
    await asyncio.to_thread(extra.write_bytes, b"e" * MB)
    machines = lambda: MockHypervisor(console_line="hello from the guest", ends=True)  # noqa: E731
    async with Grid(3, hypervisor=machines, database=postgres_url) as grid:
        wishes = Attribute(replica=2, requires=Requirement("sharing=mock"), spread="site")
        await grid.client.define("disks", wishes)
        disk = await grid.client.add_disk(image, "hep", "disks")
        await grid.until("hep", lambda where: where.data.held == 2)
        await grid.stop_service()
        await grid.start_service()
        await grid.client.put(extra, "extra", Attribute.from_dict({"affinity": "hep"}))
        where = await grid.until("extra", lambda where: where.data.held == 2)
        holders = {placement.host for placement in where.placements}
        machine = (await grid.client.deploy("hep")).machines[0]

        async def over() -> bool:
            return (await grid.client.machine(machine.uid)).state is MachineState.STOPPED

        await eventually(over, grid.clock)
        assert "hello from the guest" in (await grid.client.console(machine.uid)).text
        assert (await grid.client.explain("hep")).missing == 0
        await grid.client.remove("extra")
        await grid.client.remove_disk("hep")

        left = [host.settings.home / "copies" / disk.root for host in grid.hosts.values()]

        async def freed() -> bool:
            return not await asyncio.to_thread(lambda: any(path.exists() for path in left))

        await eventually(freed, grid.clock)
        assert [host.held for host in await grid.client.hosts()] == [0] * 3
        assert len(holders) == 2
