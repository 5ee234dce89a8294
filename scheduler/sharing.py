"""What one process of a database hears all the time, for the others: how far copies on their way are.

Owns how often that is stored. Without it the process that plans would take a copy for stalled that moves, because its
host talks to another process.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from bitdew.tasks import to_the_end

from .known import Known

log = structlog.get_logger(__name__)
OF_LEASE: Final = 0.25
"""So much of a lease may pass before the others know that it was prolonged."""


async def share_progress(known: Known, lease: timedelta, most: float) -> None:
    """Store what was heard of copies on their way, every `most` seconds or more often, until cancelled."""
    while True:
        await known.clock.sleep(min(OF_LEASE * lease.total_seconds(), most))
        try:
            fresh = known.progress.take_fresh(known.clock.now())
            if known.database.shared:  # else nobody is there to read it
                await to_the_end(known.store.save_steps(fresh))
        except Exception:
            log.exception("the progress of copies could not be stored; what comes next is")
