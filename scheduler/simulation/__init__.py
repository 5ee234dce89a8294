"""The simulated grid: the real catalog and scheduler in virtual time, with thousands of hosts that are only played."""

from .audit import Audit, Violation
from .grid import SimulatedGrid
from .host import SimulatedHost
from .network import Faults
from .people import People
from .possessions import Lent

__all__ = ["Audit", "Faults", "Lent", "People", "SimulatedGrid", "SimulatedHost", "Violation"]
