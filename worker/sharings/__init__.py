"""What this host offers: its hypervisors, and the applications and libraries that its volunteer shares.

Owns the whole way from a declaration to what is announced. Nothing is announced that was not tried on this host, and
nothing is tried that the volunteer did not declare, but hypervisors.
"""

from .declaration import Declaration
from .offers import Offers
from .probing import Sharing
from .report import Sharings

__all__ = ["Declaration", "Offers", "Sharing", "Sharings"]
