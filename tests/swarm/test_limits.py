"""Caps hold on loopback, for everything together and for one transfer, and while they change.

Rates are tested from above only: a slow machine moves less, never more.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.swarm.settings import LARGEST_RATE, SwarmLimits, TransferLimits, limits_as_settings

MB = 1024 * 1024
SECONDS = 5.0
"""How long a rate is measured."""
BURST = 2.5
"""Seconds at the full rate that may come on top. libtorrent gives a peer what it asked for at once, up to a request
queue or 20 ticks of saving, and is silent before and after: over time the cap is kept, in lumps."""


async def received(transfer) -> int:
    """Payload bytes that arrived until now: `progress` may be a moment old."""
    return int((await asyncio.to_thread(transfer.handle.status)).total_payload_download)


async def rate_of(transfer, seconds: float = SECONDS) -> float:
    """Bytes per second that arrive, once what was under way before the cap changed is through."""
    await asyncio.sleep(0.5)
    first, began = await received(transfer), time.monotonic()
    await asyncio.sleep(seconds)
    return (await received(transfer) - first) / (time.monotonic() - began)


def within(cap: int) -> float:
    """The highest rate over `SECONDS` that keeps `cap` within 15 %, and the burst."""
    return cap * (1.15 + BURST / SECONDS)


@pytest.fixture
async def pair(nodes, make_sample, tmp_path):
    """A seed and a leech that fetches 32 MB from it, slowly, until a test says otherwise."""
    return await make_pair(nodes, make_sample, tmp_path, SwarmLimits(upload=MB))


async def make_pair(nodes, make_sample, folder, limits: SwarmLimits):
    sample = make_sample(32 * MB)
    seed, leech = await nodes.start(limits=limits), await nodes.start()
    given_by = await seed.add(sample.metainfo, sample.path, complete=True)
    folder.mkdir(exist_ok=True)
    got_by = await leech.add(sample.metainfo, folder / "copy.raw", peers=[seed.endpoint])
    async with asyncio.timeout(20):
        while not got_by.progress.downloaded:
            await got_by.next_change(got_by.changes)
    return seed, leech, given_by, got_by


async def test_every_cap_holds_while_it_changes(nodes, make_sample, tmp_path):
    caps = (MB, MB // 4, MB // 2)

    async def check(kind: str) -> list[float]:
        seed, leech, given_by, got_by = await make_pair(
            nodes, make_sample, tmp_path / kind, SwarmLimits(upload=caps[0])
        )
        setters = {
            "upload": lambda cap: seed.set_limits(SwarmLimits(upload=cap)),
            "download": lambda cap: leech.set_limits(SwarmLimits(download=cap)),
            "own upload": lambda cap: given_by.set_limits(TransferLimits(upload=cap)),
            "own download": lambda cap: got_by.set_limits(TransferLimits(download=cap)),
        }
        setters[kind](caps[0])
        if kind != "upload":
            seed.set_limits(SwarmLimits())
        rates = []
        for cap in caps:
            setters[kind](cap)
            rates.append(await rate_of(got_by))
        return rates

    kinds = ["upload", "download", "own upload", "own download"]
    found = dict(zip(kinds, await asyncio.gather(*map(check, kinds)), strict=True))
    broken = {kind: rates for kind, rates in found.items() for r, c in zip(rates, caps, strict=True) if r > within(c)}
    assert not broken
    assert all(rate > 0 for rates in found.values() for rate in rates)


@pytest.mark.parametrize("side", ["upload", "download"])
async def test_a_transfers_own_cap_holds_from_its_first_byte_and_binds_no_other(nodes, make_sample, tmp_path, side):
    bound, other = make_sample(24 * MB, "bound.raw"), make_sample(16 * MB, "other.raw")
    seed, leech = await nodes.start(limits=SwarmLimits(upload=16 * MB)), await nodes.start()
    limits = {side: TransferLimits(**{side: MB})}
    unbound = TransferLimits()
    gives = await seed.add(bound.metainfo, bound.path, complete=True, limits=limits.get("upload", unbound))
    gets = await leech.add(
        bound.metainfo, tmp_path / "a.raw", peers=[seed.endpoint], limits=limits.get("download", unbound)
    )
    began = time.monotonic()
    await seed.add(other.metainfo, other.path, complete=True)
    free = await leech.add(other.metainfo, tmp_path / "b.raw", peers=[seed.endpoint])
    async with asyncio.timeout(60):
        await free.wait_held()
    assert await received(gets) < MB * (1.15 * (time.monotonic() - began) + BURST)
    (gives if side == "upload" else gets).set_limits(unbound)
    async with asyncio.timeout(60):
        await gets.wait_held()


async def test_what_is_used_is_told(pair):
    seed, leech, given_by, got_by = pair
    seed.set_limits(SwarmLimits(upload=2 * MB))
    await asyncio.sleep(3)
    assert 0 < given_by.usage.upload < 3 * MB
    assert 0 < got_by.usage.download < 3 * MB
    assert (given_by.usage.connections, got_by.usage.connections) == (1, 1)
    await leech.close()
    async with asyncio.timeout(10):
        while given_by.usage.connections:
            await asyncio.sleep(0.05)
    assert given_by.usage.upload == 0


@pytest.mark.parametrize("own", [False, True], ids=["all together", "one transfer"])
async def test_the_cap_on_connections_holds_whoever_dials_and_when_it_is_lowered(nodes, sample, tmp_path, own):
    limits = {"limits": SwarmLimits(upload=MB // 4)} if own else {"limits": SwarmLimits(upload=MB // 4, connections=5)}
    seed = await nodes.start(**limits)
    transfer = await seed.add(
        sample.metainfo, sample.path, complete=True, limits=TransferLimits(connections=5 if own else 0)
    )
    fetching = []
    for number in range(8):
        leech = await nodes.start()
        fetching.append(await leech.add(sample.metainfo, tmp_path / f"copy{number}.raw", peers=[seed.endpoint]))
    most = 0
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        most = max(most, transfer.progress.peers)
        await asyncio.sleep(0.02)
    assert 2 <= most <= 5
    if own:
        transfer.set_limits(TransferLimits(connections=2))
    else:
        seed.set_limits(SwarmLimits(upload=MB // 4, connections=2))
    async with asyncio.timeout(10):
        while transfer.progress.peers > 2:
            await transfer.next_change(transfer.changes)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert transfer.progress.peers <= 2
        await asyncio.sleep(0.02)


async def test_a_removed_transfer_takes_no_limits(nodes, sample):
    seed = await nodes.start()
    transfer = await seed.add(sample.metainfo, sample.path, complete=True)
    await seed.remove(transfer)
    with pytest.raises(Exception, match="was removed"):
        transfer.set_limits(TransferLimits(upload=MB))


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(-5, 2**31))
def test_no_cap_is_read_as_a_higher_one_by_libtorrent(upload, download, connections):
    settings = limits_as_settings(SwarmLimits(upload, download, connections))
    for asked, set_ in ((upload, settings["upload_rate_limit"]), (download, settings["download_rate_limit"])):
        assert set_ == min(asked, LARGEST_RATE) < 2**31
    assert settings["connections_limit"] >= 1
    assert settings["connections_limit"] + settings["connections_slack"] <= max(1, connections)
