"""The webhook: what is posted, and the signature that proves who did."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
from bitdew.worker.bridges.settings import WebhookBridge
from bitdew.worker.bridges.webhook import Webhook, read_secret, signature
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bitdew.core.errors import BitDewError

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "hook.key"
    path.touch(mode=0o600)
    path.write_bytes(SECRET + b"\n")
    return path


async def test_each_event_is_posted_with_a_signature_that_the_secret_proves(door, secret_file, replica):
    hook = Webhook(WebhookBridge(url=f"{door.url}/hook?pool=hep", secret_file=str(secret_file)), "pc-7")
    await hook.started([replica(1), replica(2)])
    await hook.held(replica(3, attribute="root"))
    await hook.dropping(replica(3, attribute="root"))
    bodies = [json.loads(body) for _, _, body in door.requests]
    assert [(one["version"], one["event"], one["host"]) for one in bodies] == [
        (1, "started", "pc-7"),
        (1, "held", "pc-7"),
        (1, "dropping", "pc-7"),
    ]
    assert [[copy["name"] for copy in one["copies"]] for one in bodies] == [
        ["disk-1", "disk-2"],
        ["disk-3"],
        ["disk-3"],
    ]
    assert bodies[1]["copies"] == [
        {
            "uid": f"{3:032x}",
            "name": "disk-3",
            "root": f"{3:064x}",
            "size": 7,
            "path": "/srv/copies/3",
            "attribute": "root",
            "since": "2026-01-01T00:00:03+00:00",
        }
    ]
    for line, headers, body in door.requests:
        assert line == "POST /hook?pool=hep HTTP/1.1"
        assert headers["Content-Type"] == "application/json"
        seconds, proof = (part.partition("=")[2] for part in headers["X-BitDew-Signature"].split(","))
        assert proof == hmac.new(SECRET, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert abs(int(seconds) - time.time()) < 30


async def test_what_is_sent_again_has_the_same_delivery_and_other_things_have_others(door, secret_file, replica):
    hook = Webhook(WebhookBridge(url=door.url, secret_file=str(secret_file)), "pc-7")
    door.status = 503
    with pytest.raises(BitDewError, match="it answered 503"):
        await hook.held(replica(1))
    door.status = 200
    await hook.held(replica(1))
    await hook.dropping(replica(1))
    first, again, other = (headers["X-BitDew-Delivery"] for _, headers, _ in door.requests)
    assert first == again != other


async def test_the_secret_is_read_anew_and_without_it_nothing_is_sent(door, secret_file, replica):
    hook = Webhook(WebhookBridge(url=door.url, secret_file=str(secret_file)), "pc-7")
    secret_file.unlink()
    with pytest.raises(BitDewError) as caught:
        await hook.held(replica(1))
    assert caught.value.key == "storage.failed"
    assert door.requests == []


@given(st.binary(min_size=16, max_size=64), st.integers(0, 2**40), st.binary(max_size=200), st.binary(max_size=200))
def test_another_secret_time_or_body_has_another_signature(secret, seconds, body, other):
    signed = signature(secret, seconds, body)
    assert signed == signature(secret, seconds, body)
    assert signed != signature(secret + b"x", seconds, body)
    assert signed != signature(secret, seconds + 1, body)
    assert (signed == signature(secret, seconds, other)) == (body == other)


@pytest.mark.parametrize("content", [b"", b"short", b" " * 40, b"x" * 4097])
def test_what_is_no_secret_is_refused(secret_file, content):
    secret_file.write_bytes(content)
    with pytest.raises(BitDewError) as caught:
        read_secret(secret_file)
    assert caught.value.key == "input.invalid"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_or_write_is_refused(secret_file, mode):
    secret_file.chmod(mode)
    with pytest.raises(BitDewError, match="Others may read"):
        read_secret(secret_file)


@pytest.mark.parametrize("changes", [{"url": "http://10.0.0.7/"}, {"secret_file": "hook.key"}, {"url": "x"}])
def test_an_impossible_webhook_is_refused(secret_file, changes):
    with pytest.raises(ValidationError):
        WebhookBridge(**{"url": "https://example.org/", "secret_file": str(secret_file), **changes})
