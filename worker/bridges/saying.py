"""What webhooks and commands are told, as JSON.

Owns the shape, which whoever listens goes by: it has a version, and only grows within it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from ..plugins.contract import Replica

VERSION: Final = 1
What = Literal["started", "held", "dropping"]


def message(what: What, host: str, copies: Sequence[Replica]) -> bytes:
    """That these copies are held, all of them (`started`) or one more (`held`), or that one is to go (`dropping`)."""
    body = {"version": VERSION, "event": what, "host": host, "copies": [_copy(one) for one in copies]}
    return json.dumps(body, sort_keys=True).encode()


def delivery(body: bytes) -> str:
    """What names one message: the same for each attempt at telling it."""
    return hashlib.sha256(body).hexdigest()[:32]


def _copy(replica: Replica) -> dict[str, Any]:
    return {
        "uid": replica.uid,
        "name": replica.name,
        "root": replica.root,
        "size": replica.size,
        "path": str(replica.path),
        "attribute": replica.attribute,
        "since": replica.since.isoformat(),
    }
