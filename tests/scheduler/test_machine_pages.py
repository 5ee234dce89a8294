"""Lists of machines, deployments and disks come in pages: each thing once, in one order, whatever happens meanwhile."""

from __future__ import annotations

import random

import pytest

from bitdew.core.errors import BitDewError
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid
from bitdew.wire import limits
from bitdew.wire import models as m


async def machine_pages(grid: Grid, limit: int, deployment: str = "") -> list[list[m.MachineView]]:
    page = await grid.client.machine_page(deployment, limit=limit)
    found = [page.machines]
    while page.next is not None:
        page = await grid.client.machine_page(deployment, page.next, limit)
        found.append(page.machines)
    return found


async def test_machines_come_by_deployment_in_pages_of_the_asked_size(grid: Grid, add_disk) -> None:
    await add_disk()
    made = [await grid.client.deploy("disk", count) for count in (3, 1, 4)]
    expected = [(one.uid, uid) for one in made for uid in sorted(machine.uid for machine in one.machines)]
    for limit in (1, 3, 8, 9):
        pages = await machine_pages(grid, limit)
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert [(one.deployment, one.uid) for page in pages for one in page] == expected
    its = await machine_pages(grid, 2, made[2].uid[:8])
    assert [one.uid for page in its for one in page] == [uid for its, uid in expected if its == made[2].uid]
    assert [one.uid for one in await grid.client.machines()] == [uid for _, uid in expected]


async def test_a_page_goes_on_where_the_last_one_ended_though_that_is_gone_or_changed(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk", 4)
    everything = [one.uid for one in await grid.client.machines()]
    first = await grid.client.machine_page(limit=2)
    launch = await host.launched(MachineState.RUNNING)
    await host.machine(launch, MachineState.FAILED, reason={"key": "hypervisor.failed", "message": "It broke."})
    following = await grid.client.machine_page(after=str(first.next), limit=4)
    assert [one.uid for one in first.machines] == everything[:2]
    assert [one.uid for one in following.machines][:2] == everything[2:]


async def test_deployments_come_in_pages_with_the_number_of_machines_in_each_state(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = [(await grid.client.deploy("disk", count)).uid for count in (1, 2, 1)]
    page = await grid.client.deployment_page(limit=2)
    last = await grid.client.deployment_page(str(page.next), 2)
    assert [one.uid for one in (*page.deployments, *last.deployments)] == made
    assert last.next is None
    await host.launched()

    (first, *_) = await grid.client.deployments()
    assert (first.uid, first.states) == (made[0], {MachineState.RUNNING: 1})


async def test_disks_come_in_pages_by_name_and_other_data_are_left_out(grid: Grid, add_disk, tmp_path) -> None:
    for name in ("hep-2", "atlas", "hep-1", "hep-3"):
        await add_disk(name)
    other = tmp_path / "numbers"
    other.write_bytes(random.Random(7).randbytes(100))
    await grid.client.put(other, "hep-numbers")
    page = await grid.client.disk_page("hep", limit=2)
    assert ([one.name for one in page.disks], page.next) == (["hep-1", "hep-2"], "hep-2")
    page = await grid.client.disk_page("hep", page.next or "", 2)
    assert ([one.name for one in page.disks], page.next) == (["hep-3"], None)
    assert [one.name for one in await grid.client.disks()] == ["atlas", "hep-1", "hep-2", "hep-3"]


async def test_a_deployment_of_very_many_machines_shows_the_first_of_them_and_tells_how_many_more(
    grid: Grid, add_disk
) -> None:
    await add_disk()
    made = await grid.client.deploy("disk", limits.PAGE + 7)
    assert (len(made.machines), made.left_out) == (limits.PAGE, 7)
    assert made.states == {MachineState.REQUESTED: limits.PAGE + 7}
    assert len(await grid.client.machines(made.uid)) == limits.PAGE + 7


@pytest.mark.parametrize("after", ["yesterday", "2026-01-01T00:00:00_a", "2026-01-01T00:00:00+00:00", "_", "__"])
async def test_a_place_that_no_page_gave_is_refused(grid: Grid, after: str) -> None:
    for asked in (grid.client.deployment_page(after), grid.client.machine_page("", after)):
        with pytest.raises(BitDewError) as refusal:
            await asked
        assert (refusal.value.key, refusal.value.fields.get("field")) == ("input.invalid", "after")
