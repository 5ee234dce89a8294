"""What a transfer claims, and what it survives: stops, lies about the file, rotten sources, disk faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import libtorrent as lt
import pytest

from bitdew.core.errors import HostError, PeerError
from bitdew.core.host import Endpoint
from bitdew.swarm import alerts
from bitdew.swarm.bitfield import packed, unpacked
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits
from bitdew.swarm.transfer import Transfer

from .conftest import MB, sha256, until_progress, within

# Durable --------------------------------------------------------------------------------------------------------------


async def test_held_means_synced_after_a_flush(nodes, sample, tmp_path, monkeypatch) -> None:
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), os.fstat(descriptor).st_blocks * 512))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, transfer.wait_held())
    assert [path for path, _ in synced] == [str(tmp_path / "copy")]
    assert synced[0][1] >= sample.metainfo.content.size  # every block was written when it was synced
    assert sha256(transfer.path) == sample.sha256


async def test_a_sync_waits_for_the_answer_to_a_flush(nodes, sample, tmp_path, monkeypatch) -> None:
    order: list[str] = []
    flush, take, fsync = lt.torrent_handle.flush_cache, Transfer.take, os.fsync

    def note_flush(handle) -> None:
        order.append("flush")
        flush(handle)

    def note_answer(transfer, event) -> None:
        if isinstance(event, alerts.Flushed) and transfer.path.name == "copy":
            order.append("flushed")
        take(transfer, event)

    def note_sync(descriptor: int) -> None:
        order.append("sync")
        fsync(descriptor)

    monkeypatch.setattr(lt.torrent_handle, "flush_cache", note_flush)
    monkeypatch.setattr(Transfer, "take", note_answer)
    monkeypatch.setattr(os, "fsync", note_sync)
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    for wait in (transfer.checkpoint, transfer.wait_held, transfer.checkpoint):
        order.clear()
        await within(20, wait())
        assert order.count("sync") == 1
        assert order.index("flush") < order.index("sync")
        assert "flushed" in order[order.index("flush") : order.index("sync")]


async def test_until_it_is_held_a_whole_file_is_only_finished(nodes, sample, tmp_path) -> None:
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await until_progress(transfer, lambda: transfer.progress.done == transfer.progress.size)
    assert transfer.progress.state == "finished"
    await within(20, transfer.wait_held())
    assert transfer.progress.state == "seeding"


async def half_fetched(nodes, sample, path: Path) -> tuple[bytes, int]:
    """Fetch about half of `sample`, close the session without a further word; the checkpoint and its bytes."""
    seed = await nodes.start(limits=SwarmLimits(upload=2 * MB))
    leech = await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, path, peers=[seed.endpoint])
    size = sample.metainfo.content.size
    await until_progress(transfer, lambda: transfer.progress.done > size // 3)
    bits = await transfer.checkpoint()
    leech._release()
    leech._session = None
    await seed.close()
    pieces = unpacked(bits, sample.metainfo.content.pieces)
    assert pieces is not None
    assert 0 < sum(pieces) < len(pieces)
    return bits, sum(pieces) * sample.metainfo.content.piece_length


async def test_a_checkpoint_is_true_on_the_disk(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    bits, _ = await half_fetched(nodes, sample, tmp_path / "copy")
    length = sample.metainfo.content.piece_length
    original, copy = sample.path.read_bytes(), (tmp_path / "copy").read_bytes()
    for piece, there in enumerate(unpacked(bits, sample.metainfo.content.pieces) or []):
        if there:
            assert copy[piece * length : (piece + 1) * length] == original[piece * length : (piece + 1) * length]


async def test_from_a_checkpoint_only_what_is_missing_is_fetched(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    bits, durable = await half_fetched(nodes, sample, tmp_path / "copy")
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint], have=bits)
    await within(20, transfer.wait_held())
    size = sample.metainfo.content.size
    assert sha256(transfer.path) == sample.sha256
    assert transfer.progress.downloaded < 0.8 * size
    assert transfer.progress.downloaded <= size - durable + 4 * sample.metainfo.content.piece_length
    assert transfer.error is None


KILLED = """
import asyncio, json, sys
from pathlib import Path
from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import read_metainfo
from bitdew.swarm.session import Swarm

async def main():
    told = json.load(sys.stdin)
    swarm = await Swarm.start(Endpoint("127.0.3.190", 0), SwarmCredentials(*told["credentials"]))
    metainfo = read_metainfo(bytes.fromhex(told["metainfo"]))
    transfer = await swarm.add(metainfo, Path(told["path"]), peers=[Endpoint.parse(told["peer"])])
    while True:
        await transfer.next_change(transfer.changes)
        if 3 * transfer.progress.done > transfer.progress.size:
            print((await transfer.checkpoint()).hex(), flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_amid_a_transfer_resumes_from_its_checkpoint(
    nodes, make_sample, tmp_path, authority
) -> None:
    sample = make_sample(4 * MB)
    seed = await nodes.start(limits=SwarmLimits(upload=2 * MB))
    await seed.add(sample.metainfo, sample.path, complete=True)
    mine = authority.issue()
    told = {
        "credentials": [mine.root_certificate, mine.certificate, mine.private_key],
        "metainfo": sample.metainfo.encoded.hex(),
        "path": str(tmp_path / "copy"),
        "peer": str(seed.endpoint),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(told).encode())
    process.stdin.write_eof()
    try:
        async with asyncio.timeout(30):
            bits = bytes.fromhex((await process.stdout.readline()).decode().strip())
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
    seed.set_limits(SwarmLimits())
    leech = await nodes.start()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint], have=bits)
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256
    assert transfer.progress.downloaded < 0.8 * sample.metainfo.content.size


async def test_a_checkpoint_before_the_first_byte_is_empty(nodes, sample, tmp_path) -> None:
    leech = await nodes.start()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy")
    assert unpacked(await transfer.checkpoint(), sample.metainfo.content.pieces) == [False] * 32
    assert (tmp_path / "copy").stat().st_size == 0


async def test_what_is_on_disk_without_a_claim_is_checked_and_used(nodes, sample, tmp_path) -> None:
    copy = tmp_path / "copy"
    data = bytearray(sample.path.read_bytes())
    data[0] ^= 1
    copy.write_bytes(data)
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, copy, peers=[seed.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(copy) == sample.sha256
    assert transfer.progress.downloaded <= 2 * sample.metainfo.content.piece_length


# Claims that don't fit ------------------------------------------------------------------------------------------------


def every_piece(sample) -> bytes:
    return packed([True] * sample.metainfo.content.pieces)


@pytest.mark.parametrize("claim", ["have", "complete"])
@pytest.mark.parametrize("left", [None, 0, 1, MB, 2 * MB - 1])
async def test_a_claim_that_the_file_is_too_short_for_is_not_believed(nodes, sample, tmp_path, claim, left) -> None:
    copy = tmp_path / "copy"
    if left is not None:
        copy.write_bytes(sample.path.read_bytes()[:left])
    claims = {"have": {"have": every_piece(sample)}, "complete": {"complete": True}}[claim]
    swarm = await nodes.start()
    transfer = await swarm.add(sample.metainfo, copy, **claims)
    await until_progress(transfer, lambda: transfer.progress.state == "fetching")
    length = sample.metainfo.content.piece_length
    assert transfer.progress.done == (left or 0) // length * length
    assert transfer.error is not None
    assert transfer.error.key == "storage.failed"
    with pytest.raises(TimeoutError):
        await within(0.5, transfer.wait_held())
    seed = await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer.add_peers([seed.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(copy) == sample.sha256


async def test_a_bitfield_of_another_file_is_not_believed(nodes, sample, tmp_path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(bytes(2 * MB))
    swarm = await nodes.start()
    transfer = await swarm.add(sample.metainfo, copy, have=b"\xff" * 3)
    await until_progress(transfer, lambda: transfer.progress.state == "fetching")
    assert transfer.progress.done == 0
    assert transfer.error is not None


async def test_a_file_longer_than_its_content_is_checked_and_cut(nodes, sample, tmp_path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(sample.path.read_bytes() + b"more")
    swarm = await nodes.start()
    transfer = await swarm.add(sample.metainfo, copy, complete=True)
    assert transfer.error is not None
    await within(10, transfer.wait_held())
    assert sha256(copy) == sample.sha256


@pytest.mark.parametrize("change", ["longer", "shorter", "rotten", "missing"])
async def test_a_read_only_file_is_never_written_to(nodes, sample, tmp_path, change) -> None:
    mine = tmp_path / "mine"
    data = bytearray(sample.path.read_bytes())
    data[70_000] ^= change == "rotten"
    if change != "missing":
        mine.write_bytes(data + b"more" if change == "longer" else data[:-5] if change == "shorter" else data)
        before = mine.read_bytes()
    seed, other = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await other.add(sample.metainfo, mine, complete=True, read_only=True, peers=[seed.endpoint])
    if change == "rotten":
        assert not await within(10, transfer.recheck())
    else:
        assert transfer.error is not None
        assert transfer.error.key == "storage.failed"
    with pytest.raises((HostError, TimeoutError)):
        await within(2, transfer.wait_held())
    assert transfer.progress.downloaded == 0
    assert mine.read_bytes() == before if change != "missing" else not mine.exists()


async def test_a_read_only_file_that_is_what_was_said_is_offered(nodes, sample, tmp_path) -> None:
    sample.path.chmod(0o400)
    seed, leech = await nodes.start(), await nodes.start()
    offered = await seed.add(sample.metainfo, sample.path, complete=True, read_only=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, asyncio.gather(transfer.wait_held(), offered.wait_held()))
    assert sha256(transfer.path) == sample.sha256
    assert await within(10, offered.recheck())


async def test_a_recheck_finds_rot_and_the_swarm_repairs_it(nodes, sample, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(sample.path, copy)
    seed, other = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await other.add(sample.metainfo, copy, complete=True)
    assert await within(10, transfer.recheck())
    assert transfer.progress.state == "seeding"
    flip(copy, 700_000)
    assert not await within(10, transfer.recheck())
    assert transfer.progress.state == "fetching"
    transfer.add_peers([seed.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(copy) == sample.sha256
    assert transfer.progress.downloaded <= 2 * sample.metainfo.content.piece_length


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


# Rotten sources -------------------------------------------------------------------------------------------------------


async def rotten_seed(nodes, sample, tmp_path) -> Swarm:
    """A seed that claims every piece while one of them has rotted."""
    rotten = tmp_path / "rotten.raw"
    shutil.copy(sample.path, rotten)
    flip(rotten, 5 * sample.metainfo.content.piece_length + 100)
    seed = await nodes.start()
    await seed.add(sample.metainfo, rotten, complete=True)
    return seed


async def test_a_sole_source_that_rotted_is_named(nodes, sample, tmp_path) -> None:
    rotten, leech = await rotten_seed(nodes, sample, tmp_path), await nodes.start()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint])
    with pytest.raises(PeerError) as caught:
        await within(20, transfer.wait_held())
    assert caught.value.key == "swarm.corrupt"
    assert caught.value.fields["peer"] == str(rotten.endpoint)
    assert transfer.error is caught.value
    assert transfer.progress.corrupt >= 1
    assert transfer.progress.done < transfer.progress.size


async def test_a_second_source_completes_what_a_rotten_one_could_not(nodes, sample, tmp_path) -> None:
    rotten, leech, good = await rotten_seed(nodes, sample, tmp_path), await nodes.start(), await nodes.start()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint])
    with pytest.raises(PeerError):
        await within(20, transfer.wait_held())
    bits = await transfer.checkpoint()
    assert any(bits)
    await good.add(sample.metainfo, sample.path, complete=True)
    transfer.add_peers([good.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256
    assert transfer.error is not None
    assert transfer.error.key == "swarm.corrupt"


async def test_rot_beside_a_good_source_is_reported_and_does_no_harm(nodes, sample, tmp_path) -> None:
    rotten, leech, good = await rotten_seed(nodes, sample, tmp_path), await nodes.start(), await nodes.start()
    await good.add(sample.metainfo, sample.path, complete=True)
    for last in (False, False, False, True):
        transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[rotten.endpoint, good.endpoint])
        try:
            await within(30, transfer.wait_held())
            break
        except PeerError:  # of a piece that both sent blocks of, both are suspected at times: it is tried again
            if last:
                raise
            await leech.remove(transfer)
    assert sha256(transfer.path) == sample.sha256


# Disks that fail ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path):
    """Where a tmpfs of a given size is mounted for a test; it can be made larger."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("NOT RUN: a full disk needs root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()

    def sized(size: int) -> Path:
        action = "remount," if os.path.ismount(disk) else ""
        command = ["/bin/mount", "-t", "tmpfs", "-o", f"{action}size={size}", "tmpfs", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("NOT RUN: mounting a tmpfs is not allowed here")
        return disk

    yield sized
    if os.path.ismount(disk):
        subprocess.run(["/bin/umount", str(disk)], check=True)


@pytest.mark.parametrize("room", [1 * MB, 7 * MB])
async def test_a_full_disk_is_named_nothing_is_claimed_and_space_mends_it(nodes, make_sample, small_disk, room) -> None:
    # The whole file fits libtorrent's write cache: it says "finished" before the disk says "full".
    sample = make_sample(8 * MB)
    disk = small_disk(room)
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, disk / "copy", peers=[seed.endpoint])
    with pytest.raises(HostError) as caught:
        await within(20, transfer.wait_held())
    assert caught.value.key == "storage.full"
    assert transfer.error is caught.value
    assert transfer.progress.state != "seeding"
    with pytest.raises(HostError):
        await within(5, transfer.checkpoint())
    with pytest.raises(HostError) as again:
        await within(20, transfer.wait_held())
    assert again.value.key == "storage.full"
    small_disk(20 * MB)
    await within(30, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256
    assert transfer.error is None
    assert transfer.progress.state == "seeding"
    await leech.close()


async def test_a_seed_whose_file_was_cut_off_withdraws_and_says_so(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    seed, leech = await nodes.start(), await nodes.start()
    mine = tmp_path / "mine"
    shutil.copy(sample.path, mine)
    offered = await seed.add(sample.metainfo, mine, complete=True)
    await until_progress(offered, lambda: offered.progress.state == "seeding")
    os.truncate(mine, MB)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await until_progress(offered, lambda: offered.error is not None)
    assert offered.error is not None
    assert offered.error.key == "storage.failed"
    changes = offered.changes
    await asyncio.sleep(1.5)
    assert offered.changes < changes + 10  # no storm of reports
    with pytest.raises(HostError):
        await within(5, offered.wait_held())
    assert not await within(10, offered.recheck())
    assert offered.error is None
    with contextlib.suppress(TimeoutError):
        await within(0.1, transfer.wait_held())
    assert transfer.progress.done < transfer.progress.size


async def test_a_folder_that_vanishes_is_named(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    folder = tmp_path / "folder"
    folder.mkdir()
    seed, leech = await nodes.start(limits=SwarmLimits(upload=2 * MB)), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, folder / "copy", peers=[seed.endpoint])
    await until_progress(transfer, lambda: transfer.progress.done > 0)
    shutil.rmtree(folder)
    with pytest.raises(HostError) as caught:
        await within(20, transfer.wait_held())
    assert caught.value.key == "storage.failed"
    folder.mkdir(exist_ok=True)
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256


async def test_a_file_that_another_replaced_is_not_taken_for_it(nodes, sample, tmp_path) -> None:
    swarm = await nodes.start()
    mine = tmp_path / "mine"
    shutil.copy(sample.path, mine)
    transfer = await swarm.add(sample.metainfo, mine, complete=True)
    await within(10, transfer.wait_held())
    mine.rename(tmp_path / "kept")
    mine.write_bytes(bytes(2 * MB))
    with pytest.raises(HostError) as caught:
        await within(10, transfer.wait_held())
    assert "another file" in caught.value.why
    assert not await within(10, transfer.recheck())


async def test_credentials_that_are_none_stop_the_transfer_by_name(nodes, sample, tmp_path, authority) -> None:
    swarm = await nodes.start(SwarmCredentials(authority.certificate, "", ""))
    transfer = await swarm.add(sample.metainfo, tmp_path / "copy", peers=[Endpoint("127.0.3.9", 9)])
    with pytest.raises(HostError) as caught:
        await within(5, transfer.wait_held())
    assert caught.value.key == "swarm.failed"
    assert "PEM" in caught.value.why or "certificate" in caught.value.why or "unsupported" in caught.value.why


async def test_reports_come_while_bytes_move(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    seed, leech = await nodes.start(limits=SwarmLimits(upload=2 * MB)), await nodes.start()
    offered = await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    seen, changes, started = [], 0, time.monotonic()
    while transfer.progress.state not in {"finished", "seeding"}:
        changes = await within(5, transfer.next_change(changes))
        seen.append(transfer.progress.done)
    assert seen == sorted(seen)
    assert len(set(seen)) >= min(4, (time.monotonic() - started) / 0.6)
    await until_progress(offered, lambda: offered.progress.uploaded >= 4 * MB, 5)
