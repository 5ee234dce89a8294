"""The developer's API against a real service and workers in this process."""

import asyncio
import os
import random

import pytest

import bitdew
from bitdew import Attribute, BitDew, BitDewError
from bitdew.client import sending
from bitdew.client.enrolment import enrol
from bitdew.client.grid import RECORD_VALIDITY
from bitdew.core.requirement import Requirement
from bitdew.core.states import MachineState, PlacementState
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.keys import certificate_expires
from bitdew.trust.roles import Role

MB = 2**20


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(3 * MB + 5))
    return path


def uploads(grid):
    """What lies in the repository of uploads under way."""
    return sorted(path.name for path in (grid.folder / "service" / "repository" / "uploads").iterdir())


async def refused(work):
    with pytest.raises(BitDewError) as caught:
        await work
    return caught.value


async def test_a_disk_is_added_signed_and_told_of(grid, image):
    seen = []
    wishes = Attribute(replica=2, requires=Requirement("cpus >= 1"))
    disk = await grid.client.add_disk(
        image, "hep", wishes, os="debian 12", version="7", progress=lambda *figures: seen.append(figures)
    )
    assert (disk.name, disk.size, disk.os, disk.version, disk.wanted, disk.held) == (
        *("hep", 3 * MB + 5, "debian 12", "7"),
        *(2, 0),
    )
    assert disk.publisher == grid.client.identity.subject.name
    assert disk.attribute == wishes.to_dict()
    assert seen[-1] == (disk.size, disk.size)
    assert [one.uid for one in await grid.client.disks()] == [disk.uid]
    assert await grid.client.disk("hep") == await grid.client.disk(disk.uid)
    assert uploads(grid) == []


@pytest.mark.parametrize(("name", "key"), [("nothing.raw", "disk.file-missing"), (".", "input.invalid")])
async def test_a_path_without_a_file_is_refused(grid, tmp_path, name, key):
    assert (await refused(grid.client.add_disk(tmp_path / name, "hep"))).key == key


async def test_a_taken_name_is_refused_before_a_byte_is_sent(grid, image):
    await grid.client.add_disk(image, "hep")
    seen = []
    fault = await refused(grid.client.add_disk(image, "hep", progress=lambda *_: seen.append(1)))
    assert (fault.key, seen) == ("disk.name-taken", [])


async def test_what_can_not_be_a_name_is_refused_before_a_byte_is_sent(grid, image):
    assert (await refused(grid.client.add_disk(image, "a/b"))).key == "input.invalid"
    assert (await refused(grid.client.disk("../tokens"))).key == "input.invalid"


@pytest.mark.parametrize("change", [lambda path: os.utime(path, ns=(1, 1)), lambda path: os.truncate(path, MB)])
async def test_a_file_that_changes_during_the_add_leaves_nothing(grid, image, change):
    fault = await refused(grid.client.add_disk(image, "hep", progress=lambda *_: change(image)))
    assert fault.key == "disk.changed"
    assert (uploads(grid), await grid.client.disks()) == ([], [])


async def test_bytes_that_change_on_the_way_are_not_signed(grid, image, monkeypatch):
    monkeypatch.setattr(sending, "sliced", lambda raw: [b"\0" * (len(raw) - 1) + b"1"])
    fault = await refused(grid.client.add_disk(image, "hep"))
    assert fault.key == "disk.changed"
    assert (uploads(grid), await grid.client.disks()) == ([], [])


async def test_a_user_reads_and_does_not_add(grid, image, tmp_path):
    token = (await grid.client.create_token("user")).token
    await enrol(grid.service.url, token, "ada", IdentityFolder(tmp_path / "user"), {Role.USER})
    async with BitDew.connect(tmp_path / "user") as user:
        assert await user.disks() == []
        assert (await refused(user.add_disk(image, "hep"))).key == "certificate.role"
        assert (await refused(user.create_token("user"))).key == "certificate.role"


async def test_a_watch_tells_each_change_until_the_copies_are_held(grid, image):
    await grid.add_host("one")
    await grid.client.add_disk(image, "hep")
    states = []
    async for reply in grid.client.watch("hep"):
        states += [one.state for one in reply.placements]
        if reply.data.held == 1:
            break
    assert states[-1] is PlacementState.HELD
    explained = await grid.client.explain("hep")
    assert (explained.wanted, explained.held, explained.missing) == (1, 1, 0)
    assert [host.name for host in await grid.client.hosts()] == ["one"]
    await grid.client.remove_disk("hep")
    assert not (await grid.client.where("hep")).data.alive
    assert (await refused(grid.client.disk("hep"))).key == "data.not-found"


async def test_a_machine_is_run_its_console_followed_and_stopped(grid, image):
    await grid.add_host("one")
    image.write_bytes(bytes(510) + b"\x55\xaa" + bytes(MB))
    await grid.client.add_disk(image, "hep", Attribute(requires=Requirement("sharing=mock")))
    made = await grid.client.deploy("hep")
    uid = made.machines[0].uid
    parts = []
    async with asyncio.timeout(30):
        async for part in grid.client.follow_console(uid[:8]):
            parts.append(part)
            if part.text:
                await grid.client.stop_machine(uid)
    text = "".join(part.text for part in parts)
    assert text
    assert parts[-1].state is MachineState.STOPPED
    assert (await grid.client.console(uid)).text == text
    assert [one.uid for one in await grid.client.machines()] == [uid]


async def test_tokens_are_made_listed_and_revoked(grid, tmp_path):
    made = await grid.client.create_token("user", uses=3, note="for the lab")
    listed = {one.uid: one for one in await grid.client.tokens()}
    assert (listed[made.uid].uses_left, listed[made.uid].note, listed[made.uid].token) == (3, "for the lab", None)
    await grid.client.revoke_token(made.uid)
    assert made.uid not in {one.uid for one in await grid.client.tokens()}
    folder = IdentityFolder(tmp_path / "late")
    fault = await refused(enrol(grid.service.url, made.token, "ada", folder, {Role.USER}))
    assert fault.key in {"token.invalid", "token.expired", "token.used"}


async def test_without_a_profile_the_error_says_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDEW_HOME", str(tmp_path))
    monkeypatch.delenv("BITDEW_PROFILE", raising=False)
    (tmp_path / "profiles" / "lab").mkdir(parents=True)
    (tmp_path / "profiles" / "lab" / "service.json").touch()
    with pytest.raises(BitDewError, match="there are: lab") as caught:
        async with BitDew.connect():
            pass
    assert caught.value.key == "profile.missing"
    assert BitDew.connect("lab")._folder.folder == tmp_path / "profiles" / "lab"


def test_the_names_of_the_api_are_found_at_their_first_use():
    assert all(getattr(bitdew, name).__name__ == name for name in bitdew.__all__)
    assert set(bitdew.__all__) <= set(dir(bitdew))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bitdew.nonsense


async def test_a_record_ends_no_later_than_the_certificate_that_signs_it(grid, image):
    ends = certificate_expires(grid.client.identity.signing.certificate)
    disk = await grid.client.add_disk(image, "hep")
    assert disk.expires == min(disk.created + RECORD_VALIDITY, ends)
    assert disk.expires <= ends
