"""A catalog restored from an old backup under a grid that went on without it: nothing is lost, nothing is wiped."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from bitdew.catalog.backup import Places, backup, restore
from bitdew.scheduler.planner import PlannerSettings

from bitdew.core.attribute import Attribute
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid, eventually

QUICK = PlannerSettings(settle=timedelta(seconds=1), repair_pause=timedelta(seconds=1))


async def put(grid: Grid, folder: Path, name: str, replicas: int) -> str:
    path = folder / name
    await asyncio.to_thread(path.write_bytes, name.encode().ljust(16, b".") * 10_000)
    await grid.client.put(path, name, Attribute(replica=replicas))
    await grid.until(name, lambda where: where.data.held == replicas)
    return (await grid.client.datum(name)).root


async def files(grid: Grid, root: str) -> set[str]:
    paths = {name: host.settings.home / "copies" / root for name, host in grid.hosts.items()}
    return await asyncio.to_thread(lambda: {name for name, path in paths.items() if path.is_file()})


async def test_restoring_an_old_backup_under_a_live_grid_loses_no_copy(tmp_path: Path) -> None:
    async with Grid(3, planner=QUICK) as grid:
        both = {"host1", "host2", "host3"}
        old = await put(grid, tmp_path, "old", 3)
        moved = await put(grid, tmp_path, "moved", 1)
        places = Places.of(grid.folder / "service", None, None, None)
        archive = tmp_path / "backup.tar"
        now = grid.clock.now()
        await backup(places, archive, now=now, with_repository=False, replace=False, report=lambda *_: None)

        new = await put(grid, tmp_path, "new", 3)  # the backup knows nothing of it
        await grid.client.choose("moved", Attribute(replica=3))
        await grid.until("moved", lambda where: where.data.held == 3)
        uid = (await grid.client.datum("new")).uid

        await grid.stop_service()
        await restore(places, archive, now=now, replace=True, report=lambda *_: None)
        await grid.start_service()

        async def all_have_told() -> bool:
            grid.clock.skip(0.5)
            return all(host.unknown == [uid] for host in await grid.client.hosts())

        await eventually(all_have_told, grid.clock)
        where = await grid.until("old", lambda where: where.data.held == 3)
        assert {copy.host_name for copy in where.placements if copy.state is PlacementState.HELD} == both
        assert await files(grid, old) == both
        assert await files(grid, new) == both, "what the catalog does not know is kept"

        # The copies made since are known again; they are trimmed to what the old catalog wants, and one is left.
        async def as_the_backup_wants() -> bool:
            grid.clock.skip(0.5)
            return len(await files(grid, moved)) == 1

        await eventually(as_the_backup_wants, grid.clock)
        later = await put(grid, tmp_path, "later", 3)  # orders go on above what the hosts have applied
        assert await files(grid, later) == both
        assert await files(grid, new) == both
