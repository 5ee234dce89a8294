"""The main job in one process: from a wish to a booted machine, and through everything that may happen on the way."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3

import pytest
from bitdew.catalog.upload_file import About
from bitdew.scheduler.planner import PlannerSettings

from bitdew.bootdisk import write_boot_disk
from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, MachineState, PlacementState
from bitdew.testing.grid import Grid, eventually
from bitdew.testing.mock_hypervisor import MockHypervisor
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire.models import MachineView, WhereReply

MB = 2**20
MOCK = Requirement("sharing=mock")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.raw"
    write_boot_disk(path, line="hello", size=3 * MB, seed=b"spine")
    return path


async def copies(grid, root):
    """The files of one content on the hosts, looked for in a thread: the loop under test must not block."""
    paths = [host.settings.home / "copies" / root for host in grid.hosts.values()]
    return await asyncio.to_thread(lambda: [path for path in paths if path.is_file()])


def held(count):
    return lambda where: where.data.held == count and where.data.intended == 0


async def ended(grid: Grid, uid: str) -> MachineView:
    async def over() -> bool:
        return (await grid.client.machine(uid)).state in {MachineState.STOPPED, MachineState.FAILED}

    await eventually(over, grid.clock)
    return await grid.client.machine(uid)


async def running(grid: Grid, uid: str) -> None:
    async def up() -> bool:
        machine = await grid.client.machine(uid)
        assert machine.state is not MachineState.FAILED, machine.reason
        return machine.state is MachineState.RUNNING

    await eventually(up, grid.clock)


async def test_a_wish_becomes_verified_copies_on_eligible_hosts_only(image):
    async with Grid(2) as grid:
        await grid.add_host("far", labels={"site": "lyon"})
        seen: list[WhereReply] = []
        await grid.client.add_disk(
            image, "hep", Attribute(replica=2, requires=Requirement("sharing=mock, host != far"))
        )

        def both_held(where: WhereReply) -> bool:
            seen.append(where)
            return held(2)(where)

        where = await grid.until("hep", both_held)
        assert {p.host_name for p in where.placements} == {"host1", "host2"}
        assert [hashlib.sha256(p.read_bytes()).digest() for p in await copies(grid, where.data.root)] == [
            hashlib.sha256(image.read_bytes()).digest()
        ] * 2
        for reply in seen:  # a copy counts when it is verified, not when it is promised
            assert reply.data.held == sum(p.state is PlacementState.HELD for p in reply.placements)
        explained = await grid.client.explain("hep")
        refused = [host for host in explained.hosts if host.verdict == "refused"]
        assert [host.host_name for host in refused] == ["far"]
        assert "far" in refused[0].reason


async def test_one_swarm_and_one_copy_serve_two_names_of_the_same_bytes(image):
    async with Grid(1) as grid:
        first = await grid.client.add_disk(image, "first", Attribute(replica=1))
        await grid.until("first", held(1))
        second = await grid.client.add_disk(image, "second", Attribute(replica=1))
        where = await grid.until("second", held(1))
        assert (first.root, first.info_hash) == (second.root, second.info_hash)
        assert len(await copies(grid, first.root)) == 1
        assert where.placements[0].from_repository + where.placements[0].from_peers == 0
        await grid.client.remove_disk("first")

        async def forgotten() -> bool:
            return (await grid.client.hosts())[0].held == 1

        await eventually(forgotten, grid.clock)
        assert len(await copies(grid, first.root)) == 1, "the other name still needs the bytes"


async def test_a_holder_boots_the_disk_and_its_console_reaches_the_user(image):
    before = image.read_bytes()
    async with Grid(2, hypervisor=lambda: MockHypervisor(console_line="hello from the guest", ends=True)) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        where = await grid.until("hep", held(1))
        machine = (await grid.client.deploy("hep")).machines[0]
        done = await ended(grid, machine.uid)
        assert done.state is MachineState.STOPPED
        assert done.host == where.placements[0].host, "it runs where the disk is"
        text = "".join([part.text async for part in grid.client.follow_console(machine.uid)])
        assert "hello from the guest" in text
        assert (await copies(grid, disk.root))[0].read_bytes() == before


async def test_a_machine_asked_for_early_waits_for_the_disk_and_is_stopped_on_request(image):
    async with Grid(0) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        machine = (await grid.client.deploy("hep")).machines[0]
        assert machine.host is None
        await grid.add_host("late")
        await running(grid, machine.uid)
        await grid.client.stop_machine(machine.uid)
        assert (await ended(grid, machine.uid)).state is MachineState.STOPPED


async def test_a_restarted_service_wipes_nothing_and_goes_on(image, tmp_path):
    async with Grid(2) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=2))
        await grid.until("hep", held(2))
        stamps = [path.stat().st_ino for path in await copies(grid, disk.root)]
        await grid.stop_service()
        await grid.start_service()
        other = tmp_path / "other.raw"
        other.write_bytes(image.read_bytes()[::-1])
        await grid.client.add_disk(other, "more", Attribute(replica=2))
        await grid.until("more", held(2))
        where = await grid.until("hep", held(2))
        assert [path.stat().st_ino for path in await copies(grid, disk.root)] == stamps
        assert {p.state for p in where.placements} == {PlacementState.HELD}


async def test_a_restarted_worker_still_holds_its_copy_and_its_machine(image):
    async with Grid(1) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        before = (await grid.until("hep", held(1))).placements[0]
        await grid.hosts["host1"].restart()
        after = (await grid.until("hep", held(1))).placements[0]
        assert (after.from_repository, after.from_peers) == (before.from_repository, before.from_peers)
        machine = (await grid.client.deploy("hep")).machines[0]
        await running(grid, machine.uid)


async def test_a_removed_disk_frees_the_bytes_everywhere(image):
    async with Grid(2) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=2))
        await grid.until("hep", held(2))
        await grid.client.remove_disk("hep")

        async def freed() -> bool:
            return not await copies(grid, disk.root)

        await eventually(freed, grid.clock)
        assert not (grid.folder / "service" / "repository" / "files" / disk.root).exists()
        with pytest.raises(BitDewError) as caught:
            await grid.client.disk("hep")
        assert caught.value.key == "data.not-found"


async def test_a_removed_disk_stays_on_the_host_whose_machine_uses_it_until_that_ends(image):
    async with Grid(1) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        await grid.until("hep", held(1))
        machine = (await grid.client.deploy("hep")).machines[0]
        await running(grid, machine.uid)
        await grid.client.remove_disk("hep")
        await grid.clock.sleep(0.3)
        assert await copies(grid, disk.root)
        await grid.client.stop_machine(machine.uid)

        async def freed() -> bool:
            return not await copies(grid, disk.root)

        await eventually(freed, grid.clock)


async def test_a_lost_hosts_copy_is_made_again_when_that_was_wished(image):
    from datetime import timedelta

    planner = PlannerSettings(grace=timedelta(seconds=30))
    async with Grid(2, planner=planner) as grid:
        await grid.client.add_disk(image, "tough", Attribute(replica=1, fault_tolerance=True))
        await grid.client.add_disk(image, "plain", Attribute(replica=1))
        first = (await grid.until("tough", held(1))).placements[0].host_name
        plain = (await grid.until("plain", held(1))).placements[0].host_name
        await grid.hosts[first].stop()
        other = next(name for name in grid.hosts if name != first)

        async def lost() -> bool:
            grid.clock.skip(5.0)
            return any(h.state is HostState.LOST and h.name == first for h in await grid.client.hosts())

        await eventually(lost, grid.clock)
        grid.clock.skip(31.0)
        where = await grid.until(
            "tough", lambda w: any(p.host_name == other and p.state == "held" for p in w.placements)
        )
        assert {p.host_name for p in where.placements} == {first, other}
        if plain == first:
            assert [p.host_name for p in (await grid.client.where("plain")).placements] == [first]


async def test_a_rotten_repository_is_noticed_and_adding_the_file_again_mends_it(image):
    async with Grid(0) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=1))
        stored = grid.folder / "service" / "repository" / "files" / disk.root
        with stored.open("r+b") as file:
            file.seek(MB)
            file.write(b"rot" * 1000)
        await grid.add_host("host1")

        async def damaged() -> bool:
            return (await grid.client.disk("hep")).damaged

        await eventually(damaged, grid.clock)
        where = await grid.client.where("hep")
        assert where.data.held == 0, "nothing corrupt ever counts as a copy"
        await grid.client.add_disk(image, "again", Attribute(replica=0))

        async def mended() -> bool:
            grid.clock.skip(5.0)
            return (await grid.client.disk("hep")).held == 1

        await eventually(mended, grid.clock)
        assert (await copies(grid, disk.root))[0].read_bytes() == image.read_bytes()


async def test_a_catalog_that_was_taken_over_cannot_make_a_host_boot_an_unsigned_disk(image):
    async with Grid(1) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        await grid.until("hep", held(1))
        await grid.stop_service()
        with sqlite3.connect(grid.folder / "service" / "catalog.sqlite3") as database:
            payload = bytes(database.execute("select payload from disks").fetchone()[0])
            database.execute("update disks set payload = ?", (payload.replace(b'"version":"1"', b'"version":"2"'),))
        database.close()
        await grid.start_service()
        machine = (await grid.client.deploy("hep")).machines[0]
        refused = await ended(grid, machine.uid)
        assert refused.state is MachineState.FAILED
        assert refused.reason is not None
        assert refused.reason.key == "disk.signature"
        assert not grid.hosts["host1"].machines.starts


async def test_an_order_reaches_an_idle_worker_at_once(image):
    async with Grid(1) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=1))
        placement = (await grid.until("hep", held(1))).placements[0]
        # The poll was held open with 20 s to go: only the order can have ended it.
        assert placement.seconds is not None
        assert placement.seconds < 10


async def test_a_full_host_says_so_and_the_deficit_stays_visible_with_its_reason(image):
    async with Grid(0) as grid:
        await grid.add_host("tiny", quota=MB)
        await grid.client.add_disk(image, "hep", Attribute(replica=1))
        await grid.clock.sleep(0.2)
        explained = await grid.client.explain("hep")
        assert (explained.held, explained.intended, explained.missing) == (0, 0, 1)
        assert explained.hosts[0].verdict == "refused"
        assert "quota" in explained.hosts[0].reason


async def test_a_damaged_disk_is_mended_under_its_own_name_and_nothing_else_takes_that_name(image, tmp_path):
    async with Grid(1) as grid:
        disk = await grid.client.add_disk(image, "hep", Attribute(replica=0))
        stored = grid.folder / "service" / "repository" / "files" / disk.root
        await asyncio.to_thread(stored.unlink)
        await grid.stop_service()
        await grid.start_service()
        assert (await grid.client.disk("hep")).damaged
        other = tmp_path / "other.raw"
        await asyncio.to_thread(write_boot_disk, other, line="other", size=3 * MB)
        with pytest.raises(BitDewError) as caught:
            await grid.client.add_disk(other, "hep")
        assert caught.value.key == "disk.name-taken"
        mended = await grid.client.add_disk(image, "hep")
        assert (mended.uid, mended.damaged, mended.wanted) == (disk.uid, False, 0)


async def test_an_upload_that_nobody_goes_on_with_gives_its_room_back():
    async with Grid(0) as grid:
        uploads = grid.service.rooms.contents.repository.uploads
        begun = await uploads.begin(About("ada", "hep", MB))
        grid.clock.skip(3601.0)
        await uploads.begin(About("ada", "other", MB))
        with pytest.raises(BitDewError) as caught:
            uploads.upload(begun.uid)
        assert caught.value.key == "upload.not-found"


async def test_a_revoked_host_is_shut_out_at_once_and_its_worker_says_so(image):
    async with Grid(2) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=2))
        await grid.until("hep", held(2))
        await grid.client.revoke_host("host1")
        task = grid.hosts["host1"]._task
        grid.clock.skip(60.0)
        with pytest.raises(BitDewError) as caught:
            await asyncio.wait_for(asyncio.shield(task), 20)
        assert caught.value.key == "certificate.revoked"
        grid.hosts["host1"].worker = None

        assert {h.name: h.state for h in await grid.client.hosts()}["host1"] is HostState.BANNED


async def test_a_users_machine_is_not_another_users_to_stop_or_to_read(image, tmp_path):
    async with Grid(1) as grid:
        await grid.client.add_disk(image, "hep", Attribute(replica=1, requires=MOCK))
        machine = (await grid.client.deploy("hep")).machines[0]
        await running(grid, machine.uid)
        token = (await grid.client.create_token("user")).token
        folder = tmp_path / "someone"
        await enrol(grid.service.url, token, "someone", IdentityFolder(folder), {Role.USER})
        async with BitDew.connect(folder) as someone:
            assert [m.uid for m in await someone.machines()] == [machine.uid]
            for forbidden in (someone.stop_machine(machine.uid), someone.console(machine.uid)):
                with pytest.raises(BitDewError) as caught:
                    await forbidden
                assert caught.value.key == "certificate.role"
            own = (await someone.deploy("hep")).machines[0]
            await running(grid, own.uid)
            await someone.stop_machine(own.uid)
            assert (await ended(grid, own.uid)).state is MachineState.STOPPED


async def test_the_room_that_one_disk_frees_is_given_to_the_next(image, tmp_path):
    other = tmp_path / "other.raw"
    await asyncio.to_thread(write_boot_disk, other, line="other", size=3 * MB)
    async with Grid(0) as grid:
        await grid.add_host("small", quota=5 * MB)
        await grid.client.add_disk(image, "first", Attribute(replica=1))
        await grid.until("first", held(1))
        await grid.client.add_disk(other, "second", Attribute(replica=1))
        assert (await grid.client.explain("second")).missing == 1
        await grid.client.remove_disk("first")
        await grid.until("second", held(1))
