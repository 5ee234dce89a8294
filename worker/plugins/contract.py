"""What a plug-in of the worker is: the calls that it gets, and what each promises.

Owns the contract, for the developers of plug-ins. It must not know how or when the calls are made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

GROUP: Final = "bitdew.worker.plugins"
"""The entry points that are looked at: each names a class, or a function that makes a plug-in."""

CALL_SECONDS: Final = 10.0
"""How long one call may take, where the plug-in does not say."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A verified copy on this host.

    Attributes:
        uid: The datum.
        name: The datum's name.
        root: Its content identity: the BitTorrent v2 pieces root, hexadecimal.
        size: Bytes.
        path: The file; of a folder its archive. It is only to be read: it is offered to other hosts, and machines boot
            from it.
        attribute: The name of its attribute, as far as this host was told; "" if that has none.
        since: When this host held it first, UTC.
    """

    uid: str
    name: str
    root: str
    size: int
    path: Path
    attribute: str
    since: datetime


class Plugin:
    """A plug-in: override what you want to be told. Every method may be a plain or an `async` one.

    The calls to one plug-in come one at a time, on a thread that is the plug-in's own; what it does there keeps nobody
    else waiting. A call that raises, or takes longer than `seconds`, is made again later: each thing is told at
    least once, also over restarts of the worker, and may be told twice. What came and went while a plug-in could not be
    told is not told.

    Attributes:
        seconds: How long one call may take. An `async` one is cancelled then. A plain one can't be: the plug-in is told
            nothing more until it has returned.
        again_seconds: How often `started` is told again while the worker runs; 0 for never. For those who pass the
            truth on to something that may forget it.
        remark: What the host's owner should know of the plug-in; `bitdew worker status` shows it.
        whole: Be told by `started` alone, with all copies at each change.
    """

    seconds: float = CALL_SECONDS
    again_seconds: float = 0.0
    remark: str = ""
    whole: bool = False

    def started(self, held: Sequence[Replica]) -> Awaitable[None] | None:
        """These copies are held, and no others: the truth when the worker starts, before anything else is told."""

    def held(self, copy: Replica) -> Awaitable[None] | None:
        """`copy` is held: every byte was verified, and is on the disk."""

    def dropping(self, copy: Replica) -> Awaitable[None] | None:
        """`copy` is about to go, or was found not to be what was verified: use it no more.

        Its bytes stay until this has returned, or its time is over. A plug-in that could not be told in time is told
        afterwards, when the file is gone.
        """

    def ended(self) -> Awaitable[None] | None:
        """The worker ends in order. The copies stay."""
