"""A QEMU that is replaced or removed while the worker runs is what it is now, and not what it was."""

from __future__ import annotations

import asyncio

from bitdew.worker.hypervisors.qemu import QemuHypervisor
from bitdew.worker.sharings.drivers import Drivers

from bitdew.clock import SystemClock

GREETING = """echo '{"QMP": {"version": {"qemu": {"major": %d, "minor": 2, "micro": 0}}}}'"""


async def test_it_is_asked_again_when_its_program_is_another(programs):
    programs("qemu-img", "")
    old = programs("a-qemu", GREETING % 8)
    driver = QemuHypervisor(binary="a-qemu", accelerator="tcg")
    drivers = Drivers(SystemClock(), lambda *_: None)
    await drivers.probe([driver])
    assert drivers.found["qemu"].sharing.version == "8.2.0"
    assert drivers.found["qemu"].programs[0] == str(old)
    assert await asyncio.to_thread(drivers._changed) == []

    programs("a-qemu", GREETING % 9)
    assert await asyncio.to_thread(drivers._changed) == [driver]
    await drivers._ask([driver])
    assert drivers.found["qemu"].sharing.version == "9.2.0"

    await asyncio.to_thread(old.unlink)
    await drivers._ask(await asyncio.to_thread(drivers._changed))
    assert drivers.found == {}
    assert "a-qemu not found" in driver.missing
    assert list(drivers.hypervisors) == ["qemu"], "its machines are still to be ended"
