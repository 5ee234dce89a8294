"""The policies, in the order in which they are asked. None of them is trusted.

A policy is a generator that looks at the books and suggests actions, best first. The arbiter answers each suggestion
before the next is asked for, so that a policy always reads books that include what was committed before. Adding a
policy means adding it to `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .actions import Action
from .deficits import fill_deficits, improve_spread
from .emptying import halt_on_drained
from .ending import drop_dead_data, expire_ended
from .ledger import Ledger
from .machines import halt_unwanted_machines, launch_machines, renew_machines
from .trimming import drop_displaced, stop_strays, trim_surplus

Policy = Callable[[Ledger], Iterator[Action]]

POLICIES: Final[tuple[Policy, ...]] = (
    halt_unwanted_machines,
    expire_ended,
    renew_machines,
    halt_on_drained,
    launch_machines,  # before drops, so that a copy that was just chosen to boot from is not trimmed
    drop_dead_data,
    stop_strays,
    fill_deficits,
    improve_spread,  # after all deficits, so that no copy that is missing lacks the room
    drop_displaced,  # after the deficits, so that it knows for which copies no better host was found
    trim_surplus,
)
