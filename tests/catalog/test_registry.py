"""The registry: who may enrol with which token, what each role is granted, and whom the guard refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from bitdew.catalog.database import Base, Database
from bitdew.catalog.identity_store import IdentityStore
from bitdew.catalog.registry import Registry
from sqlalchemy import select

from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.testing.clock import SkippingClock
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, certificate_subject, new_key
from bitdew.trust.roles import Role, Subject
from bitdew.trust.tokens import JoinToken
from bitdew.wire.models import EnrolReply, EnrolRequest, RenewRequest, TokenRequest

Asks = Callable[..., EnrolRequest]
CREATOR = "c" * 32


async def token(registry: Registry, role: str = "worker", uses: int = 1, seconds: float = 3600) -> str:
    """A token's secret."""
    view = await registry.create_token(TokenRequest(role=role, uses=uses, seconds=seconds), CREATOR)
    return JoinToken.parse(view.token or "").secret


async def refused(registry: Registry, request: EnrolRequest) -> str:
    with pytest.raises(BitDewError) as refusal:
        await registry.enrol(request)
    return refusal.value.key


def subject_of(granted: EnrolReply) -> Subject:
    return certificate_subject(granted.identity)


# Tokens ---------------------------------------------------------------------------------------------------------------


async def test_a_token_names_its_service_and_is_shown_whole_only_once(registry: Registry, authority: Authority) -> None:
    view = await registry.create_token(TokenRequest(role="worker", uses=3, note="lab 2"), CREATOR)
    assert JoinToken.parse(view.token or "").fingerprint == authority.fingerprint
    (listed,) = (await registry.tokens()).tokens
    assert (listed.uid, listed.role, listed.uses_left, listed.note) == (view.uid, "worker", 3, "lab 2")
    assert listed.token is None


async def test_the_secret_is_not_stored(registry: Registry, database: Database) -> None:
    secret = await token(registry)
    if database.shared:
        async with database.read() as session:
            tables = Base.metadata.sorted_tables
            rows = [repr(row) for table in tables for row in (await session.execute(select(table))).all()]
        assert rows
        assert not any(secret in row for row in rows)
        return
    path = database.name.removeprefix("sqlite+aiosqlite:///")
    async with database._engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = await asyncio.to_thread(Path(path).read_bytes)
    assert secret.encode() not in stored
    assert bytes.fromhex(secret) not in stored


async def test_a_token_of_n_uses_lets_n_hosts_in_and_no_more(registry: Registry, asks: Asks) -> None:
    secret = await token(registry, uses=3)
    granted = [await registry.enrol(asks(secret, name=f"pc-{n}")) for n in range(3)]
    assert len({reply.subject_id for reply in granted}) == 3
    assert await refused(registry, asks(secret)) == "token.used"
    assert (await registry.tokens()).tokens == []


async def test_two_who_bring_a_one_use_token_at_once_do_not_both_get_in(registry: Registry, asks: Asks) -> None:
    secret = await token(registry)
    answers = await asyncio.gather(*(registry.enrol(asks(secret)) for _ in range(4)), return_exceptions=True)
    refusals = [answer.key for answer in answers if isinstance(answer, BitDewError)]
    assert refusals == ["token.used"] * 3


async def test_an_expired_token_lets_no_one_in(registry: Registry, clock: SkippingClock, asks: Asks) -> None:
    secret = await token(registry, seconds=60)
    clock.skip(61)
    assert await refused(registry, asks(secret)) == "token.expired"
    assert (await registry.tokens()).tokens == []


async def test_a_revoked_token_lets_no_one_in(registry: Registry, asks: Asks) -> None:
    view = await registry.create_token(TokenRequest(role="worker"), CREATOR)
    await registry.revoke_token(view.uid)
    assert await refused(registry, asks(JoinToken.parse(view.token or "").secret)) == "token.invalid"
    with pytest.raises(BitDewError) as refusal:
        await registry.revoke_token(view.uid)
    assert refusal.value.key == "token.invalid"


@pytest.mark.parametrize("secret", ["", "0" * 64, "' OR 1=1 --", "\udcff"])
async def test_an_unknown_secret_lets_no_one_in(registry: Registry, asks: Asks, secret: str) -> None:
    await token(registry)
    request = asks("x").model_copy(update={"secret": secret})
    assert await refused(registry, request) == "token.invalid"


# Enrolling ------------------------------------------------------------------------------------------------------------


async def test_asking_again_with_the_same_key_costs_nothing_and_gives_the_same_subject(
    registry: Registry, asks: Asks
) -> None:
    secret = await token(registry)
    request = asks(secret)
    first, second = await registry.enrol(request), await registry.enrol(request)
    assert first.subject_id == second.subject_id
    assert subject_of(first).serial != subject_of(second).serial
    assert await refused(registry, asks(secret)) == "token.used"


async def test_two_who_ask_the_same_at_once_are_one_subject(registry: Registry, asks: Asks) -> None:
    secret = await token(registry, uses=2)
    request = asks(secret)
    first, second = await asyncio.gather(registry.enrol(request), registry.enrol(request))
    assert first.subject_id == second.subject_id
    assert (await registry.tokens()).tokens[0].uses_left == 1


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("identity_csr", "not a request"),
        ("identity_csr", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        ("swarm_csr", "not a request"),
        ("signing_csr", certificate_request(new_key(), "x")),  # P-256, where Ed25519 is wanted
        ("name", "n" * 100),  # a name on the wire, but more than a certificate holds
    ],
)
async def test_a_malformed_request_leaves_the_token_unused(
    registry: Registry, asks: Asks, broken: str, text: str
) -> None:
    secret = await token(registry)
    assert await refused(registry, asks(secret).model_copy(update={broken: text})) == "input.invalid"
    assert (await registry.enrol(asks(secret))).role == "worker"


@pytest.mark.parametrize(
    ("role", "swarm", "signing"),
    [("worker", True, False), ("user", False, False), ("publisher", False, True), ("operator", False, True)],
)
async def test_the_tokens_role_decides_what_is_signed(
    registry: Registry, asks: Asks, role: str, *, swarm: bool, signing: bool
) -> None:
    granted = await registry.enrol(asks(await token(registry, role)))
    assert (granted.role, granted.swarm is not None, granted.signing is not None) == (role, swarm, signing)
    subject = subject_of(granted)
    assert (subject.role, subject.name, subject.subject_id) == (role, "ada", granted.subject_id)
    for extra in filter(None, (granted.swarm, granted.signing)):
        assert certificate_subject(extra).subject_id == granted.subject_id


# Publishers' names: hosts judge publishers by name --------------------------------------------------------------------


@pytest.mark.parametrize("second", ["publisher", "operator"])
async def test_a_second_publisher_of_one_name_is_refused_and_keeps_its_token(
    registry: Registry, asks: Asks, second: str
) -> None:
    await registry.enrol(asks(await token(registry, "publisher"), name="ada"))
    secret = await token(registry, second)
    assert await refused(registry, asks(secret, name="ada")) == "identity.name-taken"
    assert (await registry.enrol(asks(secret, name="grace"))).name == "grace"


async def test_two_publishers_who_want_one_name_at_once_do_not_both_get_it(registry: Registry, asks: Asks) -> None:
    requests = [asks(await token(registry, "publisher"), name="ada") for _ in range(4)]
    answers = await asyncio.gather(*(registry.enrol(request) for request in requests), return_exceptions=True)
    assert [a.key for a in answers if isinstance(a, BitDewError)] == ["identity.name-taken"] * 3


async def test_a_publisher_who_asks_again_can_not_take_anothers_name(registry: Registry, asks: Asks) -> None:
    await registry.enrol(asks(await token(registry, "publisher"), name="ada"))
    request = asks(await token(registry, "publisher"), name="mallory")
    await registry.enrol(request)
    again = request.model_copy(update={"name": "ada"})
    assert await refused(registry, again) == "identity.name-taken"


async def test_hosts_and_users_may_share_a_name(registry: Registry, asks: Asks) -> None:
    await registry.enrol(asks(await token(registry, "publisher"), name="ada"))
    for role in ("worker", "worker", "user"):
        assert (await registry.enrol(asks(await token(registry, role), name="ada"))).name == "ada"


# Renewal and the guard ------------------------------------------------------------------------------------------------


async def test_renewal_keeps_subject_name_and_role(registry: Registry, clock: SkippingClock, asks: Asks) -> None:
    granted = await registry.enrol(asks(await token(registry, "publisher")))
    clock.skip(20 * 86400)
    fresh = asks("")
    request = RenewRequest(identity_csr=fresh.identity_csr, swarm_csr=fresh.swarm_csr, signing_csr=fresh.signing_csr)
    renewed = await registry.renew(subject_of(granted), request)
    old, new = subject_of(granted), subject_of(renewed)
    assert (new.subject_id, new.name, new.role) == (old.subject_id, old.name, old.role)
    assert old.expires is not None
    assert new.expires is not None
    assert new.expires - old.expires > timedelta(days=19)
    assert renewed.signing is not None
    assert renewed.swarm is None


async def test_the_guard_lets_a_subject_in_until_its_certificate_ends(
    registry: Registry, clock: SkippingClock, asks: Asks
) -> None:
    subject = subject_of(await registry.enrol(asks(await token(registry))))
    await registry.guard(subject)
    clock.skip(30 * 86400)
    with pytest.raises(BitDewError) as refusal:
        await registry.guard(subject)
    assert refusal.value.key == "certificate.expired"


async def test_a_revoked_subject_is_refused_at_once_and_after_a_restart(
    registry: Registry, authority: Authority, database: Database, clock: SkippingClock, asks: Asks
) -> None:
    revoked = subject_of(await registry.enrol(asks(await token(registry))))
    other = subject_of(await registry.enrol(asks(await token(registry))))
    await registry.revoke(revoked.subject_id)
    restarted = Registry(authority, IdentityStore(database), clock)
    await restarted.load()
    for guard in (registry.guard, restarted.guard):
        with pytest.raises(BitDewError) as refusal:
            await guard(revoked)
        assert refusal.value.key == "certificate.revoked"
        await guard(other)


async def test_a_revoked_subject_gains_nothing_by_asking_again(registry: Registry, asks: Asks) -> None:
    request = asks(await token(registry))
    subject = subject_of(await registry.enrol(request))
    await registry.revoke(subject.subject_id)
    with pytest.raises(BitDewError) as refusal:
        await registry.guard(subject_of(await registry.enrol(request)))
    assert refusal.value.key == "certificate.revoked"


async def test_revoking_nobody_is_an_error(registry: Registry) -> None:
    with pytest.raises(BitDewError) as refusal:
        await registry.revoke(new_uid())
    assert refusal.value.key == "host.not-found"


async def test_a_certificate_without_an_end_is_judged_by_revocation_alone(registry: Registry) -> None:
    subject = Subject(Role.USER, new_uid(), "1", "ada")
    await registry.guard(subject)
    registry._revoked.add(subject.subject_id)
    with pytest.raises(BitDewError):
        await registry.guard(subject)
