"""A node of the swarms: one listening port, any number of transfers, one set of caps.

Owns the libtorrent session and its life. libtorrent works in threads of its own and wakes the event loop through a
socket; what it reports is copied and handed to the transfers here, in one place. Calls that wait for libtorrent's
thread are made from a worker thread.

The order of closing: no more transfers are let in; peers are left; what is in memory is flushed, within
`CLOSING_SECONDS`; reports are no longer asked for; the socket's reader goes; whoever waits on a transfer is told; the
session is destroyed; the wake-up socket is closed, last, as libtorrent's threads write to it until they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

import libtorrent as lt

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint

from . import alerts
from .bell import Bell
from .disk_file import DiskFile
from .entry import enter
from .persistence import Persistence
from .sampling import look_at
from .settings import (
    DH_PARAMETERS,
    SwarmLimits,
    TransferLimits,
    free_port,
    is_wildcard,
    limits_as_settings,
    open_session,
)
from .shunning import Shunning
from .transfer import Transfer
from .warmth import Warmth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from .credentials import SwarmCredentials
    from .metainfo import Metainfo
CLOSING_SECONDS: Final = 5.0
LINGERING_SECONDS: Final = 0.5
REMOVAL_SECONDS: Final = 10.0
QUICK_BEAT: Final = 0.25
"""Seconds between reports while something moves."""
SLOW_BEAT: Final = 1.0
"""Seconds between reports while peers are there, or are waited for, and nothing moves."""
_SOON: Final = 0.03
_PORT_ATTEMPTS: Final = 5
_UNLIMITED: Final = SwarmLimits()
_NONE_OF_ITS_OWN: Final = TransferLimits()

_log = logging.getLogger(__name__)


class Swarm:
    """This process's node in the swarms. Made by `start`.

    Attributes:
        endpoint: Where it listens for TLS peers. The host is the one that was asked for, `0.0.0.0` included.
        on_knock: Called when a peer came for a content that is not in this swarm.
    """

    def __init__(self, session: lt.session, endpoint: Endpoint, credentials: SwarmCredentials) -> None:
        """Use `Swarm.start`."""
        self.endpoint = endpoint
        self.on_knock: Callable[[], None] = lambda: None
        self._session: lt.session | None = session
        self._credentials = credentials
        self._transfers: dict[str, Transfer] = {}
        self._roots: dict[str, str] = {}
        self._lively: dict[Transfer, None] = {}  # those of which something may have changed; the others cost nothing
        self._warmth = Warmth(lambda dial: self._opened().apply_settings({"seeding_outgoing_connections": dial}))
        self._admission = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._next_beat: asyncio.TimerHandle | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._quieted = False
        self._moved = 0
        self._shunning = Shunning()
        self._persistence = Persistence()
        self._listening: list[Endpoint] = []
        self._not_listening: list[alerts.NotListening] = []
        self._settled: asyncio.Future[None] | None = self._loop.create_future()
        self._bell = Bell(session, self._on_bell)
        self._on_bell()

    @classmethod
    async def start(cls, listen: Endpoint, credentials: SwarmCredentials, limits: SwarmLimits = _UNLIMITED) -> Swarm:
        """Listen for TLS peers at `listen`; port 0 takes any that is free.

        Raises:
            UserError: `port.in-use`.
            HostError: `swarm.failed`, if the address can't be listened at for another reason.
        """
        chosen_here = listen.port == 0 and is_wildcard(listen)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            # libtorrent opens one socket per address of the machine, and would take another free port for each.
            wanted = Endpoint(listen.host, free_port(listen)) if chosen_here else listen
            swarm = cls(await asyncio.to_thread(open_session, wanted, limits), wanted, credentials)
            try:
                await swarm._listen()
            except BitDewError as problem:
                await swarm.close()
                if problem.key != "port.in-use" or not chosen_here or attempt == _PORT_ATTEMPTS:
                    raise
            except BaseException:
                await swarm.close()
                raise
            else:
                return swarm
        raise AssertionError  # the last attempt returned or raised

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def transfers(self) -> Mapping[str, Transfer]:
        """The transfers by info-hash, read-only."""
        return MappingProxyType(self._transfers)

    async def add(
        self,
        metainfo: Metainfo,
        path: Path,
        *,
        peers: Iterable[Endpoint] = (),
        have: bytes | None = None,
        unfinished: Mapping[int, Sequence[bool]] | None = None,
        complete: bool = False,
        read_only: bool = False,
        limits: TransferLimits = _NONE_OF_ITS_OWN,
    ) -> Transfer:
        """Fetch `metainfo` into exactly `path`, and offer it to others.

        Args:
            metainfo: What to fetch.
            path: The file, absolute; its folder exists. What is there already is hashed and used, unless `have` or
                `complete` say what it is. A claim that the file's length contradicts is not believed: the file is
                hashed, and `Transfer.error` says so.
            peers: Where others listen. Those who have the whole file dial them only while something moves.
            have: A bitfield from `Transfer.checkpoint`, trusted without hashing.
            unfinished: Of pieces that `have` does not name, which blocks of 16 KiB are there, so that only the others
                are fetched. A piece whose blocks turn out wrong is fetched whole.
            complete: The file is known to be whole and durable, trusted without hashing.
            read_only: Never write to the file, whatever is missing from it: it is somebody's own, offered where it is.
                Otherwise the file is the swarm's: it is made, repaired, and cut to its size.
            limits: Its own caps, from the first byte on.

        Raises:
            UserError: `input.invalid`, if the path is relative.
            HostError: `storage.full`; `storage.failed`, if the file can't be made, or its folder is missing;
                `swarm.failed`, if the swarm is closed or exchanges this content already.
        """
        if not path.is_absolute():
            raise error("input.invalid", f"The path {path} is not absolute", path=str(path))
        sources = {peer for peer in peers if peer != self.endpoint}
        async with self._admission:
            session, credentials = self._opened(), self._credentials
            if metainfo.info_hash in self._transfers:
                raise error(
                    "swarm.failed",
                    f"The content of {path.name} is in this swarm already",
                    info_hash=metainfo.info_hash,
                )
            file = DiskFile(path, metainfo.content, read_only=read_only)
            transfer = Transfer(metainfo, file, sources, complete=complete, stir=self._stir)
            if sources:
                self._warmth.stir()
            # libtorrent may report before `add_torrent` returns.
            self._transfers[metainfo.info_hash] = transfer
            self._roots[metainfo.info_hash] = credentials.root_certificate
            work = asyncio.ensure_future(
                asyncio.to_thread(
                    enter, session, transfer, credentials, sources, have, unfinished or {}, complete, limits
                )
            )
            try:
                handle, doubt = await asyncio.shield(work)
            except BaseException as cause:
                if isinstance(cause, asyncio.CancelledError):
                    with contextlib.suppress(BitDewError):
                        session.remove_torrent((await work)[0])
                self._forget(transfer)
                raise
            transfer.enter(handle, doubt)
            if self._credentials is not credentials:  # renewed meanwhile
                self._renew(transfer)
        self._stir(transfer)
        return transfer

    async def remove(self, transfer: Transfer) -> None:
        """Leave the swarm of `transfer`; the file stays as it is. Nothing happens if it was removed before."""
        if self._session is None or self._transfers.get(transfer.metainfo.info_hash) is not transfer:
            return
        handle = transfer.handle
        handle.pause()
        try:
            async with asyncio.timeout(REMOVAL_SECONDS):
                await transfer.flush()
        except TimeoutError:
            _log.warning("leaving the swarm of %s before everything was flushed", transfer.path.name)
        if not transfer.gone:  # not closed meanwhile
            self._opened().remove_torrent(handle)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMOVAL_SECONDS):
                    await transfer.removed()
        self._forget(transfer)
        self._beat_soon()  # whom it banned may be welcome now

    def set_limits(self, limits: SwarmLimits) -> None:
        """Change the caps at once, for all transfers."""
        self._opened().apply_settings(limits_as_settings(limits))

    def rest(self, resting: bool) -> None:
        """Leave all peers at once and meet nobody until told otherwise; transfers stay, and what they have too."""
        session = self._opened()
        (session.pause if resting else session.resume)()

    def set_credentials(self, credentials: SwarmCredentials) -> None:
        """Show a renewed certificate to peers from now on; connections that are open stay.

        A transfer keeps the root that it was added with: under a new root, remove and add it.
        """
        self._opened()
        self._credentials = credentials
        for transfer in self._transfers.values():
            if transfer.entered:  # who enters later does so with these
                self._renew(transfer)

    async def close(self) -> None:
        """Leave all swarms and free the port, within `CLOSING_SECONDS` and a little; again does nothing."""
        async with self._admission:
            if self._session is None:
                return
            try:
                self._session.pause()
                async with asyncio.timeout(CLOSING_SECONDS):
                    for transfer in list(self._transfers.values()):
                        await transfer.flush()
            except TimeoutError:
                _log.warning("closing the swarm before everything was flushed")
            finally:
                try:
                    await self._quiet()
                finally:
                    self._release()
            if not await self._bell.ended(LINGERING_SECONDS):
                _log.warning("somebody still holds a session that was closed")

    # Life

    def _opened(self) -> lt.session:
        if self._session is None:
            raise error("swarm.failed", "The swarm is closed")
        return self._session

    async def _listen(self) -> None:
        """Return when it listens everywhere that was asked for."""
        self._opened().post_session_stats()  # answered after the sockets were opened, or were not
        assert self._settled is not None  # noqa: S101 (set by the constructor)
        await self._settled
        self._settled = None
        for problem in self._not_listening:
            raise error(
                "port.in-use" if problem.in_use else "swarm.failed",
                f"Can't listen for peers at {problem.endpoint}",
                why=problem.why,
                do="" if problem.in_use else "Check that the address is one of this machine.",
                endpoint=str(problem.endpoint),
            )
        if not self._listening:
            raise error("swarm.failed", f"Can't listen for peers at {self.endpoint}", why="no address fits it")
        self.endpoint = Endpoint(self.endpoint.host, self._listening[0].port)

    def _renew(self, transfer: Transfer) -> None:
        shown = self._credentials
        if self._roots[transfer.metainfo.info_hash] == shown.root_certificate:
            transfer.renew(shown.certificate, shown.private_key, DH_PARAMETERS)

    def _forget(self, transfer: Transfer) -> None:
        self._transfers.pop(transfer.metainfo.info_hash, None)
        self._roots.pop(transfer.metainfo.info_hash, None)
        self._lively.pop(transfer, None)
        transfer.end()

    async def _quiet(self) -> None:
        """Ask for no more reports, and wait for the sample that is being taken."""
        self._quieted = True
        self._warmth.end()
        if self._next_beat is not None:
            self._next_beat.cancel()
            self._next_beat = None
        if self._sampling is not None:
            await asyncio.wait([self._sampling])

    def _release(self) -> None:
        self._bell.mute()
        for transfer in list(self._transfers.values()):
            self._forget(transfer)
        # The destructor joins libtorrent's threads under the interpreter's lock: about a millisecond, now that
        # everything was flushed and there is no tracker to say goodbye to.
        self._session = None

    # What libtorrent reports

    def _on_bell(self) -> None:
        self._bell.heard()
        for event in alerts.copied(self._opened().pop_alerts()):
            self._dispatch(event)

    def _dispatch(self, event: alerts.Event) -> None:  # noqa: C901 (one flat table)
        match event:
            case alerts.TorrentEvent():
                transfer = self._transfers.get(event.info_hash)
                if transfer is not None:
                    transfer.take(event)
                    if transfer.busy or transfer.unsampled:
                        self._lively[transfer] = None
                    if isinstance(event, alerts.PeerCame | alerts.PeerWent):
                        self._beat_soon()  # a seed hears of nothing else: what it gave is to be counted
            case alerts.Listening():
                self._listening.append(event.endpoint)
            case alerts.NotListening():
                self._not_listening.append(event)
                if self._settled is None:
                    _log.warning("no longer listening for peers at %s: %s", event.endpoint, event.why)
            case alerts.Knocked():
                self.on_knock()
            case alerts.Answered():
                if self._settled is not None and not self._settled.done():
                    self._settled.set_result(None)
            case alerts.AlertsLost():
                _log.error("libtorrent reported more than could be read; all transfers are checked again")
                for transfer in self._transfers.values():
                    transfer.lose_track()

    # The beat: reports are asked for only while something may move, and only such transfers are looked at

    def _stir(self, transfer: Transfer) -> None:
        """Something about this transfer may change."""
        self._lively[transfer] = None
        self._beat_soon()

    def _beat_soon(self) -> None:
        if self._quieted:
            return
        if self._next_beat is not None:
            if self._next_beat.when() - self._loop.time() <= _SOON:
                return
            self._next_beat.cancel()
        self._next_beat = self._loop.call_later(_SOON, self._beat)

    def _beat(self) -> None:
        self._next_beat = None
        self._opened().post_torrent_updates()
        self._shunning.apply(self._opened(), self._lively, self._transfers.values())
        self._persistence.apply(self._opened(), self._lively)
        busy = [transfer for transfer in self._lively if transfer.busy]
        if busy:
            self._warmth.stir()
        for transfer in busy:
            if transfer.fetching:
                transfer.want_sample()
        if self._sampling is None or self._sampling.done():
            self._sampling = self._loop.create_task(self._sample(), name="swarm sample")
        for transfer in [one for one in self._lively if one.entered and not one.busy and not one.unsampled]:
            del self._lively[transfer]
        if busy:
            moved = sum(transfer.changes for transfer in busy)
            self._next_beat = self._loop.call_later(QUICK_BEAT if moved != self._moved else SLOW_BEAT, self._beat)
            self._moved = moved

    async def _sample(self) -> None:
        """Fulfil every wish for a sample of a transfer's connections, and look at the files that somebody came for."""
        # One that is about to enter may wish already; when it is in, the next beat fulfils it.
        while wishes := [(t, t.unsampled) for t in self._lively if t.unsampled and t.entered]:
            looked_at = [transfer for transfer, _ in wishes if transfer.look_wanted]
            for transfer in looked_at:
                transfer.look_wanted = False
            # The session goes along, so that it can't be destroyed while a thread waits for it.
            handles, files = [t.handle for t, _ in wishes], [t.file for t in looked_at]
            found, problems = await asyncio.to_thread(look_at, self._opened(), handles, files)
            for (transfer, wish), connections in zip(wishes, found, strict=True):
                transfer.take_sample(wish, connections)
            for transfer, problem in zip(looked_at, problems, strict=True):
                transfer.take_look(problem)
