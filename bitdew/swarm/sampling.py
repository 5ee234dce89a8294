"""Looking at several transfers at once, from a thread: whom they are connected to, and how their files are.

Owns that one trip. It blocks: libtorrent's own thread answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import alerts

if TYPE_CHECKING:
    from collections.abc import Iterable

    import libtorrent as lt

    from bitdew.core.errors import BitDewError

    from .disk_file import DiskFile
    from .progress import PeerSample


def look_at(
    _session: lt.session, handles: Iterable[lt.torrent_handle], files: Iterable[DiskFile]
) -> tuple[list[tuple[PeerSample, ...]], list[BitDewError | None]]:
    """The connections of each of `handles`, and what is wrong with each of `files`."""
    return [alerts.connections(handle) for handle in handles], [file.look() for file in files]
