"""The service as a whole: it starts and ends in any state of its home and leaves nothing, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.composition import RENEW_SECONDS, Service, ServiceSettings
from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.core.ids import new_uid
from bitdew.lock import HomeLock
from bitdew.rooms import all_routes
from bitdew.testing.clock import SkippingClock
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import bootstrap_context, client_context
from bitdew.wire import models as m
from bitdew.wire.transport import Transport


@pytest.fixture
def settings(tmp_path: Path, empty_database: bytes) -> ServiceSettings:
    home = tmp_path / "service"
    home.mkdir()
    (home / "catalog.sqlite3").write_bytes(empty_database)
    return ServiceSettings(home=home, port=0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(3).randbytes(200_000))
    return path


async def lock_is_free(settings: ServiceSettings) -> None:
    lock = HomeLock(settings.home, "service")
    await asyncio.to_thread(lock.acquire)
    lock.release()


async def refused(settings: ServiceSettings) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        async with Service(settings):
            pytest.fail("it started")
    await lock_is_free(settings)
    return refusal.value


@asynccontextmanager
async def operating(service: Service, folder: Path) -> AsyncIterator[BitDew]:
    await service.enrol_operator(folder, "operator")
    async with BitDew.connect(folder) as client:
        yield client


# Starting and ending --------------------------------------------------------------------------------------------------


async def test_a_service_starts_on_an_empty_home_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with (
        Service(ServiceSettings(home=tmp_path / "new" / "home", port=0, name="lab")) as service,
        operating(service, tmp_path / "operator") as client,
    ):
        told = await client.service()
    assert (told.name, told.role) == ("lab", "operator")
    assert told.fingerprint == service.authority.fingerprint
    with pytest.raises(BitDewError) as refusal:
        async with BitDew.connect(tmp_path / "operator") as late:
            await late.service()
    assert refusal.value.key == "service.unreachable"


async def test_what_fails_inside_a_service_ends_it_in_order(settings: ServiceSettings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Service(settings):
            raise ZeroDivisionError
    async with Service(settings):
        pass


async def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing(settings: ServiceSettings) -> None:
    for milliseconds in (0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 50, 64, 80, 100, 130):

        async def start() -> None:
            async with Service(settings):
                await asyncio.Event().wait()

        task = asyncio.create_task(start())
        await asyncio.sleep(milliseconds / 1000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await lock_is_free(settings)
    async with Service(settings):
        pass


async def test_a_service_with_polls_held_open_ends_soon(settings: ServiceSettings, image: Path, tmp_path: Path) -> None:
    service = await Service(settings).__aenter__()
    try:
        async with operating(service, tmp_path / "operator") as client:
            disk = await client.add_disk(image, "disk")
            version = (await client.where("disk")).version
            polls = [asyncio.create_task(client.where(disk.uid, version, 50)) for _ in range(5)]
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await service.__aexit__(None, None, None)
            assert time.monotonic() - began < 5
            answers = await asyncio.gather(*polls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {m.WhereReply}
    finally:
        await service.__aexit__(None, None, None)


async def test_run_returns_when_it_is_told_to_stop(settings: ServiceSettings) -> None:
    async with Service(settings) as service:
        running = asyncio.create_task(service.run())
        await asyncio.sleep(0.05)
        assert not running.done()
        service.stop()
        await asyncio.wait_for(running, 2)


async def test_a_liveness_that_can_not_be_stored_once_ends_nothing(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Service(settings) as service:
        judged = asyncio.Event()

        async def judge(_check) -> None:
            judged.set()
            raise OSError("the disk is away for a moment")

        monkeypatch.setattr(service.rooms.hosts, "judge", judge)
        loop = asyncio.create_task(service.rooms.engine.watch_liveness(0.01))
        await asyncio.wait_for(judged.wait(), 5)
        judged.clear()
        await asyncio.wait_for(judged.wait(), 5)
        assert not loop.done()
        loop.cancel()
        await asyncio.wait({loop})


async def test_run_raises_what_a_loop_raised(settings: ServiceSettings) -> None:
    async with Service(settings) as service:

        async def broken() -> None:
            raise TypeError

        service._loops.append(asyncio.create_task(broken()))
        with pytest.raises(TypeError):
            await asyncio.wait_for(service.run(), 5)


# What may stand in the way --------------------------------------------------------------------------------------------


async def test_a_port_in_use_is_told_and_the_home_is_free_again(settings: ServiceSettings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert (await refused(replace(settings, port=port))).key == "port.in-use"
        assert (await refused(replace(settings, swarm=Endpoint("127.0.0.1", port)))).key == "port.in-use"
    async with Service(replace(settings, port=port)) as service:
        assert service.url == f"https://127.0.0.1:{port}"


async def test_an_address_that_is_not_ours_is_told(settings: ServiceSettings) -> None:
    fault = await refused(replace(settings, host="192.0.2.1"))
    assert fault.key == "input.invalid"
    assert "192.0.2.1" in fault.message


async def test_a_home_has_one_service(settings: ServiceSettings, tmp_path: Path) -> None:
    async with Service(settings) as service, operating(service, tmp_path / "operator") as client:
        with pytest.raises(BitDewError) as refusal:
            async with Service(settings):
                pytest.fail("it started")
        assert refusal.value.key == "storage.locked"
        assert str(os.getpid()) in refusal.value.why
        assert (await client.service()).name == "bitdew"


@pytest.mark.parametrize("damaged", ["catalog.sqlite3", "authority/authority.pem"])
async def test_a_damaged_home_is_told_and_left_as_it_is(settings: ServiceSettings, damaged: str) -> None:
    async with Service(settings):
        pass
    path = settings.home / damaged
    path.write_bytes(b"this is a letter\n" * 1000)
    assert (await refused(settings)).key == "storage.failed"
    assert path.read_bytes() == b"this is a letter\n" * 1000


async def test_another_listener_does_not_change_what_the_urls_look_like(settings: ServiceSettings) -> None:
    async with Service(replace(settings, host="::1")) as service:
        assert service.url.startswith("https://[::1]:")


# Restarting -----------------------------------------------------------------------------------------------------------


async def test_a_restart_keeps_the_ca_the_data_and_the_tokens(
    settings: ServiceSettings, image: Path, tmp_path: Path
) -> None:
    async with Service(settings) as service, operating(service, tmp_path / "operator") as client:
        disk = await client.add_disk(image, "disk")
        token = (await client.create_token("worker")).token or ""
        fingerprint, port = service.authority.fingerprint, int(service.url.rpartition(":")[2])
    async with (
        Service(replace(settings, port=port)) as service,
        BitDew.connect(tmp_path / "operator") as client,
    ):
        assert service.authority.fingerprint == fingerprint
        (kept,) = await client.disks()
        assert (kept.uid, kept.damaged) == (disk.uid, False)
        assert disk.info_hash in service.swarm.offers
        worker = await enrol(service.url, token, "pc", IdentityFolder(tmp_path / "pc"), {Role.WORKER})
        assert worker.subject.role is Role.WORKER
        with pytest.raises(BitDewError) as refusal:
            await enrol(service.url, token, "pc2", IdentityFolder(tmp_path / "pc2"), {Role.WORKER})
        assert refusal.value.key == "token.used"


async def test_a_worker_renews_and_is_the_same_host(settings: ServiceSettings, tmp_path: Path) -> None:
    clock = SkippingClock()
    async with Service(settings, clock) as service, operating(service, tmp_path / "operator") as client:
        token = (await client.create_token("worker")).token or ""
        folder = IdentityFolder(tmp_path / "pc")
        worker = await enrol(service.url, token, "pc", folder, {Role.WORKER})
        requests = await asyncio.to_thread(folder.prepare, Role.WORKER)
        context = await asyncio.to_thread(client_context, worker.ca, worker.identity)
        async with Transport(service.url, context) as line:
            body = m.RenewRequest(identity_csr=requests.identity, swarm_csr=requests.swarm)
            renewed = await line.call("POST", "/v1/identity/renew", m.EnrolReply, body=body)
            assert renewed.subject_id == worker.subject.subject_id
            clock.skip(31 * 86400)  # the connection outlived the certificate
            with pytest.raises(BitDewError) as refusal:
                await line.call("POST", "/v1/sync", m.SyncReply, body=m.SyncRequest(boot=new_uid(), generation=0))
            assert refusal.value.key == "certificate.expired"


# The operator ---------------------------------------------------------------------------------------------------------


async def test_an_operators_identity_is_made_once(settings: ServiceSettings, tmp_path: Path) -> None:
    async with Service(settings) as service:
        first = await service.enrol_operator(tmp_path / "operator", "operator")
        assert await service.enrol_operator(tmp_path / "operator", "operator") == first
        assert first.signing is not None
        port = int(service.url.rpartition(":")[2])
    async with Service(replace(settings, port=port)) as service:
        assert await service.enrol_operator(tmp_path / "operator", "operator") == first


async def test_an_operator_of_a_service_that_moved_stays_who_it_was(settings: ServiceSettings, tmp_path: Path) -> None:
    async with Service(settings) as service:
        first = await service.enrol_operator(tmp_path / "operator", "operator")
    with closing(socket.create_server(("127.0.0.1", int(first.url.rpartition(":")[2])))):
        async with Service(settings) as service, operating(service, tmp_path / "operator") as client:
            assert client.identity.url == service.url != first.url
            assert client.identity.subject.subject_id == first.subject.subject_id
            assert await client.hosts() == []


async def test_an_operators_identity_that_ended_is_renewed_by_starting_the_service(
    settings: ServiceSettings, tmp_path: Path
) -> None:
    class Earlier(SkippingClock):
        def now(self) -> datetime:
            return super().now() - timedelta(days=40)

    async with Service(settings, Earlier()) as service:
        first = await service.enrol_operator(tmp_path / "operator", "operator")
        port = int(service.url.rpartition(":")[2])
    with pytest.raises(BitDewError):
        first.require_valid(datetime.now(UTC))
    async with (
        Service(replace(settings, port=port)) as service,
        operating(service, tmp_path / "operator") as client,
    ):
        assert (await client.service()).role == "operator"
        assert client.identity.subject.subject_id == first.subject.subject_id


async def test_an_operator_that_was_revoked_is_someone_else_after_a_restart(
    settings: ServiceSettings, tmp_path: Path
) -> None:
    async with Service(settings) as service:
        first = await service.enrol_operator(tmp_path / "operator", "operator")
        await service.rooms.registry.revoke(first.subject.subject_id)
        async with operating(service, tmp_path / "operator") as client:
            assert (await client.service()).role == "operator"
            assert client.identity.subject.subject_id != first.subject.subject_id


async def test_a_profile_of_another_service_is_left_alone(
    settings: ServiceSettings, tmp_path: Path, empty_database: bytes
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "catalog.sqlite3").write_bytes(empty_database)
    async with Service(settings) as service:
        first = await service.enrol_operator(tmp_path / "operator", "operator")
    async with Service(replace(settings, home=other)) as service:
        with pytest.raises(BitDewError) as refusal:
            await service.enrol_operator(tmp_path / "operator", "operator")
    assert refusal.value.key == "profile.taken"
    assert await asyncio.to_thread(IdentityFolder(tmp_path / "operator").load) == first


def test_every_route_stands_once_in_the_table() -> None:
    routes = [(route.method, route.path) for route in all_routes()]
    assert len(routes) == len(set(routes)) > 20
    assert {route.path for route in all_routes() if route.roles is None} == {"/v1/ca", "/v1/enrol", "/v1/health"}


# Kills ----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """A real process that serves `home`, and its operator's profile; killed in the end."""
    command = [sys.executable, "-P", "-m", "bitdew", "serve", "--home", str(home / "service"), "--port", "0", "--json"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"BITDEW_HOME": str(home)},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(40):
            ready = json.loads(await process.stdout.readline())
        yield process, Path(ready["profile"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.timeout(120)
async def test_a_kill_at_any_moment_loses_no_disk_that_was_acknowledged(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(), dict[str, str]()

    async def add_disks(client: BitDew, turn: int) -> None:
        for number in range(10_000):
            path = tmp_path / "disk.raw"
            path.write_bytes(chance.randbytes(chance.choice([1, 70_000, 300_000])))
            disk = await client.add_disk(path, f"disk-{turn}-{number}")
            acknowledged[disk.name] = disk.root

    for turn in range(3):
        async with serving(tmp_path) as (process, profile), BitDew.connect(profile) as client:
            shown = {disk.name: (disk.root, disk.damaged) for disk in await client.disks()}
            assert shown.items() >= {name: (root, False) for name, root in acknowledged.items()}.items()
            client.patience = 0.0
            adding = asyncio.create_task(add_disks(client, turn))
            await asyncio.sleep(chance.uniform(0.1, 0.7))
            process.kill()
            with pytest.raises(BitDewError):
                await adding
    assert acknowledged

    async with (
        Service(ServiceSettings(home=tmp_path / "service", port=0)) as service,
        operating(service, tmp_path / "operator") as client,
    ):
        disks = {disk.name: disk for disk in await client.disks()}
        for name, root in acknowledged.items():
            assert (disks[name].root, disks[name].damaged) == (root, False)
            assert disks[name].info_hash in service.swarm.offers
            assert await service.rooms.contents.repository.is_whole(disks[name].root)  # type: ignore[arg-type]
        # What was under way can be gone on with; there is nothing else.
        uploads = {path.stem for path in (tmp_path / "service" / "repository" / "uploads").iterdir()}
        assert uploads == set(service.rooms.contents.repository.uploads.under_way)


async def test_a_service_that_runs_for_months_shows_a_certificate_that_holds(settings: ServiceSettings) -> None:
    async def shown(service: Service) -> bytes:
        host, port = service.url.removeprefix("https://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=bootstrap_context())
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return certificate

    clock = SkippingClock()
    async with Service(settings, clock) as service:
        first = await shown(service)
        clock.skip(250 * RENEW_SECONDS)  # days: past two thirds of its year
        async with asyncio.timeout(10):
            while await shown(service) == first:
                await asyncio.sleep(0.02)
