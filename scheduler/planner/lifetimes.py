"""When a datum's life is over, by a date or with another datum. Its owner's wish is no matter of this room."""

from __future__ import annotations

from datetime import datetime

from .rows import DatumRow
from .snapshot import Snapshot


def end_of_life(snapshot: Snapshot, datum: DatumRow, now: datetime) -> str:
    """Why the lifetime of `datum` is over; "" if it is not. A target that is not known ends nothing."""
    if datum.ends is not None and datum.ends <= now:
        return f"its lifetime ended at {datum.ends:%Y-%m-%d %H:%M:%S} UTC"
    target = snapshot.targets.get(datum.lifetime_of) if datum.lifetime_of is not None else None
    if target is not None and not target.alive:
        return f"it was to live as long as {target.name}, which lives no more"
    return ""
