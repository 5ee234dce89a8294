"""A program as a host: it holds verified copies like any other worker, and is told of them.

Owns the worker's life inside of a program, and what of its copies the program is told. What comes and goes is the
scheduler's to decide.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import ValidationError

from bitdew.client.profiles import home_folder
from bitdew.core.errors import error
from bitdew.core.units import parse_size

from .daemon import Worker
from .enrol import identity_folder, join
from .plugins.contract import Plugin, Replica
from .settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from types import TracebackType

FOLDER: Final = "program"
"""The home of a program that names none, in the user's home folder."""


class Host:
    """This program as a host. An async context manager: it holds and passes on copies as long as the block lasts.

        async with bitdew.host("https://grid.example.org:8440", token) as host:
            path = await host.held("hep-inputs")

    Its home keeps the copies and who it is: the next start needs no token. It boots no machines.

    Attributes:
        home: The folder of everything that it has.
        copies: The copies that are held, by the names of the data.
    """

    def __init__(self, url: str | None, token: str | None, home: str | Path | None, lent: dict[str, Any]) -> None:
        """Nothing happens yet. `lent` goes to `WorkerSettings`."""
        self.home = Path(home) if home is not None else home_folder() / FOLDER
        self.copies: dict[str, Replica] = {}
        self._url, self._token, self._lent = url, token, lent
        self._changed = asyncio.Event()
        self._arrived: list[Replica] = []
        self._worker: Worker | None = None
        self._run: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Join, if that is still to be done, and begin.

        Raises:
            UserError: `profile.missing`, if it never joined and there is no token; `token.…`, `input.invalid`,
                `profile.taken`, `certificate.…`, `port.in-use`.
            ServiceError: `service.unreachable`, where it has to join.
            HostError: `storage.locked`, if another program is this host; `storage.failed`.
        """
        self.home = await asyncio.to_thread(self.home.absolute)
        settings = await self._settings()
        if self._url is not None and self._token is not None:
            identity = await join(self._url, self._token, settings)
        else:
            identity = await asyncio.to_thread(identity_folder(settings.home).load)
        ear = _Ear(asyncio.get_running_loop(), self)
        worker = Worker(settings, identity, hypervisors=[], plugins={FOLDER: lambda: ear})
        self._worker = await worker.__aenter__()
        self._run = asyncio.create_task(worker.run(), name="host")
        self._run.add_done_callback(lambda _task: self._wake())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End in order. Raises what had ended it before, as `certificate.revoked`."""
        worker, run = self._worker, self._run
        if worker is None or run is None:
            return
        try:
            worker.stop()
            await asyncio.wait({run})
        finally:
            await worker.__aexit__(kind, fault, trace)
            self._worker = None
        if fault is None:
            run.result()

    @property
    def name(self) -> str:
        """What the host is called: what `Attribute(pin=[…])` takes."""
        return self._entered.settings.name

    async def held(self, name: str) -> Path:
        """The file of the datum `name`, once it is held here. It is only to be read. Bound it by `asyncio.timeout`.

        Raises:
            BitDewError: what ends the host meanwhile, as `certificate.revoked`.
        """
        while name not in self.copies and not self._has_ended():
            await self._changed.wait()
        if name not in self.copies:
            self._raise_end()
        return self.copies[name].path

    async def arrivals(self) -> AsyncGenerator[Replica]:
        """The copies that are held, and each that comes, until the host ends. Raises what ends it."""
        seen = 0
        while True:
            while len(self._arrived) <= seen and not self._has_ended():
                await self._changed.wait()
            while seen < len(self._arrived):
                seen += 1
                yield self._arrived[seen - 1]
            if self._has_ended():
                self._raise_end()
                return

    # Inside ---------------------------------------------------------------------------------------------------------

    @property
    def _entered(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("use `async with bitdew.host(…) as …`")
        return self._worker

    async def _settings(self) -> WorkerSettings:
        if self._token is None:
            return await asyncio.to_thread(WorkerSettings.load, self.home)
        said: dict[str, Any] = {
            key: parse_size(value) if key in _SIZES and isinstance(value, str) else value
            for key, value in self._lent.items()
        }
        try:
            return WorkerSettings(home=self.home, **said)
        except ValidationError as fault:
            first = fault.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise error("input.invalid", f"{field} can't be that", why=first["msg"], field=field) from None

    def _has_ended(self) -> bool:
        return self._run is None or self._run.done()

    def _raise_end(self) -> None:
        if self._run is not None:
            self._run.result()

    def _wake(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()

    def hear(self, held: Sequence[Replica], *, gone: str = "", whole: bool = False) -> None:
        """Take in what is held now; the ear's part."""
        if whole:
            self.copies = {}
        self.copies |= {copy.name: copy for copy in held}
        self.copies = {name: copy for name, copy in self.copies.items() if copy.uid != gone}
        self._arrived += held
        self._wake()


_SIZES: Final = frozenset({"quota", "upload", "download", "memory"})


class _Ear(Plugin):
    """The plug-in by which the program is told; it is called on a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: Host) -> None:
        self._loop = loop
        self._host = host

    async def _say(self, held: Sequence[Replica], *, gone: str = "", whole: bool = False) -> None:
        async def hear() -> None:
            self._host.hear(held, gone=gone, whole=whole)

        # Waited for: a copy that is to go does not before the program knows.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hear(), self._loop))

    async def started(self, held: Sequence[Replica]) -> None:
        """As in `Plugin`."""
        await self._say(held, whole=True)

    async def held(self, copy: Replica) -> None:
        """As in `Plugin`."""
        await self._say([copy])

    async def dropping(self, copy: Replica) -> None:
        """As in `Plugin`."""
        await self._say([], gone=copy.uid)


def host(
    url: str | None = None,
    token: str | None = None,
    *,
    home: str | Path | None = None,
    name: str | None = None,
    quota: int | str | None = None,
    upload: int | str | None = None,
    download: int | str | None = None,
    listen: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Host:
    """This program as a host, to be used with `async with`.

    Args:
        url: The service's URL, where it is to join.
        token: A join token for a worker; without one, the home has to have joined before, and lends what it lent then.
        home: The folder of everything that it has; `program` in the user's own by default.
        name: What to call the host; this machine's name by default.
        quota: Bytes of copies at most, or a text as `"5GB"`; 20 GB by default.
        upload: Bytes per second that are sent at most; 0 is unlimited.
        download: Bytes per second that are received at most.
        listen: Where its swarm listens, `IP:PORT`; any free port by default.
        labels: What requirements can ask for.
    """
    given = {
        "name": name,
        "quota": quota,
        "upload": upload,
        "download": download,
        "listen": listen,
        "labels": None if labels is None else dict(labels),
    }
    return Host(url, token, home, {key: value for key, value in given.items() if value is not None})
