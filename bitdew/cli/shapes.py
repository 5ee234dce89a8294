"""Which documents each command prints with `--json`. The reference is made from this table, and tests hold it.

Owns the table. A command may print one of several: by its options, or one after the other, a line each. A failure is
an `ErrorReply`, whatever the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic import BaseModel

SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "attr ls": ("AttributeList",),
    "attr rm": ("Removed",),
    "attr set": ("AttributeList",),
    "attr show": ("AttributeShown",),
    "backup": ("BackupMade",),
    "data attr": ("AttributeChosen",),
    "data get": ("DataGot",),
    "data ls": ("DataList",),
    "data put": ("DataPut", "DiskAdded", "Offered", "CopyMoved", "OfferHeld"),
    "data rm": ("Removed",),
    "data show": ("DataView", "DiskView"),
    "data watch": ("DataEvent",),
    "data where": ("WhereReply",),
    "demo": ("DemoReport",),
    "disk add": ("DiskAdded", "Offered", "CopyMoved", "OfferHeld"),
    "disk build": ("DiskBuilt",),
    "disk deprecate": ("DiskView",),
    "disk explain": ("ExplainReply",),
    "disk ls": ("DiskList",),
    "disk make": ("DiskMade",),
    "disk rm": ("Removed",),
    "disk show": ("DiskView",),
    "disk where": ("WhereReply",),
    "explain": ("ExplainReply",),
    "health": ("ServiceHealth",),
    "host drain": ("DrainView",),
    "host explain": ("DrainView",),
    "host ls": ("HostList",),
    "host revoke": ("HostRevoked",),
    "host show": ("HostView",),
    "host undrain": ("DrainView",),
    "job cancel": ("JobList", "StandingView"),
    "job explain": ("JobExplanation", "StandingExplanation"),
    "job logs": (
        "LogReply",
        "LogChunk",
    ),
    "job ls": ("JobList", "StandingList"),
    "job results": ("ResultsFetched",),
    "job rm": ("JobsRemoved",),
    "job show": ("JobView", "StandingView"),
    "job submit": ("JobList", "StandingView"),
    "job wait": ("JobList",),
    "profile ls": ("ProfileList",),
    "profile rm": ("ProfileRemoved",),
    "profile show": ("ProfileShown",),
    "profile use": ("ProfileUsed",),
    "restore": ("BackupRestored",),
    "serve": ("ServiceReady", "OutputLeftOut"),
    "token create": ("TokenMade",),
    "token ls": ("TokenList",),
    "token revoke": ("TokenRevoked",),
    "top": ("GridPicture", "GridAway"),
    "user join": ("ProfileView",),
    "user show": ("ProfileView",),
    "vm deploy": ("DeploymentView", "ConsoleReply"),
    "vm deployments": ("DeploymentList",),
    "vm drain": ("MachinesDrained",),
    "vm explain": ("DeploymentExplanation",),
    "vm logs": ("ConsoleReply",),
    "vm ls": ("MachineList",),
    "vm pause": ("ErrandView",),
    "vm restore": ("ErrandView",),
    "vm resume": ("ErrandView",),
    "vm rm": ("Removed",),
    "vm scale": ("DeploymentView",),
    "vm screenshot": ("ScreenPictured",),
    "vm show": ("DeploymentView",),
    "vm snapshot": ("ErrandView",),
    "vm snapshots": ("SnapshotsSaved",),
    "vm stop": ("MachineView", "DeploymentView"),
    "worker bridge command": ("BridgesView",),
    "worker bridge ls": ("BridgesView",),
    "worker bridge rm": ("BridgesView",),
    "worker bridge webhook": ("BridgesView",),
    "worker bridge xwhep": ("BridgesView",),
    "worker check": ("CheckView",),
    "worker install-service": ("UnitInstalled", "UnitText"),
    "worker join": ("WorkerReady", "WorkerEvent", "WorkerJoined", "OutputLeftOut"),
    "worker leave": ("WorkerLeft", "WorkerStays"),
    "worker limits": ("LimitsView",),
    "worker pause": ("StatusView",),
    "worker resume": ("StatusView",),
    "worker rules": ("WorkerRules",),
    "worker run": ("WorkerReady", "WorkerEvent", "OutputLeftOut"),
    "worker settings": ("SettingsView",),
    "worker share add": ("SharingsView",),
    "worker share known": ("KnownSharings",),
    "worker share ls": ("SharingsView",),
    "worker share rm": ("SharingsView",),
    "worker status": ("StatusView",),
    "worker uninstall-service": ("UnitRemoved",),
}


def models() -> dict[str, type[BaseModel]]:
    """The models of all these, by name."""
    from bitdew.wire import models as wire
    from bitdew.worker.bridges.desk import BridgesView
    from bitdew.worker.checking.findings import CheckView
    from bitdew.worker.configuration.desk import SettingsView
    from bitdew.worker.limits import LimitsView
    from bitdew.worker.sharings.desk import SharingsView
    from bitdew.worker.status import StatusView

    from . import documents, worker_documents

    worker = (BridgesView, CheckView, SettingsView, LimitsView, SharingsView, StatusView)
    found: dict[str, type[BaseModel]] = {one.__name__: one for one in worker}
    for name in {name for names in SHAPES.values() for name in names} - set(found):
        found[name] = next(
            getattr(module, name) for module in (documents, worker_documents, wire) if hasattr(module, name)
        )
    return found
