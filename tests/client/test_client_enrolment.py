"""Joining by token, against a real service: what is granted, and what is refused before anything secret is sent."""

import asyncio
from datetime import timedelta

import pytest

from bitdew.client.enrolment import enrol, renew
from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.trust.tokens import JoinToken
from bitdew.wire.transport import Transport

PEOPLE = {Role.USER, Role.PUBLISHER, Role.OPERATOR}


async def token_for(grid, role, **options):
    return (await grid.client.create_token(role, **options)).token


async def refused(*arguments):
    with pytest.raises(BitDewError) as caught:
        await enrol(*arguments)
    return caught.value.key


@pytest.mark.parametrize(("role", "signs"), [("user", False), ("publisher", True), ("operator", True)])
async def test_the_token_decides_the_role_and_who_signs(grid, tmp_path, role, signs):
    folder = IdentityFolder(tmp_path / "profile")
    identity = await enrol(grid.service.url, await token_for(grid, role), "ada", folder, PEOPLE)
    assert (identity.subject.role, identity.subject.name) == (role, "ada")
    assert (identity.signing is not None, identity.swarm) == (signs, None)
    async with BitDew.connect(folder.folder) as joined:
        told = await joined.service()
    assert (told.role, told.subject) == (role, "ada")


async def test_a_worker_gets_a_certificate_for_the_swarm(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "identity")
    token = grid.token
    identity = await enrol(grid.service.url, token, "pc-7", folder, {Role.WORKER})
    assert identity.swarm is not None
    assert identity.signing is None


async def test_a_token_of_another_role_is_told_and_nothing_is_kept(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    assert await refused(grid.service.url, grid.token, "ada", folder, PEOPLE) == "certificate.role"
    assert not await asyncio.to_thread(folder.exists)


async def test_another_services_token_is_refused_before_its_secret_is_sent(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    foreign = str(JoinToken.mint("ab" * 32))
    assert await refused(grid.service.url, foreign, "ada", folder, PEOPLE) == "token.foreign"
    assert not (tmp_path / "profile").exists()


async def test_a_mistyped_token_and_an_impossible_name_are_refused_here(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    token = await token_for(grid, "user")
    assert await refused("https://127.0.0.1:1", token[:-1], "ada", folder, PEOPLE) == "token.invalid"
    assert await refused("https://127.0.0.1:1", token, "a b", folder, PEOPLE) == "input.invalid"
    assert await refused("http://127.0.0.1:1", token, "ada", folder, PEOPLE) == "input.invalid"


async def test_a_used_token_and_a_dead_service_have_their_keys(grid, tmp_path):
    token = await token_for(grid, "user")
    await enrol(grid.service.url, token, "ada", IdentityFolder(tmp_path / "one"), PEOPLE)
    assert await refused(grid.service.url, token, "bob", IdentityFolder(tmp_path / "two"), PEOPLE) == "token.used"
    three = IdentityFolder(tmp_path / "three")
    assert await refused("https://127.0.0.1:1", token, "ada", three, PEOPLE) == "service.unreachable"


async def test_a_profile_of_another_service_stays_as_it_is_and_the_token_too(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    await enrol(grid.service.url, await token_for(grid, "user"), "ada", folder, PEOPLE)
    before = {path.name: path.read_bytes() for path in folder.folder.iterdir()}
    async with Grid(0) as other:
        token = await token_for(other, "user")
        assert await refused(other.service.url, token, "ada", folder, PEOPLE) == "profile.taken"
        assert {path.name: path.read_bytes() for path in folder.folder.iterdir()} == before
        assert len(await other.client.tokens()) == 2  # the grid's own, and this one, unused


async def test_a_new_token_of_the_same_service_changes_the_role_of_a_profile(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    await enrol(grid.service.url, await token_for(grid, "publisher"), "ada", folder, PEOPLE)
    again = await enrol(grid.service.url, await token_for(grid, "user"), "ada", folder, PEOPLE)
    assert again.subject.role is Role.USER
    assert again.signing is None


async def test_an_identity_is_renewed_late_in_its_life_and_not_before(grid, tmp_path):
    folder = IdentityFolder(tmp_path / "profile")
    identity = await enrol(grid.service.url, await token_for(grid, "publisher"), "ada", folder, PEOPLE)
    ends = identity.subject.expires
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with Transport(identity.url, context) as line:
        assert await renew(line, folder, identity, ends - timedelta(days=3650)) is None
        renewed = await renew(line, folder, identity, ends - timedelta(hours=1))
    assert renewed.subject.subject_id == identity.subject.subject_id
    assert renewed.subject.serial != identity.subject.serial
    assert renewed.identity.private_key == identity.identity.private_key
    assert renewed.signing.certificate != identity.signing.certificate
