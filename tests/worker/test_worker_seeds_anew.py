"""A machine that goes back to a snapshot finds a fresh token in its seed, and is to itself who it was."""

from __future__ import annotations

import asyncio
import io
import os
import time

import pycdlib
import pytest
from bitdew.worker.readiness import FRESH

from .test_worker_errands import KIB, running, saved_and_ended, well

SEEDED = {"seeded": True, "network": "user"}


@pytest.fixture
async def disk(service, disk_bytes):
    return await service.publish(disk_bytes(256 * KIB))


def told(home, uid):
    """What the seed in the folder of this machine tells."""
    iso, text = pycdlib.PyCdlib(), io.BytesIO()
    iso.open(str(home / "machines" / uid / "seed.iso"))
    iso.get_file_from_iso_fp(text, joliet_path="/meta-data")
    iso.close()
    return dict(line.split(": ", 1) for line in text.getvalue().decode().splitlines())


async def test_a_machine_that_goes_back_while_it_runs_is_told_a_fresh_token(service, start_worker, disk, home):
    async with start_worker():
        uid = await running(service, disk, **SEEDED)
        first = await asyncio.to_thread(told, home, uid)
        assert first["bitdew-token"] == "token-1"
        await well(service, uid, "snapshot", "a")
        await well(service, uid, "restore", "a")
        again = await asyncio.to_thread(told, home, uid)
        assert service.seeds == [uid, uid]
        assert again == first | {"bitdew-token": "token-2"}


async def test_what_goes_on_from_a_machine_that_ended_is_asked_for_by_its_own_uid_and_keeps_its_name(
    service, start_worker, disk, mock_host, home
):
    async with start_worker():
        uid = await saved_and_ended(service, disk, mock_host, **SEEDED)
        heir = service.launch(disk, continues=uid, snapshot="a", **SEEDED)
        await service.until_state(heir, "running")
        assert service.seeds == [uid, heir]
        kept = await asyncio.to_thread(told, home, uid)
        assert (kept["instance-id"], kept["local-hostname"]) == (uid, f"vm-{uid[:8]}")
        assert kept["bitdew-token"] == "token-2"


async def test_a_machine_goes_back_with_the_seed_that_it_had_where_no_other_is_given(
    service, start_worker, disk, mock_host, home
):
    async with start_worker():
        uid = await running(service, disk, **SEEDED)
        await well(service, uid, "snapshot", "a")
        service.no_seeds = True
        await well(service, uid, "restore", "a")
        assert mock_host.machines[uid].status.state == "running"
        assert (await asyncio.to_thread(told, home, uid))["bitdew-token"] == "token-1"


@pytest.mark.parametrize(("age", "tokens"), [(0.0, 1), (FRESH.total_seconds() + 1, 2)])
async def test_a_seed_that_waited_too_long_for_its_machine_is_asked_for_again(
    service, start_worker, disk, home, mock_host, age, tokens
):
    async with start_worker() as started:
        service.place(disk)
        await service.until_state(disk.uid, "held")
        driver = started.worker.sharings.hypervisors["mock"]
        reached = asyncio.Event()

        async def killed(_spec):
            reached.set()
            await asyncio.Event().wait()

        driver.prepare = killed
        uid = service.launch(disk, **SEEDED)
        await reached.wait()
        await started.crash()
    seed = home / "machines" / uid / "seed.iso"
    await asyncio.to_thread(os.utime, seed, (time.time() - age, time.time() - age))
    async with start_worker():
        await service.until_state(uid, "running")
        assert (await asyncio.to_thread(told, home, uid))["bitdew-token"] == f"token-{tokens}"
