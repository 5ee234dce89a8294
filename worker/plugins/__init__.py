"""A developer's code on a host: told when copies arrive, and before they leave.

`contract` is what a plug-in is; `finding` finds those that are installed; `thread` runs each away from the worker's
event loop; `teller` tells one of them what it does not know yet; `audience` is all of them.
"""

from __future__ import annotations

from .contract import Plugin, Replica

__all__ = ["Plugin", "Replica"]
