"""The planner: facts and an instant in, actions out.

Pure: it owns no clock, does no I/O and changes nothing that it is given. Policies suggest, one arbiter commits
and alone enforces the invariants, and `explain` tells by the same code why.
"""

from .actions import Action, Drop, Expire, Fate, Halt, Launch, Outlook, Place, Plan, Refusal, Renew
from .census import Census, Distrib
from .eligibility import HYPERVISORS, HostJudgement
from .explain import Explanation, MachineJudgement, explain
from .host_index import Count, HostIndex
from .round import plan
from .rows import DatumRow, DeploymentRow, HostRow, MachineRow, PlacementRow, TargetRow
from .snapshot import PlannerSettings, Snapshot

__all__ = [
    "HYPERVISORS",
    "Action",
    "Census",
    "Count",
    "DatumRow",
    "DeploymentRow",
    "Distrib",
    "Drop",
    "Expire",
    "Explanation",
    "Fate",
    "Halt",
    "HostIndex",
    "HostJudgement",
    "HostRow",
    "Launch",
    "MachineJudgement",
    "MachineRow",
    "Outlook",
    "Place",
    "PlacementRow",
    "Plan",
    "PlannerSettings",
    "Refusal",
    "Renew",
    "Snapshot",
    "TargetRow",
    "explain",
    "plan",
]
