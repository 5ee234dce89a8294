"""Figures: what Prometheus reads is what is so, from whoever may look and nobody else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from bitdew.scheduler import health as health_module
from bitdew.scheduler.figures import FIGURES, FRESH
from prometheus_client.parser import text_string_to_metric_families

from bitdew.bootdisk import write_boot_disk
from bitdew.core.errors import BitDewError, HostError
from bitdew.core.job import JobSpec
from bitdew.core.states import JobState, MachineState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.testing.postgres import PostgresServer
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.tls import SERVICE_NAME, client_context
from bitdew.wire import models as m

Until = Callable[..., Awaitable[Any]]


async def asked(url: str, path: str, context: ssl.SSLContext) -> tuple[int, str, str]:
    """The status, the type and the text of a reply, as another program than ours sees them."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(url + path, server_hostname=SERVICE_NAME) as reply,
    ):
        return reply.status, reply.headers["Content-Type"], await reply.text()


async def operators(grid: Grid) -> ssl.SSLContext:
    """What a program with the operator's certificate connects by."""
    identity = await asyncio.to_thread(IdentityFolder(grid.folder / "operator").load)
    return await asyncio.to_thread(client_context, identity.ca, identity.identity)


async def strangers(grid: Grid) -> ssl.SSLContext:
    """What a program without a certificate connects by."""
    return await asyncio.to_thread(ssl.create_default_context, cadata=grid.service.authority.certificate)


async def read(grid: Grid) -> dict[tuple[str, str], float]:
    """A fresh reading: by the name of each figure and the value of its label."""
    grid.clock.skip(FRESH)
    status, kind, text = await asked(grid.service.url, "/v1/metrics", await operators(grid))
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
    return found


async def test_every_figure_is_read_and_nothing_else_of_ours(grid: Grid) -> None:
    found = {name for name, _ in await read(grid)}
    promised = {figure.name + ("_total" if figure.grows else "") for figure in FIGURES}
    assert {name for name in found if name.startswith("bitdew_")} == promised
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"} <= found


async def test_figures_follow_what_happens(grid: Grid, make_host, add_disk, until: Until) -> None:
    before = await read(grid)
    assert before["bitdew_hosts", "alive"] == before["bitdew_data", ""] == before["bitdew_copies", "held"] == 0
    await add_disk(size=70_000, replica=2)
    host = await make_host()

    async def short() -> bool:
        return (await read(grid))["bitdew_data_waiting", ""] == 1

    await until(short)
    await host.take()
    after = await read(grid)
    assert (after["bitdew_hosts", "alive"], after["bitdew_hosts", "lost"]) == (1, 0)
    assert (after["bitdew_data", ""], after["bitdew_data_bytes", ""]) == (1, 70_000)
    assert (after["bitdew_copies", "held"], after["bitdew_copies", "assigned"]) == (1, 0)
    assert after["bitdew_repository_contents", ""] == 1
    assert after["bitdew_repository_free_bytes", ""] > 0
    assert after["bitdew_leads", ""] == 1
    assert (after["bitdew_data_awaited", ""], after["bitdew_data_damaged", ""]) == (0, 0)
    assert after["bitdew_authority_expires_seconds", ""] > grid.clock.now().timestamp()
    states = {label for name, label in after if name == "bitdew_copies"}
    assert states == {str(state) for state in PlacementState} - {"gone"}


async def test_machines_and_jobs_are_counted_by_state(grid: Grid, make_host, tmp_path) -> None:
    await asyncio.to_thread(write_boot_disk, tmp_path / "hep.raw", line="hello", size=2**20, seed=b"figures")
    await grid.client.add_disk(tmp_path / "hep.raw", "hep")
    host = await make_host()
    await host.take()
    await grid.client.deploy("hep")
    await host.launched()
    await grid.client.submit(JobSpec(("root", "-b"), needs=("root>=6.30",)))
    grid.clock.skip(100)
    found = await read(grid)
    assert (found["bitdew_machines", "running"], found["bitdew_jobs", "queued"]) == (1, 1)
    assert found["bitdew_jobs_longest_wait_seconds", ""] >= 100
    assert {label for name, label in found if name == "bitdew_machines"} == {str(state) for state in MachineState}
    assert {label for name, label in found if name == "bitdew_jobs"} == {str(state) for state in JobState}


async def test_what_left_the_repository_only_grows(grid: Grid, add_disk) -> None:
    disk = await add_disk(size=70_000, replica=0)
    await grid.client.read("disk", 0, 70_000)
    sent = (await read(grid))["bitdew_repository_sent_bytes_total", ""]
    assert sent >= 70_000
    repository = grid.service.rooms.contents.repository
    repository._seeds[disk.root].uploaded += 5  # as if a host had fetched that much by swarm
    await grid.client.remove_disk("disk")
    assert (await read(grid))["bitdew_repository_sent_bytes_total", ""] == sent + 5


async def test_a_reading_serves_all_who_ask_within_five_seconds(grid: Grid, make_host) -> None:
    before = await read(grid)
    await make_host()
    context = await operators(grid)
    _, _, text = await asked(grid.service.url, "/v1/metrics", context)
    assert 'bitdew_hosts{state="alive"} 0.0' in text
    assert (before["bitdew_hosts", "alive"], (await read(grid))["bitdew_hosts", "alive"]) == (0, 1)


async def test_neither_a_worker_nor_a_stranger_reads_figures(grid: Grid, make_host) -> None:
    host = await make_host()
    with pytest.raises(BitDewError) as refused:
        await host.line.call("GET", "/v1/metrics", m.Nothing)
    assert refused.value.key == "certificate.role"
    status, _, text = await asked(grid.service.url, "/v1/metrics", await strangers(grid))
    assert (status, "certificate.missing" in text) == (401, True)


async def test_anybody_is_told_that_a_service_is_well(grid: Grid) -> None:
    assert (await grid.client.health()).leads
    status, _, text = await asked(grid.service.url, "/v1/health", await strangers(grid))
    assert (status, m.HealthReply.model_validate_json(text).leads) == (200, True)


async def test_a_service_without_its_repository_is_not_well_and_tells_strangers_no_paths(grid: Grid) -> None:
    files = grid.folder / "service" / "repository" / "files"
    kept = files.with_name("away")
    await asyncio.to_thread(files.rename, kept)
    with pytest.raises(HostError, match="its repository") as told:
        await grid.client.health()
    assert str(grid.folder) not in str(told.value)
    await asyncio.to_thread(kept.rename, files)
    with pytest.raises(HostError):  # the answer serves for a second
        await grid.client.health()
    grid.clock.skip(health_module.FRESH)
    assert (await grid.client.health()).leads


async def test_a_service_whose_database_is_gone_is_not_well(own_postgres: PostgresServer) -> None:
    url = await own_postgres.create("bitdew")
    async with Grid(0, database=url) as grid:
        await grid.service.rooms.leadership.gained()
        assert (await grid.client.health()).leads
        assert (await read(grid))["bitdew_data", ""] == 0
        await asyncio.to_thread(own_postgres.stop)
        grid.clock.skip(health_module.FRESH)
        with pytest.raises(HostError, match="its database"):
            await grid.client.health()
        await asyncio.to_thread(own_postgres.start)

        async def well() -> bool:
            grid.clock.skip(health_module.FRESH)
            try:
                return (await grid.client.health()) is not None
            except HostError:
                return False

        async with asyncio.timeout(30):
            while not await well():
                await asyncio.sleep(0.05)


async def test_no_loop_of_a_service_ends_while_its_database_is_gone(own_postgres: PostgresServer) -> None:
    url = await own_postgres.create("bitdew")
    async with Grid(1, database=url) as grid:

        async def at_work() -> None:
            async with asyncio.timeout(60):
                await grid.service.rooms.leadership.gained()
                while [host.state for host in await grid.client.hosts()] != ["alive"]:
                    await asyncio.sleep(0.1)

        await at_work()
        await asyncio.to_thread(own_postgres.stop)
        for _ in range(30):  # hours: whatever is done once in a while is done meanwhile
            grid.clock.skip(3600)
            await asyncio.sleep(0.1)
        assert [loop.get_name() for loop in grid.service._loops if loop.done()] == []
        await asyncio.to_thread(own_postgres.start)
        await at_work()
        assert [loop.get_name() for loop in grid.service._loops if loop.done()] == []
