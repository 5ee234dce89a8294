"""What a warden is told, and what it does about it: the spec of one run, and the means by which it is confined.

Owns the names of the fields in which the worker writes the spec. It judges nothing: what is refused was refused before.
"""

from __future__ import annotations

from . import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The files of a run's folder.
SPEC: Final = "spec"
LOCK: Final = "lock"
WARDEN: Final = "warden"
ORDER: Final = "order"
LEASE: Final = "lease"
LOG: Final = "log"
INPUTS: Final = "inputs"
REPORT: Final = "report"
WORK: Final = "work"
SCRATCH: Final = "scratch"

# How a run ended.
EXITED: Final = "exited"
SIGNALLED: Final = "signalled"
OVER_LIMIT: Final = "over-limit"
STOPPED: Final = "stopped"
NOT_STARTED: Final = "not-started"

# Means of confinement, as `probe` finds them, in the order in which they are taken.
USER_NAMESPACE: Final = "user-namespace"
PIDS: Final = "pids"
MOUNTS: Final = "mounts"
NETWORK: Final = "network"
OWN_USER: Final = "own-user"
LANDLOCK: Final = "landlock"
FILTER: Final = "filter"


class Spec:
    """One run. Sizes in bytes, times in seconds."""

    def __init__(self, told: fields.Fields) -> None:
        """From its fields.

        Raises:
            KeyError, ValueError: If one is missing or is no number.
        """
        one = dict(told)
        self.uid = one["uid"]
        self.program = one["program"]
        self.arguments = [value for name, value in told if name == "argument"]
        self.environment = dict(value.split("=", 1) for name, value in told if name == "env")
        self.readable = [value for name, value in told if name == "readable"]
        self.inputs = [tuple(value.split("\n", 1)) for name, value in told if name == "input"]
        """What is shown in the folder: the name there, which has no line break, and where it is."""
        self.means = frozenset(value for name, value in told if name == "means")
        self.anything = one["anything"] == "yes"
        self.network = one["network"] == "yes"
        self.runtime = float(one["runtime"])
        self.memory = int(one["memory"])
        self.processes = int(one["processes"])
        self.disk = int(one["disk"])
        self.files = int(one["files"])
        self.log = int(one["log"])
        self.cpus = int(one["cpus"])
        self.lease = float(one["lease"])
        self.grace = float(one["grace"])


def read_spec(path: str) -> Spec:
    """The spec that stands at `path`.

    Raises:
        OSError, KeyError, ValueError: If there is none, or it is none of ours.
    """
    return Spec(fields.read(path))
