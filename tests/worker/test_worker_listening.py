"""Where a worker's swarm listens: where it did before, if that is free."""

from __future__ import annotations

import asyncio
import socket

import pytest
from bitdew.worker.listening import FILE


async def port_of(start_worker, **changes):
    async with start_worker(**changes) as started:
        return started.worker.swarm.endpoint.port


async def test_a_worker_that_starts_again_listens_where_it_did(start_worker):
    assert await port_of(start_worker) == await port_of(start_worker)


async def test_a_port_that_was_taken_meanwhile_is_replaced_and_the_new_one_kept(start_worker, home):
    earlier = await port_of(start_worker)
    with socket.create_server(("127.0.0.1", earlier)):
        now = await port_of(start_worker)
    assert now != earlier
    assert await port_of(start_worker) == now
    assert int((home / FILE).read_text()) == now


@pytest.mark.parametrize("content", ["", "nonsense", "0", "-7", "65536", "\xff" * 100])
async def test_what_is_no_port_is_ignored(start_worker, home, content):
    home.mkdir()
    (home / FILE).write_text(content)
    assert await port_of(start_worker) > 0


async def test_a_port_that_was_chosen_is_not_replaced_by_an_earlier_one(start_worker):
    earlier = await port_of(start_worker)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        chosen = probe.getsockname()[1]
    assert await port_of(start_worker, listen=f"127.0.0.1:{chosen}") == chosen != earlier


async def test_a_folder_where_the_port_should_be_hinders_nobody(start_worker, home):
    home.mkdir()
    await asyncio.to_thread((home / FILE).mkdir)
    assert await port_of(start_worker) > 0
