"""Identities from a seed, so that a run can be repeated: ties between data and hosts are broken by their uids.

Owns the one place where chance enters the services: how a new uid is made.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bitdew.core import ids
from bitdew.core.ids import Uid


@dataclass(frozen=True, slots=True)
class _Seeded:
    """Stands in for the module of the standard library."""

    source: random.Random

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self.source.getrandbits(128), version=4)


@contextmanager
def identities_from(source: random.Random) -> Iterator[None]:
    """As long as this lasts, every new uid of this process follows from `source`."""
    before = vars(ids)["uuid"]
    vars(ids)["uuid"] = _Seeded(source)
    try:
        yield
    finally:
        vars(ids)["uuid"] = before


def uid_from(source: random.Random) -> Uid:
    """An identity that does not take its turn among those that the services make."""
    return Uid(f"{source.getrandbits(128):032x}")
