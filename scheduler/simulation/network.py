"""What may become of a reply on its way to a host."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each of them is for one reply, from 0 to 1.

    Attributes:
        loss: It never arrives: the host asks again.
        repeat: Its orders arrive a second time, later.
        reorder: Its orders arrive once more after those of later replies.
    """

    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0

    def lost(self, chance: random.Random) -> bool:
        """Whether the next reply is lost."""
        return self.loss > 0 and chance.random() < self.loss

    def comes_again(self, chance: random.Random) -> bool:
        """Whether the orders of the next reply come again, at once."""
        return self.repeat > 0 and chance.random() < self.repeat

    def comes_late(self, chance: random.Random) -> bool:
        """Whether the orders of the next reply come late, after those of others."""
        return self.reorder > 0 and chance.random() < self.reorder
