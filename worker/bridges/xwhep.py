"""Tells the XtremWeb-HEP worker on this host which data packages it has, and where.

Owns what its door is sent: `GET /shareddata?datapackagename=NAME,…&datapackagepath=PATH,…`. Each call replaces what the
door had from the one before, so that every call carries the whole list, and an empty one withdraws everything. The door
wakes its worker, and works that need one of these packages match the host. What it remembers can't be read, so that it
is told again and again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from yarl import URL

from bitdew.wire.door import door_url
from bitdew.wire.door_call import call_door

from ..plugins.contract import Plugin, Replica
from .settings import XwhepBridge

CALL_SECONDS: Final = 5.0
LONGEST_REQUEST: Final = 7000
"""Bytes of the URL: a server of Java takes 8 KiB of a request's head by default."""
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MOST_NAMED: Final = 5


class XwhepDoor(Plugin):
    """The plug-in. It is told the whole list at each change."""

    whole = True

    def __init__(self, bridge: XwhepBridge) -> None:
        """Nothing is called yet."""
        self._url = door_url(bridge.url, plain_elsewhere=bridge.elsewhere) / "shareddata"
        self.again_seconds = bridge.again
        self.seconds = CALL_SECONDS + 1.0

    async def started(self, held: Sequence[Replica]) -> None:
        """Have the door share these, and nothing else.

        Raises:
            HostError: `bridge.unreachable`.
        """
        url, left_out = request_for(self._url, held)
        self.remark = _told(left_out)
        await call_door("GET", url, seconds=CALL_SECONDS)


def request_for(door: URL, held: Iterable[Replica]) -> tuple[URL, dict[str, str]]:
    """What the door is asked for so that it shares `held`, and why some of it can't be told, by name.

    The names and the paths are two lists in one order, the copy that is held longest first, so that one that comes
    later never puts another out. Lists are separated by commas and nothing escapes one: a name or path with a comma
    would stand for something else, and so might one with a blank.
    """
    told: dict[str, Replica] = {}
    left_out: dict[str, str] = {}
    length = len(str(_url(door, [])))
    for replica in sorted(held, key=lambda one: (one.since, one.uid)):
        if not _NAME.fullmatch(replica.name):
            left_out[replica.name] = "its name has other characters than letters, digits, '.', '_' and '-'"
        elif not _fits(str(replica.path)):
            left_out[replica.name] = "its path has a comma, or a blank at one of its ends, or control characters"
        elif replica.name in told:
            left_out[replica.name] = "another datum with this name is held longer"
        elif (longer := length + _length(replica)) > LONGEST_REQUEST:
            left_out[replica.name] = "the list is as long as the door can be told"
        else:
            told[replica.name] = replica
            length = longer
    return _url(door, list(told.values())), left_out


def _url(door: URL, told: Sequence[Replica]) -> URL:
    names, paths = ",".join(one.name for one in told), ",".join(str(one.path) for one in told)
    return door.with_query({"datapackagename": names, "datapackagepath": paths})


def _length(replica: Replica) -> int:
    """Characters that `replica` takes of the request, its separators among them."""
    return len(URL.build(query={replica.name: str(replica.path)}).raw_query_string) + 2 * len("%2C")


def _fits(path: str) -> bool:
    return path == path.strip() and "," not in path and path.isprintable()


def _told(left_out: dict[str, str]) -> str:
    """What could not be told, for people."""
    named = [f"{name[:80]!r} is not told: {why}" for name, why in list(left_out.items())[:_MOST_NAMED]]
    more = len(left_out) - len(named)
    return "; ".join([*named, *([f"and {more} more"] if more else [])])
