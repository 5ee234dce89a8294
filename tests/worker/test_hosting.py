"""A program as a host, in a real grid: it gets copies, is told of them, passes them on, and ends in order."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing

import pytest

import bitdew
from bitdew import Attribute, BitDewError
from bitdew.testing.grid import Grid

RAW = os.urandom(300_000)


@pytest.fixture
async def grid():
    async with Grid(hosts=1) as grid:
        yield grid


@pytest.fixture
async def dew(grid):
    async with bitdew.connect(grid.folder / "operator") as dew:
        yield dew


async def test_a_program_is_a_host_and_reads_its_copies_where_they_are(grid, dew) -> None:
    mine = {"home": grid.folder / "program", "name": "program", "quota": "1MB", "listen": "127.0.0.1:0"}
    async with asyncio.timeout(30), bitdew.host(grid.service.url, grid.token, **mine) as host:
        await dew.put(RAW, Attribute(pin=[host.name], replica=0), name="mine")
        path = await host.held("mine")
        assert await asyncio.to_thread(path.read_bytes) == RAW
        await dew.put(RAW + b"!", Attribute(replica=2), name="both")
        async with aclosing(host.arrivals()) as arrivals:
            names = [(await anext(arrivals)).name for _ in range(2)]
        assert names == ["mine", "both"]
        where = await (await dew.find("both")).held()
        assert {copy.host_name for copy in where.placements} == {"host1", "program"}
        await dew.delete("both")
        while "both" in host.copies:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30), bitdew.host(home=mine["home"]) as again:  # it is known there, and needs no token
        assert await again.held("mine") == path
        assert again.name == "program"


async def test_a_host_that_is_shut_out_tells_so_to_whoever_waits(grid, dew) -> None:
    host = bitdew.host(grid.service.url, grid.token, home=grid.folder / "program", name="program", listen="127.0.0.1:0")

    async def program() -> None:
        async with asyncio.timeout(30), host:
            waiting = asyncio.create_task(host.held("nothing"))
            while "program" not in {one.name for one in await dew.hosts()}:
                await asyncio.sleep(0.02)
            await dew.grid.revoke_host("program")
            await waiting

    with pytest.raises(BitDewError) as fault:
        await program()
    assert fault.value.key in {"certificate.revoked", "host.banned"}


@pytest.mark.parametrize("wrong", [{"quota": -1}, {"quota": "much"}, {"name": "a/b"}, {"listen": "here"}])
async def test_what_can_not_be_lent_is_refused(grid, wrong) -> None:
    with pytest.raises(BitDewError) as fault:
        async with bitdew.host(grid.service.url, grid.token, home=grid.folder / "program", **wrong):
            pass
    assert fault.value.key == "input.invalid"


async def test_a_program_that_never_joined_needs_a_token(tmp_path) -> None:
    with pytest.raises(BitDewError) as fault:
        async with bitdew.host(home=tmp_path / "none"):
            pass
    assert fault.value.key == "profile.missing"


async def test_a_program_seeds_its_own_file(grid, dew, tmp_path) -> None:
    (tmp_path / "big").write_bytes(RAW)
    async with asyncio.timeout(30), dew.seeding(tmp_path / "big", Attribute(replica=1)) as offer:
        assert (await offer.held()).data.held == 1
        view = (await dew.find("big")).view
        assert view.awaited is True  # the repository has none
