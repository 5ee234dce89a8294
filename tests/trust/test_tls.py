"""Real handshakes on the loopback, with aiohttp at both ends."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import sys
import tempfile
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bitdew.core.errors import BitDewError
from bitdew.trust.keys import KeyPair, new_key
from bitdew.trust.roles import Role, subject_of_peer
from bitdew.trust.tls import SERVICE_NAME, bootstrap_context, checked_ca, client_context, server_context


@asynccontextmanager
async def serving(pair, ca):
    """A server with this pair that answers who its client is; yields its URL."""
    context = await asyncio.to_thread(server_context, pair, ca)

    async def who(request):
        certificate = request.transport.get_extra_info("peercert")
        try:
            return web.Response(text=str(subject_of_peer(certificate).role))
        except BitDewError as refused:
            return web.Response(text=refused.key)

    runner = web.ServerRunner(web.Server(who), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def ask(url, ca, pair, name=SERVICE_NAME):
    """What the server answers to a client with this pair."""
    return await fetch(url, await asyncio.to_thread(client_context, ca, pair), name)


async def fetch(url, context, name=SERVICE_NAME):
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session,
        session.get(url, ssl=context, server_hostname=name) as response,
    ):
        return await response.text()


@pytest.fixture
def ca(authority):
    return authority.certificate


@pytest.fixture
def service(authority, now):
    return authority.issue_service(["10.0.0.7"], now=now)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.PUBLISHER, Role.USER, Role.WORKER])
async def test_a_client_with_an_identity_is_seen_with_its_role(parties, ca, service, role):
    async with serving(service, ca) as url:
        assert await ask(url, ca, parties.identity(role)) == role


async def test_a_client_without_certificate_gets_through_as_nobody_yet(ca, service):
    async with serving(service, ca) as url:
        assert await ask(url, ca, None) == "certificate.missing"


async def test_the_service_is_known_by_its_name_and_its_addresses_and_nothing_else(ca, service):
    async with serving(service, ca) as url:
        for name in (SERVICE_NAME, "localhost", "127.0.0.1", "10.0.0.7"):
            assert await ask(url, ca, None, name) == "certificate.missing"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(url, ca, None, "elsewhere.example.org")


async def test_a_client_of_another_ca_is_refused(strangers, ca, service):
    async with serving(service, ca) as url:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(url, ca, strangers.identity())


async def test_a_client_refuses_the_service_of_another_ca(parties, strangers, ca, now):
    theirs = strangers.authority.issue_service([], now=now)
    async with serving(theirs, strangers.authority.certificate) as url:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(url, ca, parties.identity())


async def test_an_expired_client_is_refused(parties, ca, service, now):
    async with serving(service, ca) as url:
        assert await ask(url, ca, parties.identity(now=now - timedelta(days=29))) == "user"
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(url, ca, parties.identity(now=now - timedelta(days=31)))


async def test_a_swarm_certificate_does_not_stand_in_for_the_service(parties, ca):
    async with serving(parties.swarm(), ca) as url:
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="Hostname mismatch"):
            await ask(url, ca, None)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(url, ca, None, "localhost")


async def test_nobody_called_like_the_service_stands_in_for_it(parties, ca):
    # A swarm certificate may serve, so that only its names are in its way: common names must not count.
    for pair in (parties.swarm(name=SERVICE_NAME), parties.identity(name=SERVICE_NAME)):
        async with serving(pair, ca) as url:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await ask(url, ca, None)


async def test_a_swarm_certificate_asks_the_service_nothing(parties, ca, service):
    async with serving(service, ca) as url:
        assert await ask(url, ca, parties.swarm()) == "certificate.role"


@pytest.mark.parametrize("make", ["signing", "service"])
async def test_certificates_that_are_not_for_clients_are_refused_in_the_handshake(parties, ca, service, make):
    pair = parties.signing() if make == "signing" else service
    async with serving(service, ca) as url:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(url, ca, pair)


async def test_an_older_tls_is_refused(ca, service):
    context = await asyncio.to_thread(client_context, ca, None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(service, ca) as url:
        with pytest.raises(aiohttp.ClientConnectorError):
            await fetch(url, context)


async def test_before_joining_the_ca_can_be_read_from_a_service_that_nothing_is_known_of(ca, service):
    async with serving(service, ca) as url:
        assert await fetch(url, bootstrap_context()) == "certificate.missing"


def test_the_ca_that_the_token_names_is_taken(authority):
    assert checked_ca(authority.certificate, authority.fingerprint.upper()) == authority.certificate


def test_another_ca_is_refused_as_foreign_to_the_token(authority, strangers):
    with pytest.raises(BitDewError) as caught:
        checked_ca(strangers.authority.certificate, authority.fingerprint)
    assert caught.value.key == "token.foreign"


@pytest.mark.parametrize("shown", ["", "<html>", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----", "é"])
def test_what_shows_no_certificate_is_no_service_of_ours(authority, shown):
    with pytest.raises(BitDewError) as caught:
        checked_ca(shown, authority.fingerprint)
    assert caught.value.key == "service.not-bitdew"


def test_a_second_ca_behind_the_right_one_is_not_trusted(authority, strangers):
    both = authority.certificate + strangers.authority.certificate
    assert checked_ca(both, authority.fingerprint) == authority.certificate
    assert len(client_context(both, None).get_ca_certs()) == 1


def test_no_key_stays_on_the_disk(ca, service, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server_context(service, ca)
    with pytest.raises(BitDewError):
        server_context(KeyPair(service.certificate, new_key()), ca)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="memfd_create is Linux's")
def test_a_temporary_folder_that_is_not_there_or_full_is_no_hindrance(ca, service, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert server_context(service, ca).verify_mode is ssl.CERT_OPTIONAL


@pytest.mark.skipif(sys.platform != "linux", reason="memfd_create is Linux's")
@pytest.mark.parametrize(("number", "key"), [(errno.ENOSPC, "storage.full"), (errno.EMFILE, "storage.failed")])
def test_a_pair_that_can_not_be_handed_over_is_an_error_of_storage(ca, service, monkeypatch, number, key):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "memfd_create", fail)
    with pytest.raises(BitDewError) as caught:
        server_context(service, ca)
    assert (caught.value.key, caught.value.why) == (key, os.strerror(number))


@pytest.mark.parametrize("broken", ["", "nonsense", "\ud800"])
def test_what_is_no_pair_makes_no_context(ca, service, broken):
    for pair, root in (
        (KeyPair(broken, service.private_key), ca),
        (KeyPair(service.certificate, broken), ca),
        (service, broken),
    ):
        with pytest.raises(BitDewError) as caught:
            server_context(pair, root)
        assert caught.value.key == "input.invalid"
