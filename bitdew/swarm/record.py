"""What a transfer's events add up to: progress, errors, and why it can't go on.

Owns the reading of events. It must not wait for anything, touch the disk or give libtorrent orders; the transfer
does, which builds on this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.errors import BitDewError, error

from . import alerts
from .disk_file import storage_error
from .progress import PeerSample, Progress, ReceivedTally, TransferState, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bitdew.core.host import Endpoint

    from .metainfo import Metainfo


class TransferRecord:
    """What is known of a transfer.

    Attributes:
        metainfo: What it is.
        path: The file that it is written to and read from.
        progress: The latest snapshot.
        changes: Grows by at least 1 with each change of `progress` or `error`.
        error: The last problem, or None. A bad source's stays here after a good one delivered; a disk's goes when a
            recheck finds the file readable.
    """

    def __init__(self, metainfo: Metainfo, path: Path) -> None:
        self.metainfo = metainfo
        self.path = path
        self.progress = Progress(0, metainfo.content.size, "checking")
        self.changes = 0
        self.error: BitDewError | None = None
        self._changed = asyncio.Event()
        self._seen = alerts.Snapshot(
            metainfo.info_hash, checking=True, whole=False, pieces=0, peers=0, uploaded=0, downloaded=0, have=None
        )
        self._have = b""
        self._tally = ReceivedTally()
        self._sources: set[Endpoint] = set()
        self._connected: set[Endpoint] = set()
        self._shaken: set[Endpoint] = set()
        self._silent = 0
        self._banned: dict[Endpoint, None] = {}  # in order
        self._corrupt = 0
        self._durable = False
        self._gone = False
        self._stopped_by: BitDewError | None = None
        self._told = False  # whether somebody knows what it was stopped by
        # How often each answer came: whoever asks waits for the next.
        self._checks = self._flushes = self._bitfields = self._counts = 0
        self._available: tuple[int, ...] = ()
        # Samples are asked for by number, so that one that began too early is not taken for an answer.
        self._wishes = self._sampled = 0
        self.look_wanted = False  # somebody came for what is offered: is it still there?

    # What may change

    @property
    def fetching(self) -> bool:
        """Whether bytes may come from peers."""
        return self._stopped_by is None and not self._seen.whole

    @property
    def busy(self) -> bool:
        """Whether anything may change by itself: pieces are missing, or peers are there."""
        return self.fetching or (self._stopped_by is None and bool(self._seen.peers or self._connected))

    @property
    def usage(self) -> Usage:
        """What it uses of the network, as of up to a second ago."""
        seen = self._seen
        return Usage(seen.upload_rate, seen.download_rate, seen.connections) if self.busy else Usage()

    @property
    def gone(self) -> bool:
        """Whether the session forgot it."""
        return self._gone

    @property
    def banned(self) -> set[Endpoint]:
        """Who sent wrong pieces and is not asked again: known sources, or the far ends of connections."""
        return {self._source_at(remote) for remote in self._banned}

    @property
    def trusted(self) -> set[Endpoint]:
        """The known sources that are not banned."""
        return self._sources - self.banned

    # Samples of the connections

    @property
    def unsampled(self) -> int:
        """The number of the latest wish for a sample of the connections, or 0 if it was fulfilled."""
        return self._wishes if self._wishes > self._sampled and not self._gone else 0

    def want_sample(self) -> int:
        """Wish for a sample of the connections that is taken from now on; the number of the wish."""
        self._wishes += 1
        return self._wishes

    def take_sample(self, wish: int, connections: Iterable[PeerSample]) -> None:
        """Learn from a sample that began after `wish`."""
        connections = list(connections)
        self._sampled = max(self._sampled, wish)
        self._shaken = {one.remote for one in connections if one.shaken}
        self._silent = sum(one.silent for one in connections)
        self._tally.take(connections)
        self._update()
        self._wake()

    def take_look(self, problem: BitDewError | None) -> None:
        """Learn what a glance at the file showed, which was wanted while the transfer was whole."""
        if problem is not None and self._durable:
            self._stop(problem)

    def _doubt_a_little(self) -> None:
        if self._durable and not self._gone:
            self.look_wanted = True
            self.want_sample()

    # Events

    def take(self, event: alerts.TorrentEvent) -> None:  # noqa: C901 (one flat table)
        """Learn from `event`."""
        match event:
            case alerts.Snapshot():
                self._take_snapshot(event)
            case alerts.Availability():
                self._available = event.counts
                self._counts += 1
            case alerts.PeerCame():
                self._connected.add(event.peer)
                self._doubt_a_little()
            case alerts.PeerWent():
                self._connected.discard(event.peer)
                self._shaken.discard(event.peer)
                self._tally.close(event.peer)
            case alerts.PeerBanned():
                self._banned[event.peer] = None
                self._blame()
            case alerts.PieceCorrupt():
                self._corrupt += 1
                self._blame()
            case alerts.DiskFault():
                self._stop(storage_error(self.path, event.why, full=event.full))
            case alerts.TorrentFault():
                self._stop(error("swarm.failed", f"The transfer of {self.path.name} stopped", why=event.why))
            case alerts.ClaimRejected():
                self.doubt(event.why)
            case alerts.Checked():
                self._checks += 1
            case alerts.Flushed():
                self._flushes += 1
            case alerts.Removed():
                self._gone = True
        self._wake()

    def doubt(self, why: str) -> None:
        """What was claimed of the file does not fit what is on the disk: it is checked, and this is reported."""
        self._durable = False
        self.error = error(
            "storage.failed",
            f"The file {self.path.name} is not what was known of it",
            why=why,
            do="Nothing: what is there is checked, and what is missing is fetched.",
            path=str(self.path),
        )
        self._mark_change()

    def lose_track(self) -> None:
        """Events were lost: whoever waits for an answer must ask again, and nothing counts as known."""
        self._stop(error("swarm.failed", f"Too much happened at once to follow the transfer of {self.path.name}"))

    # How it is done

    def _take_snapshot(self, snapshot: alerts.Snapshot) -> None:
        if snapshot.whole and not self._seen.whole:
            self.want_sample()  # whoever sent the last piece may leave now
        self._seen = snapshot
        if snapshot.have is not None:
            self._have = snapshot.have
            self._bitfields += 1
        self._update()

    def _stop(self, problem: BitDewError) -> None:
        """It can't go on. A disk's fault is followed by others that it causes, which don't replace it."""
        self._durable = False
        first = self._stopped_by is None
        if self._stopped_by is not None and self._stopped_by.key != "swarm.failed":
            return
        if first or problem.key != "swarm.failed":
            self._stopped_by = self.error = problem
            self._told = False
            self._update()
            self._mark_change()

    def _blame(self) -> None:
        last = next(reversed(self._banned), None)
        peer = None if last is None else self._source_at(last)
        self.error = error(
            "swarm.corrupt",
            f"{self._corrupt} wrong piece(s) of {self.path.name} arrived",
            why=f"sent by {peer}" if peer else "",
            peer=str(peer) if peer else None,
            corrupt=self._corrupt,
            info_hash=self.metainfo.info_hash,
        )
        self._update()
        self._mark_change()

    def _source_at(self, remote: Endpoint) -> Endpoint:
        """The known source at the address of `remote`, if there is exactly one."""
        there = [source for source in self._sources if source.host == remote.host]
        return there[0] if len(there) == 1 else remote

    def _update(self) -> None:
        seen, content = self._seen, self.metainfo.content
        state: TransferState = "fetching"
        if seen.checking:
            state = "checking"
        elif seen.whole:
            state = "seeding" if self._durable else "finished"
        progress = Progress(
            done=content.size if seen.whole else min(seen.pieces * content.piece_length, content.size),
            size=content.size,
            state=state,
            peers=max(0, seen.peers - self._silent) if not seen.whole else seen.peers,
            uploaded=seen.uploaded,
            downloaded=seen.downloaded,
            received_from=self._tally.by_listener(),
            corrupt=self._corrupt,
        )
        if progress != self.progress:
            self.progress = progress
            self._mark_change()

    def _mark_change(self) -> None:
        self.changes += 1
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
