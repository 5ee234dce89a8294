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
        self._rows: list[tuple[str, float, str, str]] = []
        self._notes: list[str] = []
        self._behind: dict[str, Any] = {}

    def add(
        self, what: str, ratio: float, says: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """A ratio, and in words what it is of; with the target that it should reach, if there is one."""
        verdict = ""
        if at_least is not None:
            verdict = f"target >= {at_least:g}: {'met' if ratio >= at_least else 'MISSED'}"
        elif at_most is not None:
            verdict = f"target <= {at_most:g}: {'met' if ratio <= at_most else 'MISSED'}"
        self._rows.append((what, ratio, says, verdict))

    def keep(self, name: str, figures: Any) -> None:
        """Figures behind the ratios, for the JSON alone. Seconds and bytes."""
        self._behind[name] = figures

    def note(self, sentence: str) -> None:
        """What else has to be known to judge the rows."""
        self._notes.append(sentence)

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
            names = ("what", "ratio", "says", "target")
            rows = [dict(zip(names, row, strict=True)) for row in self._rows]
            told = {"benchmark": self._title, "machine": machine, "ratios": rows, "notes": self._notes}
            print(json.dumps(told | {"behind": self._behind}))
            return
        before, after = ("/".join(f"{load:.1f}" for load in machine[key]) for key in ("load_before", "load_after"))
        print(self._title)
        print(f"{machine['date']}, {machine['cores']} cores, load (1/5/15 min) {before} before, {after} after")
        print(f"bitdew {machine['bitdew']}, Python {machine['python']}, {machine['system']}")
        for what, ratio, says, verdict in self._rows:
            print(f"  {what:<58} {ratio:8.2f}   {says}{f'; {verdict}' if verdict else ''}")
        for sentence in self._notes:
            print(f"  {sentence}")


def asked_for_json(about: str | None) -> bool:
    """Read the command line of a benchmark that has one option."""
    return bool(parser(about).parse_args().json)


def options(about: str | None, *, full: str) -> argparse.Namespace:
    """Read the command line of a benchmark that has two: `json`, and `full`, which asks for more, said in words."""
    made = parser(about)
    made.add_argument("--full", action="store_true", help=f"Take longer: {full}.")
    return made.parse_args()


def parser(about: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark, to which it may add options of its own."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    made.add_argument("--json", action="store_true", help="Print JSON, with the times behind the ratios.")
    return made


def percentile_95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
