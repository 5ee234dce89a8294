"""A plug-in of the worker: a folder in which every copy on this host has a link with its datum's name.

Install it beside the worker (`pip install examples/worker_plugin`) and start that with LINKS_FOLDER=/srv/data.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from bitdew.worker.plugins import Plugin, Replica


class Links(Plugin):
    """Links to what is held."""

    def __init__(self) -> None:
        self._folder = Path(os.environ["LINKS_FOLDER"])
        self._folder.mkdir(parents=True, exist_ok=True)

    def started(self, held: Sequence[Replica]) -> None:
        """Have a link for each of these, and no others."""
        for link in self._folder.iterdir():
            if link.is_symlink():
                link.unlink()
        for copy in held:
            self.held(copy)

    def held(self, copy: Replica) -> None:
        """Have a link to `copy`, which may be there already."""
        self.dropping(copy)
        (self._folder / copy.name).symlink_to(copy.path)

    def dropping(self, copy: Replica) -> None:
        """Have no link to `copy`."""
        (self._folder / copy.name).unlink(missing_ok=True)
