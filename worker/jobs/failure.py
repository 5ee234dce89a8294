"""What a warden's report is to the service: why a run is none that could have left a result, its code and its figures.

Owns the words for limits: the warden's are those of its spec, the submitter's those of `bitdew.core.job.Limit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.job import Limit

if TYPE_CHECKING:
    from .runs import RunReport

_LIMITS: Final = {
    "runtime": Limit.TIME,
    "cpu": Limit.CPU,
    "memory": Limit.MEMORY,
    "processes": Limit.PROCESSES,
    "disk": Limit.DISK,
    "files": Limit.FILES,
}
_CALLED: Final = {Limit.CPU: "processor time", Limit.FILES: "files and folders"}


def failure_of(report: RunReport) -> BitDewError | None:
    """Why a run is none that could have left a result."""
    if report.succeeded:
        return None
    match report.outcome:
        case "exited":
            return error("job.command", f"The command ended with the exit code {report.code}", code=report.code)
        case "signalled":
            return error("job.command", f"The command was ended by the signal {report.code}", signal=report.code)
        case "over-limit" if (limit := _LIMITS.get(report.limit)) is not None:
            told = f"The command passed its limit of {_CALLED.get(limit, limit)}"
            return error("job.over-limit", told, why=report.why, limit=limit)
        case "over-limit":  # of the time that ending it may take
            return error("job.failed", "The command could not be ended", why=report.why)
        case _:
            return error("job.failed", f"The command was {report.outcome}", why=report.why)


def exit_code_of(report: RunReport) -> int | None:
    """The command's, negative for a signal; None if it never ended by itself."""
    if report.outcome in {"not-started", "over-limit", "stopped", "lost"}:
        return None
    return -report.code if report.outcome == "signalled" else report.code


def figures_of(report: RunReport | None) -> dict[str, Any]:
    """What it took."""
    return {} if report is None else {"wall": report.wall, "cpu": report.cpu, "memory": report.memory}
