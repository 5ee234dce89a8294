"""Machines and deployments by the beginnings of their uids, and who may touch them."""

from __future__ import annotations

from typing import Final

from bitdew.core.errors import error
from bitdew.trust.roles import Role, Subject

from ..catalog.data_store import Datum, Disk
from .records import DeploymentRecord, MachineRecord
from .store import SchedulerStore

SHORTEST_PREFIX: Final = 4
"""Digits of a machine's, deployment's or job's uid that name it, where they name only one."""


async def find_deployment(store: SchedulerStore, text: str) -> DeploymentRecord:
    """The deployment whose uid begins with `text`.

    Raises:
        UserError: `deployment.not-found`; `input.invalid`, if several begin so.
    """
    found = await store.all_deployments(prefix=text) if len(text) >= SHORTEST_PREFIX else []
    if len(found) > 1:
        raise error("input.invalid", f"{text!r} is the beginning of {len(found)} deployments", do="Give more digits.")
    if not found:
        raise error("deployment.not-found", f"There is no deployment {text[:40]!r}", uid=text[:40])
    return found[0]


async def find_machine(store: SchedulerStore, text: str) -> MachineRecord:
    """The machine whose uid begins with `text`.

    Raises:
        UserError: `machine.not-found`; `input.invalid`, if several begin so.
    """
    found = await store.machines(prefix=text) if len(text) >= SHORTEST_PREFIX else []
    if len(found) > 1:
        raise error("input.invalid", f"{text!r} is the beginning of {len(found)} machines", do="Give more digits.")
    if not found:
        raise error("machine.not-found", f"There is no machine {text[:40]!r}", uid=text[:40])
    return found[0]


async def own_machine(store: SchedulerStore, text: str, caller: Subject) -> MachineRecord:
    """The machine whose uid begins with `text`, for its user or an operator.

    Raises:
        UserError: as `find_machine`; `certificate.role` for anyone else.
    """
    machine = await find_machine(store, text)
    require_owner((await store.deployments([machine.deployment]))[machine.deployment], caller)
    return machine


def require_owner(deployment: DeploymentRecord, caller: Subject) -> None:
    """Refuse whoever is neither a deployment's user nor an operator.

    Raises:
        UserError: `certificate.role`.
    """
    if caller.role is not Role.OPERATOR and deployment.owner != caller.subject_id:
        why = "only whoever deployed it or an operator may"
        raise error("certificate.role", f"Deployment {deployment.uid[:8]} is not yours", why=why)


def require_usable(disk: Datum) -> None:
    """Refuse a disk from which no more machines are to run.

    Raises:
        UserError: `disk.deprecated`.
    """
    if isinstance(disk, Disk) and disk.deprecated:
        raise error("disk.deprecated", f"{disk.data.name} is deprecated", why=disk.deprecated, name=disk.data.name)
