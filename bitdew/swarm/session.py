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
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

import libtorrent as lt

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint

from . import alerts
from .disk_file import DiskFile
from .settings import DH_PARAMETERS, SwarmLimits, is_wildcard, limits_as_settings, open_session
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .credentials import SwarmCredentials
    from .metainfo import Metainfo
    from .progress import PeerSample

CLOSING_SECONDS: Final = 5.0
REMOVAL_SECONDS: Final = 10.0
QUICK_BEAT: Final = 0.25
"""Seconds between reports while something moves."""
SLOW_BEAT: Final = 1.0
"""Seconds between reports while peers are there, or are waited for, and nothing moves."""
_SOON: Final = 0.03
_PORT_ATTEMPTS: Final = 5
_UNLIMITED: Final = SwarmLimits()

_log = logging.getLogger(__name__)


class Swarm:
    """This process's node in the swarms. Made by `start`.

    Attributes:
        endpoint: Where it listens for TLS peers. The host is the one that was asked for, `0.0.0.0` included.
    """

    def __init__(self, session: lt.session, endpoint: Endpoint, credentials: SwarmCredentials) -> None:
        """Use `Swarm.start`."""
        self.endpoint = endpoint
        self._session: lt.session | None = session
        self._credentials = credentials
        self._transfers: dict[str, Transfer] = {}
        self._roots: dict[str, str] = {}
        self._admission = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._next_beat: asyncio.TimerHandle | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._quieted = False
        self._moved = 0
        self._listening: list[Endpoint] = []
        self._not_listening: list[alerts.NotListening] = []
        self._settled: asyncio.Future[None] | None = self._loop.create_future()
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)  # a full pipe must never block libtorrent's thread
        self._loop.add_reader(self._bell, self._on_bell)
        session.set_alert_fd(self._clapper.fileno())
        self._on_bell()  # the bell rings only when the queue stops being empty

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
            wanted = Endpoint(listen.host, _free_port(listen)) if chosen_here else listen
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
        complete: bool = False,
        read_only: bool = False,
    ) -> Transfer:
        """Fetch `metainfo` into exactly `path`, and offer it to others.

        Args:
            metainfo: What to fetch.
            path: The file, absolute; its folder exists. What is there already is hashed and used, unless `have` or
                `complete` say what it is. A claim that the file's length contradicts is not believed: the file is
                hashed, and `Transfer.error` says so.
            peers: Where others listen.
            have: A bitfield from `Transfer.checkpoint`, trusted without hashing.
            complete: The file is known to be whole and durable, trusted without hashing.
            read_only: Never write to the file, whatever is missing from it: it is somebody's own, offered where it is.
                Otherwise the file is the swarm's: it is made, repaired, and cut to its size.

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
            transfer = Transfer(metainfo, file, sources, complete=complete, stir=self._beat_soon)
            # libtorrent may report before `add_torrent` returns.
            self._transfers[metainfo.info_hash] = transfer
            self._roots[metainfo.info_hash] = credentials.root_certificate
            work = asyncio.ensure_future(
                asyncio.to_thread(_enter, session, transfer, credentials, sources, have, complete)
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
        self._beat_soon()
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

    def set_limits(self, limits: SwarmLimits) -> None:
        """Change the caps at once, for all transfers."""
        self._opened().apply_settings(limits_as_settings(limits))

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
        transfer.end()

    async def _quiet(self) -> None:
        """Ask for no more reports, and wait for the sample that is being taken."""
        self._quieted = True
        if self._next_beat is not None:
            self._next_beat.cancel()
            self._next_beat = None
        if self._sampling is not None:
            await asyncio.wait([self._sampling])

    def _release(self) -> None:
        self._loop.remove_reader(self._bell)
        for transfer in list(self._transfers.values()):
            self._forget(transfer)
        # The destructor joins libtorrent's threads under the interpreter's lock: about a millisecond, now that
        # everything was flushed and there is no tracker to say goodbye to.
        self._session = None
        self._bell.close()
        self._clapper.close()

    # What libtorrent reports

    def _on_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass
        for event in alerts.copied(self._opened().pop_alerts()):
            self._dispatch(event)

    def _dispatch(self, event: alerts.Event) -> None:  # noqa: C901 (one flat table)
        match event:
            case alerts.TorrentEvent():
                transfer = self._transfers.get(event.info_hash)
                if transfer is not None:
                    transfer.take(event)
                    if isinstance(event, alerts.PeerCame | alerts.PeerWent):
                        self._beat_soon()  # a seed hears of nothing else: what it gave is to be counted
            case alerts.Listening():
                self._listening.append(event.endpoint)
            case alerts.NotListening():
                self._not_listening.append(event)
                if self._settled is None:
                    _log.warning("no longer listening for peers at %s: %s", event.endpoint, event.why)
            case alerts.Answered():
                if self._settled is not None and not self._settled.done():
                    self._settled.set_result(None)
            case alerts.AlertsLost():
                _log.error("libtorrent reported more than could be read; all transfers are checked again")
                for transfer in self._transfers.values():
                    transfer.lose_track()

    # The beat: reports are asked for only while something may move

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
        busy = [transfer for transfer in self._transfers.values() if transfer.busy]
        for transfer in busy:
            if transfer.fetching:
                transfer.want_sample()
        if self._sampling is None or self._sampling.done():
            self._sampling = self._loop.create_task(self._sample(), name="swarm sample")
        if busy:
            moved = sum(transfer.changes for transfer in busy)
            self._next_beat = self._loop.call_later(QUICK_BEAT if moved != self._moved else SLOW_BEAT, self._beat)
            self._moved = moved

    async def _sample(self) -> None:
        """Fulfil every wish for a sample of a transfer's connections."""
        while wishes := [(t, t.unsampled) for t in self._transfers.values() if t.unsampled and not t.gone]:
            # The session goes along, so that it can't be destroyed while a thread waits for it.
            found = await asyncio.to_thread(_connections, self._opened(), [transfer.handle for transfer, _ in wishes])
            for (transfer, wish), connections in zip(wishes, found, strict=True):
                transfer.take_sample(wish, connections)


def _connections(_session: lt.session, handles: Iterable[lt.torrent_handle]) -> list[tuple[PeerSample, ...]]:
    return [alerts.connections(handle) for handle in handles]


def _free_port(listen: Endpoint) -> int:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((listen.host, 0))
        return int(probe.getsockname()[1])


def _enter(
    session: lt.session,
    transfer: Transfer,
    credentials: SwarmCredentials,
    peers: Iterable[Endpoint],
    have: bytes | None,
    complete: bool,
) -> tuple[lt.torrent_handle, str]:
    """Give the transfer to libtorrent; its handle, and why a claim was not believed. Runs in a worker thread."""
    path = transfer.path
    if not path.parent.is_dir():
        raise error("storage.failed", f"The folder for {path.name} does not exist", path=str(path.parent))
    claim, doubt = transfer.file.claim(have=have, complete=complete)
    params = lt.load_torrent_buffer(transfer.metainfo.encoded)
    params.save_path = str(path.parent)
    params.renamed_files = {0: str(path)}
    params.root_certificate = credentials.root_certificate
    params.peers = [(peer.host, peer.port) for peer in peers]
    # Paused until the certificate is set: the first connections would go out without one.
    params.flags = lt.torrent_flags.update_subscribe | lt.torrent_flags.apply_ip_filter | lt.torrent_flags.paused
    if transfer.file.read_only:
        params.flags |= lt.torrent_flags.upload_mode  # it asks for no piece
    if claim is not None:
        params.have_pieces = claim
    handle = session.add_torrent(params)
    handle.set_ssl_certificate_buffer(credentials.certificate, credentials.private_key, DH_PARAMETERS)
    handle.resume()
    return handle, doubt
