"""Peers that send wrong pieces, or nothing, or vanish."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bitdew.core.host import Endpoint
from bitdew.swarm import alerts
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits
from bitdew.swarm.shunning import shunned_addresses

from .conftest import MB, Sample, sha256, until_progress, within

SEED = """
import asyncio, json, sys
from pathlib import Path
from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import read_metainfo
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits

async def main():
    told = json.load(sys.stdin)
    limits = SwarmLimits(upload=told["upload"])
    swarm = await Swarm.start(Endpoint("127.0.3.191", 0), SwarmCredentials(*told["credentials"]), limits)
    await swarm.add(read_metainfo(bytes.fromhex(told["metainfo"])), Path(told["path"]), complete=True)
    print(swarm.endpoint, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def rotten_copy(sample: Sample, folder: Path) -> Path:
    path = folder / "rotten.raw"
    shutil.copy(sample.path, path)
    with path.open("r+b") as file:
        file.seek(5 * sample.metainfo.content.piece_length + 100)
        file.write(b"rot")
    return path


async def test_a_banned_peer_that_dials_again_and_again_is_refused_unheard(nodes, sample, tmp_path) -> None:
    rotten, leech = await nodes.start(), await nodes.start()
    await rotten.add(sample.metainfo, rotten_copy(sample, tmp_path), complete=True, peers=[leech.endpoint])
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint])
    await until_progress(transfer, lambda: bool(transfer.banned))
    await asyncio.sleep(0.5)
    came, take = [], transfer.take

    def taken(event: alerts.TorrentEvent) -> None:
        if isinstance(event, alerts.PeerCame):
            came.append(event)
        take(event)

    transfer.take = taken
    corrupt = transfer.progress.corrupt
    await asyncio.sleep(3.5)  # it dials three times meanwhile
    assert not came
    assert transfer.progress.corrupt == corrupt
    # Elsewhere nothing is held against it, and once the transfer is over neither here.
    await leech.remove(transfer)
    again = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint])
    await until_progress(again, lambda: bool(again.banned))


async def test_an_address_where_others_are_is_not_refused(nodes, sample, tmp_path) -> None:
    rotten, good, leech = await nodes.start(), await nodes.start(host="127.0.3.180"), await nodes.start()
    await rotten.add(sample.metainfo, rotten_copy(sample, tmp_path), complete=True)
    beside = Endpoint(rotten.endpoint.host, 9)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint, beside])
    await until_progress(transfer, lambda: bool(transfer.banned))
    assert shunned_addresses([transfer], [transfer]) == frozenset()
    await good.add(sample.metainfo, sample.path, complete=True)
    transfer.add_peers([good.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256


@asynccontextmanager
async def seed_process(authority, sample: Sample, upload: int) -> AsyncIterator[tuple[subprocess.Popen, Endpoint]]:
    """A seed in a process of its own, which is killed in the end."""
    mine = authority.issue()
    told = {
        "credentials": [mine.root_certificate, mine.certificate, mine.private_key],
        "metainfo": sample.metainfo.encoded.hex(),
        "path": str(sample.path),
        "upload": upload,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SEED, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(told).encode())
    process.stdin.write_eof()
    try:
        async with asyncio.timeout(30):
            yield process, Endpoint.parse((await process.stdout.readline()).decode().strip())
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        process._transport.close()


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_source_that_hangs_or_dies_costs_no_more_than_the_others_need(
    nodes, make_sample, tmp_path, authority, end
) -> None:
    sample: Sample = make_sample(6 * MB)
    leech: Swarm = await nodes.start()
    other: Swarm = await nodes.start(limits=SwarmLimits(upload=2 * MB))
    await other.add(sample.metainfo, sample.path, complete=True)
    async with seed_process(authority, sample, 2 * MB) as (process, where):
        transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[where, other.endpoint])
        await until_progress(transfer, lambda: 3 * transfer.progress.done > transfer.progress.size)
        process.send_signal(end)
        # What the other has to send takes it two to three seconds, whatever the first was asked for.
        await within(15, transfer.wait_held())
        assert sha256(transfer.path) == sample.sha256


async def test_a_source_that_is_named_later_takes_over_from_one_that_hangs(
    nodes, make_sample, tmp_path, authority
) -> None:
    sample: Sample = make_sample(4 * MB)
    leech: Swarm = await nodes.start()
    async with seed_process(authority, sample, 2 * MB) as (process, where):
        transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[where])
        await until_progress(transfer, lambda: 3 * transfer.progress.done > transfer.progress.size)
        process.send_signal(signal.SIGSTOP)
        other: Swarm = await nodes.start()
        await other.add(sample.metainfo, sample.path, complete=True)
        transfer.add_peers([other.endpoint])
        await within(15, transfer.wait_held())
        assert sha256(transfer.path) == sample.sha256


async def test_a_source_that_hangs_is_soon_not_counted_among_the_peers(nodes, make_sample, tmp_path, authority) -> None:
    sample: Sample = make_sample(4 * MB)
    leech: Swarm = await nodes.start()
    async with seed_process(authority, sample, 2 * MB) as (process, where):
        transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[where])
        await until_progress(transfer, lambda: 3 * transfer.progress.done > transfer.progress.size)
        assert transfer.progress.peers == 1
        process.send_signal(signal.SIGSTOP)
        await until_progress(transfer, lambda: transfer.progress.peers == 0, 25)
        assert transfer.usage.connections == 1
        process.send_signal(signal.SIGCONT)
        await until_progress(transfer, lambda: transfer.progress.peers == 1, 20)
        await within(15, transfer.wait_held())
