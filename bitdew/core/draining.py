"""What becomes of the machines on a host that its operator, or its volunteer, wants empty."""

from __future__ import annotations

from enum import StrEnum


class Drain(StrEnum):
    """The wish that a host be emptied, and what is to become of its machines meanwhile."""

    KEEP = "keep"
    """Those that restart go on until another of them runs elsewhere; the others run to their end."""
    STOP = "stop"
    """All are stopped now; another takes the place of those that restart, as soon as a host can run it."""
