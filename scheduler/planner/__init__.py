"""The planner: facts and an instant in, actions out.

Pure: it owns no clock, does no I/O and changes nothing that it is given. Policies suggest, one arbiter commits
and alone enforces the invariants, and `explain` tells by the same code why.
"""

from .actions import Action, Drop, Halt, Launch, Place, Plan, Refusal, Wake
from .eligibility import HYPERVISORS, HostJudgement
from .explain import Explanation, MachineJudgement, explain
from .round import plan
from .snapshot import DatumRow, DeploymentRow, HostRow, MachineRow, PlacementRow, PlannerSettings, Snapshot

__all__ = [
    "HYPERVISORS",
    "Action",
    "DatumRow",
    "DeploymentRow",
    "Drop",
    "Explanation",
    "Halt",
    "HostJudgement",
    "HostRow",
    "Launch",
    "MachineJudgement",
    "MachineRow",
    "Place",
    "PlacementRow",
    "Plan",
    "PlannerSettings",
    "Refusal",
    "Snapshot",
    "Wake",
    "explain",
    "plan",
]
