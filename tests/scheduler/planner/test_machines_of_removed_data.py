"""A machine that waits for a disk which its owner removes would wait for ever: it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bitdew.scheduler.planner import DatumRow, DeploymentRow, Halt, HostIndex, MachineRow, Snapshot, plan

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.ids import ContentRoot, Uid
from bitdew.core.states import MachineState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_machine_without_a_host_ends_when_its_disk_is_removed():
    uid, deployment = Uid("d" * 32), Uid("e" * 32)
    data = Data(uid, "hep", ContentRoot("0" * 64), 100, 64, NOW - timedelta(hours=1), "o")
    machine = MachineRow(Uid("a" * 32), deployment, uid, None, MachineState.REQUESTED)
    snapshot = Snapshot(
        hosts=HostIndex(),
        data={uid: DatumRow(data, Attribute(), Uid("f" * 32), alive=False)},
        deployments=(DeploymentRow(deployment, uid, 1, 1, 1, NOW),),
        machines=(machine,),
    )
    (action,) = plan(snapshot, NOW).actions
    assert isinstance(action, Halt)
    assert (action.machine_uid, action.host_id) == (machine.uid, None)
    assert "hep was removed" in action.cause
