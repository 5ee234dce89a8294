"""Joining is done once, can be repeated, and never touches a home of another service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.worker.enrol import join
from bitdew.worker.settings import WorkerSettings

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.trust.authority import Authority
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.keys import certificate_expires
from bitdew.trust.tokens import JoinToken


@pytest.fixture
def settings(home):
    return WorkerSettings(home=home, name="pc-7", quota=5, labels={"site": "orsay"})


async def test_a_host_joins_by_a_token_and_keeps_what_it_lends(service, settings, home):
    identity = await join(service.url, service.token(), settings)
    assert identity.subject.name == "pc-7"
    assert identity.swarm is not None
    assert await asyncio.to_thread(WorkerSettings.load, home) == settings
    assert home.stat().st_mode & 0o077 == 0


async def test_joining_again_keeps_the_identity_and_needs_no_service(service, settings, home):
    first = await join(service.url, service.token(), settings)
    await service.down()
    changed = settings.model_copy(update={"quota": 6})
    again = await join(service.url, service.token(), changed)
    assert again.subject == first.subject
    assert (await asyncio.to_thread(WorkerSettings.load, home)).quota == 6


async def test_a_home_of_another_service_is_refused(service, settings, tmp_path):
    await join(service.url, service.token(), settings)
    other = await asyncio.to_thread(Authority.open, tmp_path / "other", now=datetime.now(UTC), name="other")
    with pytest.raises(BitDewError) as caught:
        await join(service.url, str(JoinToken.mint(other.fingerprint)), settings)
    assert caught.value.key == "profile.taken"


async def test_a_token_of_another_service_is_never_sent(service, settings, tmp_path, home):
    other = await asyncio.to_thread(Authority.open, tmp_path / "other", now=datetime.now(UTC), name="other")
    with pytest.raises(BitDewError) as caught:
        await join(service.url, str(JoinToken.mint(other.fingerprint)), settings)
    assert caught.value.key == "token.foreign"
    assert not (home / "worker.json").exists()


def test_settings_without_a_home_that_joined_say_what_to_do(tmp_path):
    with pytest.raises(BitDewError, match="No worker has joined") as caught:
        WorkerSettings.load(tmp_path)
    assert "bitdew worker join" in caught.value.do


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"quota": -1}', '{"listen": "nowhere"}', '{"colour": "red"}'])
def test_settings_that_are_impossible_are_refused(tmp_path, content):
    (tmp_path / "worker.json").write_text(content)
    with pytest.raises(BitDewError) as caught:
        WorkerSettings.load(tmp_path)
    assert caught.value.key == "input.invalid"


def test_a_denied_publisher_is_refused_even_where_it_is_allowed(tmp_path):
    policy = WorkerSettings(home=tmp_path, publishers_allow=("ada",), publishers_deny=("ada",))
    with pytest.raises(BitDewError):
        policy.check_publisher("ada")
    WorkerSettings(home=tmp_path).check_publisher("ada")


def test_the_defaults_fit_any_machine(tmp_path):
    settings = WorkerSettings(home=tmp_path)
    assert settings.endpoint == Endpoint("0.0.0.0", 0)  # noqa: S104
    assert settings.cpus >= 1
    assert settings.memory > 0


async def test_certificates_are_renewed_in_time_and_used_at_once(service, start_worker, home, until, disk_bytes):
    long_ago = datetime.now(UTC) - timedelta(days=25)
    old = await asyncio.to_thread(service.identity, home, "pc-7", long_ago)
    async with start_worker(identity=old) as started:
        await until(lambda: any(event.kind == "renewed" for event in started.events))
        kept = await asyncio.to_thread(IdentityFolder(old.folder).load)
        assert certificate_expires(kept.identity.certificate) > certificate_expires(old.identity.certificate)
        data = await service.publish(disk_bytes(2**20))
        service.place(data)
        await service.until_state(data.uid, "held")


async def test_two_workers_never_share_a_home(service, start_worker):
    async with start_worker():
        with pytest.raises(BitDewError) as caught:
            async with start_worker():
                pass
        assert caught.value.key == "storage.locked"
    async with start_worker():
        await service.until(lambda: service.syncs)


async def test_joining_again_at_the_url_where_the_service_is_now_keeps_that_url(service, settings, home):
    first = await join(service.url, service.token(), settings)
    old = service.url
    await service.move()
    assert service.url != old
    again = await join(service.url, service.token(), settings)
    assert (again.url, again.subject) == (service.url, first.subject)
    kept = await asyncio.to_thread(IdentityFolder(first.folder).load)
    assert kept.url == service.url
    assert kept.swarm is not None
    with pytest.raises(BitDewError) as caught:
        await join(old, service.token(), settings)
    assert caught.value.key == "service.unreachable"
    assert (await asyncio.to_thread(IdentityFolder(first.folder).load)).url == service.url


async def test_the_home_of_a_worker_that_runs_is_not_joined_with(service, start_worker, settings, home):
    async with start_worker():
        await service.until(lambda: service.syncs)
        with pytest.raises(BitDewError) as caught:
            await join(service.url, service.token(), settings)
        assert caught.value.key == "storage.locked"
        assert not (home / "worker.json").exists()
    await join(service.url, service.token(), settings)


async def test_a_renewal_that_fails_is_tried_again_and_ends_nothing(service, start_worker, until, monkeypatch):
    calls = []

    async def renew(*given):
        calls.append(given)
        if len(calls) < 3:
            raise error("swarm.failed", "It is not ready") if len(calls) == 1 else error("input.invalid", "Refused")

    monkeypatch.setattr("bitdew.worker.renewal.renew", renew)
    async with start_worker() as started:
        await until(lambda: len(calls) == 3)
        assert not started.task.done()
