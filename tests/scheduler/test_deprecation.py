"""A disk that is deprecated boots no more machines: those that run go on, and everybody is told why."""

from __future__ import annotations

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role

from .conftest import ScriptedHost
from .test_errands import kept, saved

WHY = "use disk-2"


async def refused(asked) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value


@pytest.fixture
async def host(grid: Grid, make_host, add_disk) -> ScriptedHost:
    made = await make_host()
    await add_disk()
    await made.take()
    return made


async def test_what_runs_goes_on_marked_and_nothing_more_is_launched_until_it_is_taken_back(
    grid: Grid, host: ScriptedHost
) -> None:
    made = await grid.client.deploy("disk", 2, memory=2**26, restart=Restart.ALWAYS)
    first, second = [await host.launched() for _ in range(2)]
    await saved(grid, host, second)
    assert (await grid.client.deprecate_disk("disk", WHY)).deprecated == WHY
    assert (await grid.client.disk("disk")).deprecated == WHY
    assert {(m.state, m.deprecated) for m in await grid.client.machines()} == {(MachineState.RUNNING, WHY)}

    for asked in (grid.client.deploy("disk"), grid.client.scale(made.uid, 3)):
        fault = await refused(asked)
        assert (fault.key, fault.why) == ("disk.deprecated", WHY)
    await host.machine(first, MachineState.STOPPED)
    await host.machine(second, MachineState.STOPPED, **kept(host, "a"))
    assert (await refused(grid.client.restore(second.subject, "a"))).key == "disk.deprecated"
    grid.clock.skip(600)
    assert await host.idle()
    assert len((await grid.client.deployment(made.uid)).machines) == 2

    assert (await grid.client.reinstate_disk("disk")).deprecated == ""
    assert len(await host.orders(OrderKind.LAUNCH, 2)) == 2


async def test_machines_that_wait_for_a_host_stay_and_say_why(grid: Grid, make_host, add_disk) -> None:
    await add_disk()
    made = await grid.client.deploy("disk")
    await grid.client.deprecate_disk("disk", WHY)
    host = await make_host()
    await host.take()
    told = await grid.client.explain_deployment(made.uid)
    assert f"no machine is launched from a disk that is deprecated: {WHY}" in told.machines[0]
    assert await host.idle()
    await grid.client.reinstate_disk("disk")
    await host.launched()


async def test_only_its_publisher_and_operators_say_so(grid: Grid, host: ScriptedHost) -> None:
    token = (await grid.client.create_token("publisher")).token
    await enrol(grid.service.url, str(token), "eve", IdentityFolder(grid.folder / "eve"), {Role.PUBLISHER})
    async with BitDew(grid.folder / "eve") as eve:
        assert (await refused(eve.deprecate_disk("disk", WHY))).key == "certificate.role"
    assert (await refused(grid.client.deprecate_disk("nothing", WHY))).key == "data.not-found"


async def test_the_disks_of_a_publisher_who_was_shut_out_boot_no_more_machines(grid: Grid, make_host, tmp_path) -> None:
    token = (await grid.client.create_token("publisher")).token
    eve = await enrol(grid.service.url, str(token), "eve", IdentityFolder(grid.folder / "eve"), {Role.PUBLISHER})
    path = tmp_path / "hers.raw"
    path.write_bytes(bytes(70_000))
    async with BitDew(grid.folder / "eve") as hers:
        await hers.add_disk(path, "hers")
    await grid.service.rooms.registry.revoke(eve.subject.subject_id)
    fault = await refused(grid.client.deploy("hers"))
    assert (fault.key, fault.why) == ("disk.deprecated", "its publisher eve was shut out")
