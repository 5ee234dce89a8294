"""Tells a webhook of copies: a POST of JSON, signed with a secret that both sides have.

Owns the signature: `X-BitDew-Signature: t=SECONDS,v1=HEX`, where HEX is HMAC-SHA-256 over `SECONDS.BODY` and SECONDS is
when it was sent, so that an old message can be told from a new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bitdew.core.errors import error
from bitdew.wire.door import door_url
from bitdew.wire.door_call import call_door

from ..plugins.contract import Plugin, Replica
from .saying import What, delivery, message
from .settings import WebhookBridge

CALL_SECONDS: Final = 10.0
SHORTEST_SECRET: Final = 16
LONGEST_SECRET: Final = 4096


class Webhook(Plugin):
    """The plug-in."""

    def __init__(self, bridge: WebhookBridge, host: str) -> None:
        """Nothing is sent yet. `host` is this host's name."""
        self._url = door_url(bridge.url)
        self._secret_file = Path(bridge.secret_file)
        self._host = host
        self.seconds = CALL_SECONDS + 1.0

    async def started(self, held: Sequence[Replica]) -> None:
        """Send what is held."""
        await self._send("started", held)

    async def held(self, copy: Replica) -> None:
        """Send that `copy` is held."""
        await self._send("held", [copy])

    async def dropping(self, copy: Replica) -> None:
        """Send that `copy` is to go."""
        await self._send("dropping", [copy])

    async def _send(self, what: What, copies: Sequence[Replica]) -> None:
        body = message(what, self._host, copies)
        secret = await asyncio.to_thread(read_secret, self._secret_file)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "X-BitDew-Delivery": delivery(body),
            "X-BitDew-Signature": f"t={now},v1={signature(secret, now, body)}",
        }
        await call_door("POST", self._url, body=body, headers=headers, seconds=CALL_SECONDS)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """What proves that `body` was sent at `seconds` since the epoch by one who has `secret`; hexadecimal."""
    return hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()


def read_secret(path: Path) -> bytes:
    """The secret in `path`, without white space around it. Blocks.

    Raises:
        UserError: `input.invalid`, if it is too short or too long to be one, or others on this machine may read it.
        HostError: `storage.failed`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_SECRET + 1)
            mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as cause:
        raise error("storage.failed", f"The secret in {path} can't be read", why=str(cause.strerror)) from cause
    if mode & 0o077:
        raise error("input.invalid", f"Others may read the secret in {path}", do=f"chmod 600 {path}")
    secret = raw.strip()
    if len(secret) < SHORTEST_SECRET or len(raw) > LONGEST_SECRET:
        why = f"it has {len(secret)} bytes, and {SHORTEST_SECRET} to {LONGEST_SECRET} are allowed"
        raise error("input.invalid", f"There is no secret in {path}", why=why, do=f"openssl rand -hex 32 > {path}")
    return secret
