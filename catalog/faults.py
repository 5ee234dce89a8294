"""Which of a database's errors are the database's own, and what to tell of them.

Owns the difference between a statement that was refused, which is for the store that asked, and a database that is
full, broken, busy or gone, which is for everyone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from bitdew.core.errors import BitDewError, error

# PostgreSQL's classes of errors: the connection, a transaction that was ended for another's sake, resources, locks,
# an operator's or a time limit's doing, the system below; and a transaction that was left idle.
_OUTAGES: Final = ("08", "40", "53", "55P03", "57", "58", "25P03")
_FULL: Final = "53100"


def storage_fault(fault: BaseException, database: str) -> BitDewError | None:
    """What to tell of `fault` if the database called `database` failed; None if it only refused a statement."""
    why = _why(fault)
    if why is None:
        return None
    if "full" in why or _state(fault) == _FULL:
        do = "Free some space where the database is, and try again. Nothing of this was stored."
        return error("storage.full", "There is no room left in the database", why=why, do=do, database=database)
    do = "Look after the database's disk or server. What was asked for is not known to be stored: ask again."
    return error("storage.failed", f"The database {database} can't do this", why=why, do=do, database=database)


def _why(fault: BaseException) -> str | None:
    if isinstance(fault, DBAPIError):
        broken = type(fault) is DatabaseError or isinstance(fault, OperationalError | InterfaceError)
        if broken or fault.connection_invalidated or _state(fault).startswith(_OUTAGES):
            return _first_line(fault.orig or fault)
        return None
    if isinstance(fault, OSError | TimeoutError | NoConnectionFree):
        return _first_line(fault) or "it does not answer"
    # The driver's own errors come unchanged where SQLAlchemy was not between: they have the state of PostgreSQL.
    if _state(fault).startswith(_OUTAGES) or type(fault).__module__.startswith("asyncpg."):
        return _first_line(fault)
    return None


def _state(fault: BaseException) -> str:
    cause = fault.orig if isinstance(fault, DBAPIError) else fault
    return str(getattr(cause, "sqlstate", None) or "")


def _first_line(fault: BaseException) -> str:
    text = str(fault).strip().partition("\n")[0]
    return text.rpartition("asyncpg.exceptions.")[2].replace("'>: ", ": ") if "<class 'asyncpg" in text else text


def is_nobodys(fault: Exception) -> bool:
    """Whether nothing can be stored now, whatever it is: the database is away, or another process leads."""
    return isinstance(fault, BitDewError) and fault.key in {"storage.failed", "storage.full", "leadership.lost"}
