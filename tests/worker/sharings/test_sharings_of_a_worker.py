"""A worker announces what its volunteer shares, as it is now, and is told at run time what that is."""

from __future__ import annotations

import asyncio
import json

import pytest
from bitdew.worker.adjusting import change_limits
from bitdew.worker.limits import LimitsChange, changed
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.sharings import offers
from bitdew.worker.sharings.declaration import Declaration
from bitdew.worker.sharings.desk import show_sharings

from bitdew.core.errors import UserError


def announced(service):
    reports = [sync.host for sync in service.syncs if sync.host is not None]
    return {one.name: one.version for one in reports[-1].sharings} if reports else {}


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(offers, "LOOK_SECONDS", 0.05)


async def test_the_first_report_has_what_is_shared(service, start_worker, programs):
    programs("tool", "sleep 0.3; echo 1.0")
    async with start_worker(sharings={"tool": {"command": ["tool"]}}):
        await service.until(lambda: service.syncs)
        first = next(sync.host for sync in service.syncs if sync.host is not None)
        assert {one.name: one.version for one in first.sharings} == {"mock": "1.0", "tool": "1.0"}


async def test_a_running_worker_shares_withdraws_and_keeps_what_it_is_told(service, start_worker, programs, home):
    tool = programs("tool", "echo 1.0")
    async with start_worker() as started:
        await service.until(lambda: announced(service) == {"mock": "1.0"})
        await change_limits(home, LimitsChange(share={"tool": Declaration(command=("tool",))}))
        await service.until(lambda: announced(service) == {"mock": "1.0", "tool": "1.0"})
        view = await show_sharings(home)
        assert (view.running, [(one.name, one.kind, one.version) for one in view.sharings]) == (
            True,
            [("mock", "hypervisor", "1.0"), ("tool", "application", "1.0")],
        )
        assert view.sharings[1].programs == {"tool": str(tool)}
        assert started.worker.sharings.offers.programs("tool") == {"tool": tool}
        tool.unlink()
        await service.until(lambda: announced(service) == {"mock": "1.0"})
        view = await show_sharings(home, again=True)
        assert view.sharings[1].why == "tool is not there, or can't be run"
        programs("tool", "echo 1.1")
        await service.until(lambda: announced(service) == {"mock": "1.0", "tool": "1.1"})
        await change_limits(home, LimitsChange(unshare=["tool"]))
        await service.until(lambda: announced(service) == {"mock": "1.0"})
        told = [event.text for event in started.events if event.kind == "sharing"]
    assert told == [
        "tool 1.0 is offered",
        "tool is not offered: tool is not there, or can't be run",
        "tool 1.1 is offered",
        "tool is not offered",
    ]
    assert json.loads(await asyncio.to_thread((home / "worker.json").read_text)).get("sharings") is None


async def test_a_worker_at_rest_is_changed_for_its_next_start_and_tried_here(home, programs):
    programs("tool", "echo 1.0")
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7").save)
    await change_limits(home, LimitsChange(share={"tool": Declaration(command=("tool",)), "python3": Declaration()}))
    view = await show_sharings(home)
    assert (view.running, view.name) == (False, "pc-7")
    assert [(one.name, one.offered) for one in view.sharings] == [("python3", True), ("tool", True)]
    kept = await asyncio.to_thread(WorkerSettings.load, home)
    assert kept.sharings.keys() == {"tool", "python3"}


def test_what_is_not_shared_can_not_be_withdrawn(tmp_path):
    with pytest.raises(UserError) as refused:
        changed(WorkerSettings(home=tmp_path), LimitsChange(unshare=["tool"]))
    assert refused.value.key == "sharing.not-found"


def test_a_hypervisor_can_not_be_declared_by_a_change(tmp_path):
    with pytest.raises(UserError) as refused:
        changed(WorkerSettings(home=tmp_path), LimitsChange(share={"qemu": Declaration(command=("sh",))}))
    assert refused.value.key == "input.invalid"
