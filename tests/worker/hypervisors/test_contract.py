"""The one suite that every driver must pass: the mock as well as the real QEMU."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

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


# Standing still -------------------------------------------------------------------------------------------------------


async def test_a_paused_machine_stands_still_until_it_is_resumed(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    image = digest(spec.image)
    handle = await launch(driver, spec)
    began = time.monotonic()
    await driver.pause(handle)
    paused = time.monotonic()
    said = driver.console(spec.folder).read_bytes()
    await driver.pause(handle)  # again: nothing happens
    assert await driver.status(handle) == MachineStatus("paused")
    await asyncio.sleep(0.5)
    assert driver.console(spec.folder).read_bytes() == said
    resumed = time.monotonic()
    await driver.resume(handle)
    running = time.monotonic()
    await driver.resume(handle)
    assert await driver.status(handle) == MachineStatus("running")
    await booted(driver, spec)
    await driver.destroy(spec, handle)
    assert digest(spec.image) == image
    assert max(paused - began, running - resumed) < 1.0


async def test_a_paused_machine_can_be_ended(bench):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await driver.pause(handle)
    waiting = asyncio.create_task(driver.wait(handle))
    await driver.stop(handle, grace=0.2)
    assert await waiting == MachineStatus("stopped", "the worker ended it")
    assert bench.running(spec.uid) == 0


async def test_a_restarted_worker_finds_a_paused_machine_paused(bench):
    before, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(before, spec)
    await before.pause(handle)
    await before.close()
    after = bench.driver(stays=True)
    assert await after.recover(handle)
    assert await after.status(handle) == MachineStatus("paused")
    await after.resume(handle)
    await booted(after, spec)
    await after.destroy(spec, handle)


async def test_a_machine_that_has_ended_is_neither_paused_nor_pictured(bench, tmp_path):
    driver, spec = bench.driver(), bench.spec()
    handle = await launch(driver, spec)
    ended = await driver.wait(handle)
    for attempt in (driver.pause(handle), driver.resume(handle), driver.screenshot(handle, tmp_path / "screen.png")):
        with pytest.raises(BitDewError) as caught:
            await attempt
        assert caught.value.key == "hypervisor.failed"
    assert not (tmp_path / "screen.png").exists()
    assert await driver.status(handle) == ended


async def test_a_screenshot_is_a_picture(bench, tmp_path):
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await booted(driver, spec)
    before = set(spec.folder.iterdir())
    await driver.screenshot(handle, tmp_path / "screen.png")
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert set(spec.folder.iterdir()) == before
    await driver.destroy(spec, handle)


# What it is given -----------------------------------------------------------------------------------------------------


async def test_a_machine_with_a_seed_boots_from_its_disk_and_leaves_the_seed_as_it_was(bench):
    seed = bench.iso()
    before = digest(seed)
    driver, spec = bench.driver(), bench.spec(seed=seed)
    if not driver.capabilities.seed:
        with pytest.raises(BitDewError, match="a seed"):
            await driver.prepare(spec)
        return
    handle = await launch(driver, spec)
    assert (await driver.wait(handle)).state == "stopped"
    assert driver.console(spec.folder).read_bytes() == LINE
    await driver.destroy(spec, handle)
    assert digest(seed) == before


async def test_what_is_no_iso_is_not_given_to_a_machine(bench):
    driver = bench.driver()
    for seed in (bench.image(), bench.folder / "nothing.iso"):
        with pytest.raises(BitDewError) as caught:
            await driver.prepare(bench.spec(stays=True, seed=seed))
        assert caught.value.key in {"hypervisor.failed", "storage.failed"}


# Its saved state ------------------------------------------------------------------------------------------------------


@pytest.fixture
def saving(bench):
    if not bench.driver().capabilities.snapshot:
        pytest.skip("this driver promises no snapshots")
    return bench


async def test_a_machine_goes_on_from_its_snapshot_under_another_worker(saving):
    before, spec = saving.driver(stays=True), saving.spec(stays=True)
    image = digest(spec.image)
    handle = await launch(before, spec)
    await booted(before, spec)
    await before.snapshot(handle, "said")
    assert await before.status(handle) == MachineStatus("running")
    waiting = asyncio.create_task(before.wait(handle))
    await before.stop(handle, grace=0)
    assert (await waiting).state == "stopped"
    await before.close()

    after = saving.driver(stays=True)
    again = await after.restore(spec, "said")
    assert await after.status(again) == MachineStatus("running")
    assert saving.running(spec.uid) == 1
    await asyncio.sleep(1.0)
    assert after.console(spec.folder).read_bytes() == b"", "it has said its line, and does not boot anew"
    assert await after.start(spec) == again
    third = await after.restore(spec, "said")  # while it runs
    assert await after.status(third) == MachineStatus("running")
    assert saving.running(spec.uid) == 1
    await after.destroy(spec, third)
    assert saving.running(spec.uid) == 0
    assert not spec.folder.exists()
    assert digest(spec.image) == image


async def test_a_machine_saved_while_paused_before_its_line_says_it_when_restored(saving):
    driver, spec = saving.driver(stays=True), saving.spec(stays=True)
    handle = await launch(driver, spec)
    await driver.pause(handle)
    assert driver.console(spec.folder).read_bytes() == b""
    await driver.snapshot(handle, "early")
    assert await driver.status(handle) == MachineStatus("paused")
    again = await driver.restore(spec, "early")
    await booted(driver, spec)
    await driver.stop(again, grace=0)
    assert await driver.status(again) == MachineStatus("stopped", "the worker ended it")


async def test_a_snapshot_that_can_not_be_is_refused_and_the_machine_runs_on(saving):
    driver, spec = saving.driver(stays=True), saving.spec(stays=True)
    handle = await launch(driver, spec)
    await driver.snapshot(handle, "1")
    for name in ("1", "--live", "", "a b", "a/b", "n" * 200):
        with pytest.raises(BitDewError) as caught:
            await driver.snapshot(handle, name)
        assert caught.value.key == "input.invalid"
    for name, key in (("2", "hypervisor.failed"), ("../x", "input.invalid")):
        with pytest.raises(BitDewError) as caught:
            await driver.restore(spec, name)
        assert caught.value.key == key
    assert await driver.status(handle) == MachineStatus("running")
    await driver.destroy(spec, handle)
    with pytest.raises(BitDewError) as caught:
        await driver.snapshot(handle, "3")
    assert caught.value.key == "hypervisor.failed"
