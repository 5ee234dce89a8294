"""The identities that cross rooms, as distinct types, and how new ones are made."""

from __future__ import annotations

import re
import uuid
from typing import Final, NewType

from .errors import error

Uid = NewType("Uid", str)
"""A datum's, deployment's, machine's or order's identity: 32 hexadecimal digits."""

HostId = NewType("HostId", str)
"""A host's identity, given at enrolment: 32 hexadecimal digits. It stands in the host's certificate."""

ContentRoot = NewType("ContentRoot", str)
"""The BitTorrent v2 pieces root of a file's bytes: 64 hexadecimal digits."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


def new_uid() -> Uid:
    """A fresh random identity."""
    return Uid(uuid.uuid4().hex)


def checked_name(name: str, what: str = "name") -> str:
    """`name` if it can name a datum, a host or a user: 1 to 128 of `A-Z a-z 0-9 . _ -`, alphanumeric ends.

    Raises:
        UserError: `input.invalid`.
    """
    if not _NAME.fullmatch(name):
        raise error(
            "input.invalid",
            f"{name[:140]!r} can't be a {what}",
            why="1 to 128 letters, digits, '.', '_' or '-' are allowed, with a letter or digit at both ends",
            field=what,
        )
    return name
