"""What a machine is told when it begins: a token by which its own worker joins, and its user's words.

Owns who may ask. Only the host that was told to launch a machine hears what is for it, and only as long as it lives.
For a machine that goes back to a snapshot it asks again: the token in its old seed is spent, or has expired. One whose
host inside was shut out gets none any more: a snapshot from before brings nobody back.
"""

from __future__ import annotations

from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.states import MACHINE
from bitdew.trust.roles import Subject
from bitdew.wire.models import MachineSeed, TokenRequest

from ..catalog.registry import Registry
from .known import Known

TOKEN_SECONDS: Final = 3600.0
"""How long a machine has for booting and joining."""


class Seeds:
    """Tells hosts what their machines are to be told."""

    def __init__(self, known: Known, registry: Registry) -> None:
        self._known = known
        self._registry = registry

    async def seed(self, uid: str, caller: Subject) -> MachineSeed:
        """What the machine `uid` is told. Each call makes a token of its own, for one use.

        Raises:
            UserError: `machine.not-found`, if the caller was not told to launch such a machine, or it has ended.
        """
        found = await self._known.store.machines(uids=[Uid(uid)])
        if not found or found[0].host != caller.subject_id or found[0].state in MACHINE.ends():
            raise error("machine.not-found", f"This host has no machine {uid[:40]!r} to begin", uid=uid[:40])
        machine = found[0]
        deployment = (await self._known.store.deployments([machine.deployment]))[machine.deployment]
        token = None
        if deployment.network != "none" and not await self._registry.is_shut_out(machine.uid):
            request = TokenRequest(role="worker", uses=1, seconds=TOKEN_SECONDS, note=f"machine {machine.uid}")
            token = (await self._registry.create_token(request, caller.subject_id, machine.uid)).token
        return MachineSeed(token=token, user_data=await self._known.store.user_data(machine.deployment))
