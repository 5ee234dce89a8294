"""What a machine's user asks for is done once, in turn with what the host's owner wants, and told."""

from __future__ import annotations

import asyncio

import pytest
from bitdew.worker.activity.guard import PauseRequest
from bitdew.worker.daemon import Worker

from bitdew.core.errors import error
from bitdew.hypervisor import Capabilities
from bitdew.testing.mock_hypervisor import MockHypervisor
from bitdew.wire import limits

KIB = 1024


@pytest.fixture
async def disk(service, disk_bytes):
    return await service.publish(disk_bytes(256 * KIB))


async def running(service, disk, **launch):
    if service.state(disk.uid) != "held":
        service.place(disk)
        await service.until_state(disk.uid, "held")
    uid = service.launch(disk, **launch)
    await service.until_state(uid, "running")
    return uid


async def refusal(service, uid, *asked):
    """Why nothing came of it: its key."""
    report = await service.asked(uid, *asked)
    assert report.reason is not None
    return report.reason.key


async def well(service, uid, *asked):
    report = await service.asked(uid, *asked)
    assert report.reason is None, report.reason
    return report


async def owner(worker: Worker, *, here: bool):
    """The host's owner needs it, or not any more."""
    await (worker.guard.stop(PauseRequest()) if here else worker.guard.go_on())


async def test_a_machine_stands_still_at_its_users_word_until_it_is_resumed_and_over_a_restart(
    service, start_worker, disk, mock_host
):
    async with start_worker() as started:
        uid = await running(service, disk)
        for _ in range(2):
            await well(service, uid, "pause")
        await service.until_state(uid, "paused")
        assert service.machines[uid].reason.key == "machine.paused"
        assert mock_host.machines[uid].status.state == "paused"
        await started.crash()
    async with start_worker():
        await asyncio.sleep(0.5)
        assert mock_host.machines[uid].status.state == "paused"
        for _ in range(2):
            await well(service, uid, "resume")
        await service.until_state(uid, "running")
        assert mock_host.machines[uid].status.state == "running"


async def test_the_owner_comes_first_and_the_users_pause_outlasts_the_owners(service, start_worker, disk, mock_host):
    async with start_worker() as started:
        uid = await running(service, disk)
        await owner(started.worker, here=True)
        await service.until_state(uid, "paused")
        assert service.machines[uid].reason.key == "host.in-use"
        await well(service, uid, "pause")
        await owner(started.worker, here=False)
        await service.until(lambda: service.machines[uid].reason.key == "machine.paused")
        assert mock_host.machines[uid].status.state == "paused"
        await owner(started.worker, here=True)
        await service.until(lambda: service.machines[uid].reason.key == "host.in-use")
        assert await refusal(service, uid, "resume") == "host.in-use"
        assert mock_host.machines[uid].status.state == "paused"
        await owner(started.worker, here=False)  # its user's word was taken back meanwhile: nothing holds it now
        await service.until_state(uid, "running")


async def test_a_picture_comes_back_and_is_not_left_behind(service, start_worker, disk, home):
    async with start_worker():
        uid = await running(service, disk)
        report = await well(service, uid, "screenshot")
        assert report.picture.startswith(b"\x89PNG")
        assert not list((home / "machines" / uid).glob("*.png"))


async def test_a_picture_that_is_too_large_is_refused(service, start_worker, disk, monkeypatch):
    monkeypatch.setattr(limits, "PICTURE", 10)
    async with start_worker():
        uid = await running(service, disk)
        assert await refusal(service, uid, "screenshot") == "hypervisor.failed"


async def test_what_the_driver_can_not_do_is_refused_with_its_key_and_the_machine_runs_on(
    service, start_worker, disk, mock_host
):
    class Poor(MockHypervisor):
        capabilities = Capabilities(outlives_worker=True)

    async with start_worker(hypervisor=Poor(host=mock_host)):
        uid = await running(service, disk)
        for asked in (["pause"], ["resume"], ["screenshot"], ["snapshot", "a"], ["restore", "a"]):
            assert await refusal(service, uid, *asked) == "hypervisor.unable"
        assert service.machine(uid) == "running"


async def test_a_pause_that_fails_is_told_and_holds_nothing(service, start_worker, disk, mock_host):
    driver = MockHypervisor(host=mock_host)
    async with start_worker(hypervisor=driver):
        uid = await running(service, disk)
        driver.fail["pause"] = error("hypervisor.failed", "The mock would not")
        assert await refusal(service, uid, "pause") == "hypervisor.failed"
        await asyncio.sleep(0.5)
        assert service.machine(uid) == "running"


async def test_a_machine_goes_back_to_what_was_saved_and_its_console_goes_on(service, start_worker, disk, mock_host):
    async with start_worker():
        uid = await running(service, disk)
        await service.until(lambda: service.consoles.get(uid) == "booted\r\n")
        await well(service, uid, "snapshot", "a")
        await service.until(lambda: [s.name for s in service.machines[uid].snapshots] == ["a"])
        before = mock_host.machines[uid]
        await well(service, uid, "restore", "a")
        assert mock_host.machines[uid] is not before
        (mock_host.machines[uid].folder / "console.log").write_text("back\n")
        await service.until(lambda: service.consoles[uid] == "booted\r\nback\n")
        assert service.machine(uid) == "running"
        service.order("halt", uid)
        await service.until_state(uid, "stopped")


async def test_snapshots_have_names_of_their_own_are_few_and_are_asked_for_by_name(service, start_worker, disk):
    async with start_worker():
        uid = await running(service, disk)
        assert await refusal(service, uid, "restore", "a") == "snapshot.not-found"
        for number in range(limits.SNAPSHOTS):
            await well(service, uid, "snapshot", f"s{number}")
        assert await refusal(service, uid, "snapshot", "s0") == "input.invalid"
        assert await refusal(service, uid, "snapshot", "more") == "input.invalid"


async def test_a_snapshot_that_a_killed_worker_had_made_is_taken_over(service, start_worker, disk, mock_host):
    async with start_worker():
        uid = await running(service, disk)
        mock_host.machines[uid].saved["a"] = True
        await well(service, uid, "snapshot", "a")
        await well(service, uid, "restore", "a")


async def test_nothing_is_saved_where_the_memory_would_not_fit_into_what_is_lent(service, start_worker, disk):
    async with start_worker(quota=60 * KIB * KIB):
        uid = await running(service, disk, memory=2**26)
        assert await refusal(service, uid, "snapshot", "a") == "storage.full"
        assert service.machine(uid) == "running"


async def test_while_the_owner_needs_the_host_nothing_is_saved_or_restored(service, start_worker, disk):
    async with start_worker() as started:
        uid = await running(service, disk)
        await well(service, uid, "snapshot", "a")
        await owner(started.worker, here=True)
        await service.until_state(uid, "paused")
        assert await refusal(service, uid, "snapshot", "b") == "host.in-use"
        assert await refusal(service, uid, "restore", "a") == "host.in-use"
        await owner(started.worker, here=False)
        await service.until_state(uid, "running")


async def test_a_restore_that_fails_is_told_and_a_machine_that_survived_it_runs_on(
    service, start_worker, disk, mock_host
):
    driver = MockHypervisor(host=mock_host)
    async with start_worker(hypervisor=driver):
        uid = await running(service, disk)
        await well(service, uid, "snapshot", "a")
        driver.fail["restore"] = error("hypervisor.failed", "The mock would not")
        assert await refusal(service, uid, "restore", "a") == "hypervisor.failed"
        await asyncio.sleep(0.3)
        assert service.machine(uid) == "running"
        del driver.fail["restore"]
        await well(service, uid, "restore", "a")


async def test_machines_that_do_not_run_are_asked_in_vain(service, start_worker, disk):
    async with start_worker():
        waiting = service.launch(disk)
        await service.until_state(waiting, "waiting-for-disk")
        assert await refusal(service, waiting, "pause") == "machine.not-running"
        assert await refusal(service, "3" * 32, "pause") == "machine.not-found"
        assert (await service.asked("3" * 32, "clear")).reason is None
        assert await refusal(service, waiting, "clear") == "machine.not-running"


async def test_an_errand_that_a_restart_cut_off_is_told_to_have_been_interrupted(
    service, start_worker, disk, mock_host
):
    driver, began = MockHypervisor(host=mock_host), asyncio.Event()

    async def slow(handle, name):
        began.set()
        await asyncio.Event().wait()

    driver.snapshot = slow
    async with start_worker(hypervisor=driver) as started:
        uid = await running(service, disk)
        errand = service.ask(uid, "snapshot", "a")
        await began.wait()
        await started.crash()
    async with start_worker():
        await service.until(lambda: errand in service.results)
        assert service.results[errand].reason.key == "interrupted"
        service.results.clear()
        assert (await service.asked(uid, "pause")).reason is None
    async with start_worker() as started:  # told, and so forgotten
        await service.until(lambda: [s for s in service.syncs if s.full][2:])
        assert errand not in service.results
        assert errand not in {order.subject for order in started.worker._orders("errand")}


# After the machine's end ----------------------------------------------------------------------------------------------


async def saved_and_ended(service, disk, mock_host, **launch):
    uid = await running(service, disk, **launch)
    await well(service, uid, "snapshot", "a")
    mock_host.kill(uid)
    await service.until_state(uid, "failed")
    return uid


async def test_another_machine_goes_on_from_what_is_kept_of_one_that_ended_even_after_restarts(
    service, start_worker, disk, mock_host, home, until
):
    async with start_worker():
        uid = await saved_and_ended(service, disk, mock_host)
    async with start_worker() as started:
        await service.until(lambda: [s for s in service.syncs if s.full][1:])
        assert [s.name for s in service.machines[uid].snapshots] == ["a"]
        await owner(started.worker, here=True)
        heir = service.launch(disk, continues=uid, snapshot="a")
        await service.until_state(heir, "waiting-for-disk")
        await owner(started.worker, here=False)
        await service.until_state(heir, "running")
        assert mock_host.machines[uid].status.state == "running"
        assert list(started.worker.machines.machines) == [heir]
        assert service.consoles[uid]
        assert not service.consoles.get(heir), "what the other one wrote is not its own"
        await asyncio.to_thread((home / "machines" / uid / "console.log").write_text, "on")
        await service.until(lambda: service.consoles.get(heir) == "on")
        await started.crash()
    async with start_worker() as started:
        await service.until_state(heir, "running")
        assert mock_host.machines[uid].status.state == "running"
        assert [s.name for s in service.machines[heir].snapshots] == ["a"]
        service.order("halt", heir)
        await service.until_state(heir, "stopped")
        assert (home / "machines" / uid).exists()
        assert (await service.asked(heir, "clear")).reason is None
        assert not (home / "machines" / uid).exists()
        assert not started.worker.machines.machines
        late = service.launch(disk, continues=heir, snapshot="a")
        await service.until_state(late, "failed")
        assert service.machines[late].reason.key == "snapshot.not-found"


async def test_a_worker_that_leaves_in_order_keeps_what_was_saved(service, start_worker, disk, mock_host):
    async with start_worker():
        uid = await running(service, disk)
        await well(service, uid, "snapshot", "a")
    assert service.machines[uid].reason.key == "interrupted"
    async with start_worker():
        heir = service.launch(disk, continues=uid, snapshot="a")
        await service.until_state(heir, "running")


async def test_a_worker_killed_between_the_halves_of_handing_over_hands_over_once(
    service, start_worker, disk, mock_host, monkeypatch
):
    async with start_worker() as started:
        uid = await saved_and_ended(service, disk, mock_host)
        reached = asyncio.Event()

        async def killed(subject, generation):
            reached.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(started.worker._journal, "forget_machine", killed)
        heir = service.launch(disk, continues=uid, snapshot="a")
        await reached.wait()
        await started.crash()
    async with start_worker() as started:
        await service.until_state(heir, "running")
        assert list(started.worker.machines.machines) == [heir]
