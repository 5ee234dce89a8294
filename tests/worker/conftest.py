"""What the worker's tests share: a small real service with scripted orders, a real repository, and workers to start.

The service speaks the wire's own routes over TLS with real certificates, and its repository is a real swarm. It decides
nothing: a test writes the orders and looks at what the host says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bitdew.worker.daemon import Worker
from bitdew.worker.enrol import identity_folder
from bitdew.worker.events import Event
from bitdew.worker.settings import WorkerSettings

from bitdew.core.blocks import sketch_of
from bitdew.core.content import ContentHasher
from bitdew.core.data import ImageRecord, SignedRecord
from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.ids import Uid, new_uid
from bitdew.core.orders import ErrandKind, OrderKind
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import Metainfo, build_metainfo
from bitdew.swarm.session import Swarm
from bitdew.testing.mock_hypervisor import MockHost, MockHypervisor
from bitdew.trust.authority import Authority
from bitdew.trust.identity import Identity
from bitdew.trust.keys import KeyPair, certificate_request, new_key, new_signing_key
from bitdew.trust.records import sign_record
from bitdew.trust.roles import Role
from bitdew.trust.tls import server_context
from bitdew.trust.tokens import JoinToken
from bitdew.wire.models import (
    AnnounceReply,
    AnnounceRequest,
    AttributeNamesReply,
    AttributeNamesRequest,
    AuthorityReply,
    CallView,
    EnrolReply,
    EnrolRequest,
    ErrandOrder,
    ErrandReport,
    ErrorView,
    LaunchOrder,
    MachineReport,
    MachineSeed,
    MetainfoReply,
    Nothing,
    Order,
    PlacementReport,
    PlaceOrder,
    RecordModel,
    RenewRequest,
    ServiceReply,
    SketchReply,
    SoughtReply,
    SyncReply,
    SyncRequest,
)
from bitdew.wire.server import Call, FileReply, Routes, new_application

LOOPBACK = Endpoint("127.0.0.1", 0)
HOST_ID = "7" * 32
PROGRAM = """
import asyncio, sys
from pathlib import Path
from bitdew.worker.daemon import Worker
from bitdew.worker.enrol import identity_folder
from bitdew.worker.settings import WorkerSettings

async def main(home):
    settings, identity = WorkerSettings.load(home), identity_folder(home).load()
    async with Worker(settings, identity, hypervisors=[]) as worker:
        await worker.run()

asyncio.run(main(Path(sys.argv[1])))
"""


@dataclass(frozen=True)
class Published:
    """A datum that the repository seeds."""

    uid: str
    name: str
    content: bytes
    metainfo: Metainfo

    @property
    def root(self) -> str:
        return str(self.metainfo.content.root)

    @property
    def size(self) -> int:
        return len(self.content)


def metainfo_of(content: bytes) -> Metainfo:
    hasher = ContentHasher(len(content))
    hasher.update(content)
    return build_metainfo(hasher.finish())


def leaves_in(path: Path) -> bytes:
    """The leaf hashes of a file."""
    content = path.read_bytes()
    hasher = ContentHasher(len(content), keep_leaves=True)
    hasher.update(content)
    hasher.finish()
    return hasher.leaves


def bootable(size: int, seed: int = 1) -> bytes:
    """Bytes that are as good as random, with the signature of a bootable disk."""
    raw = random.Random(seed).randbytes(size)  # noqa: S311 - nothing secret
    return raw[:510] + b"\x55\xaa" + raw[512:]


class ScriptedService:
    """Issues the orders that a test writes, and keeps what the host reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open(folder / "ca", now=datetime.now(UTC), name="test grid")
        self.orders: list[Order] = []
        self.generation = 0
        self.period = 5.0
        self.syncs: list[SyncRequest] = []
        self.placements: dict[str, PlacementReport] = {}
        self.machines: dict[str, MachineReport] = {}
        self.consoles: dict[str, str] = {}
        self.results: dict[str, ErrandReport] = {}
        self.seeds: list[str] = []
        self.no_seeds = False
        self.history: list[tuple[str, str]] = []
        self.reasons: dict[str, list[ErrorView]] = {}
        self.peers: list[Endpoint] = []
        self.announces = 0
        self.sought: list[str] = []
        self.asked_sought = 0
        self.calls: list[CallView] = []
        self.ranges: list[tuple[str, str]] = []
        self.helped: list[tuple[int, int]] = []
        self.asked_blocks: list[str] = []
        self.forgotten: set[str] = set()
        self.reading = 0
        self.busy = 0
        self.refusal: Exception | None = None
        self.refused = 0
        self.lose_replies = 0
        self.ask_full = False
        self.attributes: dict[str, str] = {}
        self.named = 0
        self.revoked = False
        self.validity: timedelta | None = None
        self.metainfos: dict[str, Metainfo] = {}
        self.repository: Swarm
        self.url = ""
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0
        signing = new_signing_key()
        request = certificate_request(signing, "ada")
        now = datetime.now(UTC)
        issued = self.authority.sign_signing(request, subject_id="5" * 32, name="ada", now=now)
        self.signing = KeyPair(issued.pem, signing)

    # Life

    async def up(self) -> None:
        routes, app = Routes(), new_application(self._guard)
        worker = {Role.WORKER}
        routes.add("POST", "/v1/sync", self._sync, body=SyncRequest, roles=worker)
        routes.add("POST", "/v1/errands/{uid}/result", self._result, body=ErrandReport, roles=worker)
        routes.add("POST", "/v1/machines/{uid}/seed", self._seed, roles=worker)
        routes.add("POST", "/v1/announce", self._announce, body=AnnounceRequest, roles=worker)
        routes.add("GET", "/v1/sought", self._sought, roles=worker)
        routes.add("POST", "/v1/attribute-names", self._names, body=AttributeNamesRequest, roles=worker)
        routes.add("GET", "/v1/metainfo/{root}", self._metainfo, roles=worker)
        routes.add("GET", "/v1/sketch/{root}", self._sketch, roles=worker)
        routes.add("GET", "/v1/blocks/{root}", self._blocks, roles=worker)
        routes.add("GET", "/v1/content/{root}", self._content, roles=worker)
        routes.add("GET", "/v1/help/{root}", self._help, roles=worker)
        routes.add("POST", "/v1/identity/renew", self._renew, body=RenewRequest, roles=worker)
        routes.add("GET", "/v1/service", self._about, roles=worker)
        routes.add("GET", "/v1/ca", self._ca, roles=None)
        routes.add("POST", "/v1/enrol", self._enrol, body=EnrolRequest, roles=None)
        routes.install(app)
        pair = await asyncio.to_thread(self.authority.service_pair, [], now=datetime.now(UTC))
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        context = await asyncio.to_thread(server_context, pair, self.authority.certificate)
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=context)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{self._port}"

    async def move(self) -> None:
        """Go on at another URL."""
        await self.down()
        self._port = 0
        await self.up()

    async def down(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    # Data and orders

    def swarm_credentials(self, name: str = "repository") -> SwarmCredentials:
        key = new_key()
        request = certificate_request(key, name)
        issued = self.authority.sign_swarm(request, subject_id="1" * 32, name=name, now=datetime.now(UTC))
        return SwarmCredentials(self.authority.certificate, issued.pem, key)

    async def publish(self, content: bytes, name: str = "disk") -> Published:
        metainfo = metainfo_of(content)
        published = Published(new_uid(), name, content, metainfo)
        path = self.folder / published.root
        if published.root not in self.metainfos:
            path.write_bytes(content)
            self.metainfos[published.root] = metainfo
            await self.repository.add(metainfo, path, complete=True)
        return published

    def order(
        self,
        kind: str,
        subject: str,
        *,
        place: Any = None,
        launch: Any = None,
        errand: Any = None,
        generation: int | None = None,
    ) -> Order:
        self.generation = max(self.generation + 1, generation or 0)
        made = Order(
            uid=new_uid(),
            generation=self.generation if generation is None else generation,
            kind=OrderKind(kind),
            subject=subject,
            cause="the test says so",
            place=place,
            launch=launch,
            errand=errand,
        )
        self.orders.append(made)
        self._stir()
        return made

    def place(
        self,
        data: Published,
        peers: Sequence[Endpoint] = (),
        generation: int | None = None,
        protocol: Any = "auto",
        copies: int = 0,
    ) -> Order:
        wish = PlaceOrder(
            name=data.name,
            root=data.root,
            size=data.size,
            info_hash=data.metainfo.info_hash,
            repository=str(self.repository.endpoint),
            protocol=protocol,
            peers=[str(peer) for peer in peers],
            copies=copies,
        )
        return self.order("place", data.uid, place=wish, generation=generation)

    def call(self, data: Published, peer: Endpoint | None = None) -> None:
        """Tell the host that another one, at `peer`, has begun to fetch `data`."""
        self.calls.append(CallView(root=data.root, peer=None if peer is None else str(peer)))
        self._stir()

    def drop(self, data: Published) -> Order:
        return self.order("drop", data.uid)

    def record(self, data: Published, **changes: Any) -> SignedRecord:
        now = datetime.now(UTC)
        made = ImageRecord(
            uid=Uid(data.uid),
            name=data.name,
            root=data.metainfo.content.root,
            info_hash=data.metainfo.info_hash,
            size=data.size,
            format="raw",
            os="Debian 12",
            arch="x86_64",
            version="1",
            publisher="ada",
            issued=now,
            expires=now + timedelta(days=1),
        )
        return sign_record(replace(made, **changes), self.signing)

    def ask(self, machine: str, kind: str, name: str | None = None) -> str:
        """Have something done with a machine; the errand's uid."""
        uid = new_uid()
        self.order("errand", uid, errand=ErrandOrder(machine=machine, kind=ErrandKind(kind), name=name))
        return uid

    async def asked(self, machine: str, kind: str, name: str | None = None) -> ErrandReport:
        """What comes of an errand."""
        uid = self.ask(machine, kind, name)
        await self.until(lambda: uid in self.results)
        return self.results[uid]

    def launch(self, data: Published, signed: SignedRecord | None = None, memory: int = 2**26, **wishes: Any) -> str:
        wish = LaunchOrder(
            data=data.uid,
            root=data.root,
            record=RecordModel.of(signed or self.record(data)),
            memory=memory,
            cpus=1,
            **wishes,
        )
        uid = new_uid()
        self.order("launch", uid, launch=wish)
        return uid

    # What the host says

    async def until(self, met: Callable[[], Any], seconds: float = 15.0) -> float:
        """Seconds until `met`; looked at after each sync."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while not met():
                await self._changed.wait()
        return time.monotonic() - began

    def state(self, uid: str) -> str:
        report = self.placements.get(uid)
        return str(report.state) if report else ""

    def machine(self, uid: str) -> str:
        report = self.machines.get(uid)
        return str(report.state) if report else ""

    async def until_state(self, uid: str, *states: str, seconds: float = 15.0) -> float:
        return await self.until(lambda: self.state(uid) in states or self.machine(uid) in states, seconds)

    def _stir(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # Routes

    async def _guard(self, subject: object) -> None:
        if self.revoked:
            raise error("certificate.revoked", "The certificate was revoked")

    async def _sync(self, call: Call[SyncRequest]) -> SyncReply:
        asked = call.body
        self.syncs.append(asked)
        for placement in asked.placements:
            self.placements[placement.uid] = placement
            self.history.append((placement.uid, str(placement.state)))
            if placement.reason is not None:
                self.reasons.setdefault(placement.uid, []).append(placement.reason)
        for machine in asked.machines:
            self.machines[machine.uid] = machine
            self.history.append((machine.uid, str(machine.state)))
            if machine.console is not None:
                known = self.consoles.get(machine.uid, "")
                assert machine.console.offset <= len(known)
                self.consoles[machine.uid] = known[: machine.console.offset] + machine.console.text
        self._stir()
        until = time.monotonic() + asked.wait
        while not (orders := [o for o in self.orders if o.generation > asked.generation]) and not self.calls:
            left = until - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        if self.lose_replies > 0 and orders:
            self.lose_replies -= 1
            assert call.request.transport is not None
            call.request.transport.abort()
        full, self.ask_full = self.ask_full, False
        top = max([asked.generation, *(o.generation for o in orders)])
        calls, self.calls = self.calls, []
        return SyncReply(generation=top, orders=orders, full=full, period=self.period, calls=calls)

    async def _result(self, call: Call[ErrandReport]) -> Nothing:
        self.results[call.path["uid"]] = call.body
        self._stir()
        return Nothing()

    async def _announce(self, call: Call[AnnounceRequest]) -> AnnounceReply:
        self.announces += 1
        return AnnounceReply(peers=[str(peer) for peer in self.peers])

    async def _sought(self, _call: Call[Any]) -> SoughtReply:
        self.asked_sought += 1
        return SoughtReply(roots=self.sought)

    async def _names(self, call: Call[AttributeNamesRequest]) -> AttributeNamesReply:
        self.named += 1
        return AttributeNamesReply(names={uid: self.attributes.get(uid, "") for uid in call.body.data})

    async def _seed(self, call: Call[Nothing]) -> MachineSeed:
        if self.no_seeds:
            raise error("machine.not-found", "There is no seed", why="the test says so")
        self.seeds.append(call.path["uid"])
        return MachineSeed(token=f"token-{len(self.seeds)}", user_data="#!/bin/sh\n")

    async def _metainfo(self, call: Call[Any]) -> MetainfoReply:
        return MetainfoReply(metainfo=self.metainfos[call.path["root"]].encoded)

    async def _sketch(self, call: Call[Any]) -> SketchReply:
        if call.path["root"] in self.forgotten:
            raise error("data.not-found", "The repository has no such content", why="the test says so")
        if self.reading > 0:
            self.reading -= 1
            raise error("help.busy", "The blocks are not known yet", retry_after=0.1)
        leaves = await asyncio.to_thread(leaves_in, self.folder / call.path["root"])
        return SketchReply(sketch=sketch_of(leaves))

    async def _blocks(self, call: Call[Any]) -> FileReply:
        """The hashes of the file's blocks as they were published, or what a test says that they are."""
        self.asked_blocks.append(call.path["root"])
        path = self.folder / f"{call.path['root']}.blocks"
        if not await asyncio.to_thread(path.exists):
            leaves = await asyncio.to_thread(leaves_in, self.folder / call.path["root"])
            await asyncio.to_thread(path.write_bytes, leaves)
        return FileReply(path)

    async def _content(self, call: Call[Any]) -> FileReply:
        """The file, whatever is in it by now; each request's range is kept."""
        self.ranges.append((call.path["root"], call.request.headers.get("Range", "")))
        path = self.folder / call.path["root"]
        if not await asyncio.to_thread(path.exists):
            raise error("data.not-found", "The repository has no such content", why="the test says so")
        return FileReply(path)

    async def _help(self, call: Call[Any]) -> FileReply:
        """As content, if help is given: the first and the last byte of each request that is answered are kept."""
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
        if self.busy > 0:
            self.busy -= 1
            raise error("help.busy", "Others are helped now", retry_after=0.2)
        first, _, last = call.request.headers["Range"].removeprefix("bytes=").partition("-")
        self.helped.append((int(first), int(last)))
        return FileReply(self.folder / call.path["root"])

    async def _about(self, call: Call[Any]) -> ServiceReply:
        return ServiceReply(
            name="test grid",
            version="1",
            api=1,
            fingerprint=self.authority.fingerprint,
            subject=call.caller.subject_id,
            role="worker",
        )

    async def _ca(self, call: Call[Any]) -> AuthorityReply:
        return AuthorityReply(certificate=self.authority.certificate)

    async def _enrol(self, call: Call[EnrolRequest]) -> EnrolReply:
        asked = call.body
        return self.grant(asked.name, asked.identity_csr, asked.swarm_csr or "")

    async def _renew(self, call: Call[RenewRequest]) -> EnrolReply:
        asked = call.body
        return self.grant(call.caller.name, asked.identity_csr, asked.swarm_csr or "")

    def grant(self, name: str, identity: str, swarm: str, now: datetime | None = None) -> EnrolReply:
        now = now or datetime.now(UTC)
        granted = self.authority.sign_identity(identity, role=Role.WORKER, subject_id=HOST_ID, name=name, now=now)
        peer = self.authority.sign_swarm(swarm, subject_id=HOST_ID, name=name, now=now)
        return EnrolReply(
            subject_id=HOST_ID,
            name=name,
            role="worker",
            ca=self.authority.certificate,
            identity=granted.pem,
            swarm=peer.pem,
        )

    def token(self) -> str:
        return str(JoinToken.mint(self.authority.fingerprint))

    def identity(self, home: Path, name: str = "pc-7", now: datetime | None = None) -> Identity:
        """The identity of the worker in `home`, made without the wire if there is none."""
        folder = identity_folder(home)
        if not folder.exists():
            asked = folder.prepare(Role.WORKER)
            granted = self.grant(name, asked.identity, asked.swarm or "", now)
            folder.store(url=self.url, ca=granted.ca, identity=granted.identity, swarm=granted.swarm)
        return folder.load()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ScriptedService]:
    folder = tmp_path / "service"
    folder.mkdir()
    made = await asyncio.to_thread(ScriptedService, folder)
    made.repository = await Swarm.start(LOOPBACK, made.swarm_credentials())
    await made.up()
    yield made
    await made.down()
    await made.repository.close()


@dataclass
class Started:
    """A worker that runs, and what happened to it."""

    worker: Worker
    task: asyncio.Task[None]
    events: list[Event] = field(default_factory=list)

    async def crash(self) -> None:
        """End it as a kill would, as far as one process can play that: no step of the orderly end is taken."""
        worker = self.worker
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        worker._ending.pop_all()
        await worker._control.close()
        await worker.swarm.close()
        await worker._link.close()
        await worker._journal.close()
        worker._lock.release()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def mock_host() -> MockHost:
    return MockHost()


StartWorker = Callable[..., Any]


@pytest.fixture
def start_worker(service: ScriptedService, home: Path, mock_host: MockHost) -> StartWorker:
    """Starts a worker in `home`; leaving the context ends it in an orderly way, unless it crashed."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Started]:
        clock, hypervisor = changes.pop("clock", None), changes.pop("hypervisor", None)
        senses, plugins = changes.pop("senses", None), changes.pop("plugins", None)
        changes |= changes.pop("settings", {})
        driver = hypervisor or MockHypervisor(host=mock_host)
        identity = changes.pop("identity", None) or await asyncio.to_thread(service.identity, home)
        settings = WorkerSettings(**{"home": home, "name": "pc-7", "listen": "127.0.0.1:0", "cpus": 2, **changes})
        events: list[Event] = []
        try:
            made = Worker(
                settings,
                identity,
                clock=clock,
                hypervisors=[driver],
                senses=senses,
                on_event=events.append,
                plugins=plugins,
            )
            async with made as worker:
                started = Started(worker, asyncio.create_task(worker.run()), events)
                try:
                    yield started
                finally:
                    worker.stop()
                    await asyncio.gather(started.task, return_exceptions=True)
        finally:
            await driver.close()

    return start


@pytest.fixture
def start_process() -> Callable[[Path], Any]:
    """Starts a worker without hypervisors in a process of its own; leaving the context kills it."""

    @asynccontextmanager
    async def start(home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        started = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(home), stdout=-3, stderr=-3)
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                started.send_signal(signal.SIGKILL)
            await started.wait()

    return start


@pytest.fixture
def disk_bytes() -> Callable[..., bytes]:
    return bootable


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits for a condition that no event announces."""

    async def wait(met: Callable[[], Any], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not met():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Writes a shell script that is found before all other programs; what it gives is the script's path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, script: str) -> Path:
        # A file that was open for writing can't be run while another test's child still has it: rename makes it whole.
        fresh = folder / f".{name}.new"
        fresh.write_text(f"#!/bin/sh\n{script}\n")
        fresh.chmod(0o755)
        return fresh.rename(folder / name)

    return write


def flip(path: Path, offset: int) -> None:
    """Change a byte as a disk does that fails: the file looks as before."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
