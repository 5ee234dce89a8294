"""What a benchmark tells: ratios, on what machine, and how busy that was.

Owns the output. Times of one machine say little of another, so a row is a ratio: against a peer, or a bound, of the
same run. The times behind the ratios stand in the JSON, for whoever wants to judge the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import bitdew


class Report:
    """The rows of one benchmark. Make it before anything is started: it notes the load."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = datetime.now(UTC)
        self._load = os.getloadavg()
        self._rows: list[tuple[str, float, str]] = []
        self._behind: dict[str, Any] = {}

    def add(self, what: str, ratio: float, says: str) -> None:
        """A ratio, and in words what it is of."""
        self._rows.append((what, ratio, says))

    def keep(self, name: str, figures: Any) -> None:
        """Figures behind the ratios, for the JSON alone. Seconds and bytes."""
        self._behind[name] = figures

    def show(self, *, as_json: bool) -> None:
        """Print everything."""
        machine = {
            "date": self._began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._began).total_seconds(), 1),
            "cores": os.cpu_count(),
            "load_before": [round(load, 2) for load in self._load],
            "load_after": [round(load, 2) for load in os.getloadavg()],
            "bitdew": bitdew.__version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        }
        if as_json:
            rows = [{"what": what, "ratio": ratio, "says": says} for what, ratio, says in self._rows]
            print(json.dumps({"benchmark": self._title, "machine": machine, "ratios": rows, "behind": self._behind}))
            return
        before, after = ("/".join(f"{load:.1f}" for load in machine[key]) for key in ("load_before", "load_after"))
        print(self._title)
        print(f"{machine['date']}, {machine['cores']} cores, load (1/5/15 min) {before} before, {after} after")
        print(f"bitdew {machine['bitdew']}, Python {machine['python']}, {machine['system']}")
        for what, ratio, says in self._rows:
            print(f"  {what:<44} {ratio:8.2f}   {says}")


def asked_for_json(about: str | None) -> bool:
    """Read the command line of a benchmark: it has one option."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="Print JSON, with the times behind the ratios.")
    return bool(parser.parse_args().json)


def percentile_95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
