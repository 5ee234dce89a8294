"""The one suite that every driver must pass: the mock as well as the real QEMU."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.hypervisor import Handle, Hypervisor, MachineSpec, MachineStatus

LINE = b"bitdew boot disk says hello\r\n"


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def launch(driver: Hypervisor, spec: MachineSpec) -> Handle:
    await driver.prepare(spec)
    return await driver.start(spec)


async def booted(driver: Hypervisor, spec: MachineSpec) -> None:
    console = driver.console(spec.folder)
    async with asyncio.timeout(60):
        while LINE not in console.read_bytes():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_host_that_has_the_hypervisor_is_fingerprinted(bench):
    driver = bench.driver()
    found = await driver.fingerprint()
    assert found is not None
    assert found.sharing.name == driver.name
    assert found.sharing.version
    assert driver.missing == ""


async def test_a_machine_boots_says_its_line_and_ends_by_itself(bench):
    driver, spec = bench.driver(), bench.spec()
    handle = await launch(driver, spec)
    assert await driver.wait(handle) == MachineStatus("stopped", "its system powered it off")
    assert await driver.status(handle) == MachineStatus("stopped", "its system powered it off")
    assert driver.console(spec.folder).read_bytes() == LINE
    assert bench.running(spec.uid) == 0


async def test_the_delivered_image_stays_as_it_was(bench):
    driver, spec = bench.driver(), bench.spec()
    before = digest(spec.image)
    handle = await launch(driver, spec)
    await driver.wait(handle)
    await driver.destroy(spec, handle)
    assert digest(spec.image) == before


async def test_two_machines_run_from_one_image_at_once(bench):
    driver = bench.driver(stays=True)
    specs = [bench.spec(stays=True) for _ in range(2)]
    assert specs[0].image == specs[1].image
    before = digest(specs[0].image)
    handles = [await launch(driver, spec) for spec in specs]
    for spec in specs:
        await booted(driver, spec)
    assert [bench.running(spec.uid) for spec in specs] == [1, 1]
    for spec, handle in zip(specs, handles, strict=True):
        await driver.destroy(spec, handle)
    assert digest(specs[0].image) == before


async def test_a_machine_that_stays_is_running_until_it_is_stopped(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await booted(driver, spec)
    assert await driver.status(handle) == MachineStatus("running")
    waiting = asyncio.create_task(driver.wait(handle))
    await driver.stop(handle, grace=0.2)
    assert (await waiting) == MachineStatus("stopped", "the worker ended it")
    assert bench.running(spec.uid) == 0
    await driver.stop(handle, grace=0.2)  # again: nothing happens


async def test_destroying_a_running_machine_ends_it_and_leaves_nothing_but_the_image(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = asyncio.create_task(driver.wait(handle))
    await asyncio.sleep(0)
    await driver.destroy(spec, handle)
    assert bench.running(spec.uid) == 0
    assert not spec.folder.exists()
    assert spec.image.exists()
    assert (await waiting).state == "stopped"
    assert (await driver.status(handle)).state == "stopped"
    await driver.destroy(spec, handle)  # again: nothing happens


async def test_a_machine_that_was_only_prepared_can_be_destroyed(bench):
    driver, spec = bench.driver(), bench.spec()
    await driver.prepare(spec)
    await driver.destroy(spec, None)
    assert not spec.folder.exists()


async def test_preparing_twice_keeps_what_is_there(bench):
    driver, spec = bench.driver(), bench.spec()
    await driver.prepare(spec)
    files = {path: path.stat().st_mtime_ns for path in spec.folder.iterdir() if path.stat().st_size}
    await driver.prepare(spec)
    assert {path: path.stat().st_mtime_ns for path in spec.folder.iterdir() if path.stat().st_size} == files


async def test_starting_a_running_machine_answers_with_its_handle(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    await driver.prepare(spec)
    first, second = await asyncio.gather(driver.start(spec), driver.start(spec))
    assert first == second == await driver.start(spec)
    assert bench.running(spec.uid) == 1
    await driver.destroy(spec, first)


async def test_starting_a_machine_that_ended_starts_nothing(bench):
    driver, spec = bench.driver(), bench.spec()
    handle = await launch(driver, spec)
    ended = await driver.wait(handle)
    assert await driver.start(spec) == handle
    assert bench.running(spec.uid) == 0
    assert await driver.status(handle) == ended


async def test_a_machine_that_was_not_prepared_does_not_start(bench):
    driver, spec = bench.driver(), bench.spec()
    with pytest.raises(BitDewError, match="not prepared") as caught:
        await driver.start(spec)
    assert caught.value.key == "hypervisor.failed"
    assert bench.running(spec.uid) == 0


async def test_a_restarted_worker_finds_its_machine_and_sees_it_end(bench):
    before, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(before, spec)
    await before.close()
    after = bench.driver(stays=True)
    restored = Handle(handle.driver, handle.uid, json.loads(json.dumps(handle.data)))
    assert await after.recover(restored)
    assert await after.status(restored) == MachineStatus("running")
    assert await after.start(spec) == handle
    assert bench.running(spec.uid) == 1
    waiting = asyncio.create_task(after.wait(restored))
    await after.stop(restored, grace=0)
    assert (await waiting) == MachineStatus("stopped", "the worker ended it")


async def test_a_restarted_worker_learns_how_a_machine_ended_meanwhile(bench):
    before, spec = bench.driver(), bench.spec()
    handle = await launch(before, spec)
    await before.wait(handle)
    await before.close()
    after = bench.driver()
    assert not await after.recover(handle)
    assert await after.wait(handle) == MachineStatus("stopped", "its system powered it off")


async def test_a_machine_that_crashes_has_failed(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = asyncio.create_task(driver.wait(handle))
    await booted(driver, spec)
    bench.crash(handle)
    ended = await waiting
    assert ended.state == "failed"
    assert "signal 9" in ended.reason
    assert await driver.status(handle) == ended


async def test_sweeping_ends_and_removes_what_nobody_knows(bench):
    driver = bench.driver(stays=True)
    known, unknown, prepared = (bench.spec(stays=True) for _ in range(3))
    handles = {spec: await launch(driver, spec) for spec in (known, unknown)}
    await driver.prepare(prepared)
    foreign = bench.machines / "notes of the volunteer"
    foreign.mkdir()
    swept = await driver.sweep(bench.machines, {known.uid})
    assert swept == sorted([unknown.uid, prepared.uid])
    assert [bench.running(spec.uid) for spec in (known, unknown)] == [1, 0]
    assert sorted(bench.machines.iterdir()) == sorted([known.folder, foreign])
    assert await driver.sweep(bench.machines, {known.uid}) == []
    await driver.destroy(known, handles[known])


async def test_sweeping_where_nothing_ever_was_finds_nothing(bench):
    assert await bench.driver().sweep(bench.folder / "nowhere", set()) == []


async def test_an_image_that_is_not_there_is_named(bench):
    driver, spec = bench.driver(), bench.spec(image=bench.folder / "absent.img")
    with pytest.raises(BitDewError, match=r"absent\.img") as caught:
        await driver.prepare(spec)
    assert caught.value.key == "storage.failed"


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(4096)], ids=["empty", "odd", "zeros"])
async def test_an_image_that_can_not_boot_is_refused_before_anything_runs(bench, content):
    image = bench.folder / "garbage.img"
    image.write_bytes(content)
    driver, spec = bench.driver(), bench.spec(image=image)
    with pytest.raises(BitDewError, match="bootable") as caught:
        await driver.prepare(spec)
    assert caught.value.key == "hypervisor.failed"
    assert not spec.folder.exists()


async def test_a_handle_is_data_that_survives_json(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    assert handle.driver == driver.name
    assert json.loads(json.dumps(handle.data)) == handle.data
    await driver.destroy(spec, handle)


async def test_a_handle_of_a_machine_that_never_was_is_not_recovered(bench):
    uid = new_uid()
    driver = bench.driver()
    handle = Handle(driver.name, uid, {"pid": 1, "folder": str(bench.machines / uid)})
    assert not await driver.recover(handle)
    assert (await driver.wait(handle)).state == "stopped"
