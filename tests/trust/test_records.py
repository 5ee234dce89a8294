from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.data import SignedRecord
from bitdew.core.errors import BitDewError
from bitdew.trust.keys import KeyPair
from bitdew.trust.records import LARGEST_PAYLOAD, read_record, sign_record
from bitdew.trust.roles import Role


@pytest.fixture(scope="session")
def pair(parties):
    return parties.signing()


@pytest.fixture(scope="session")
def ca(authority):
    return authority.certificate


@pytest.fixture(scope="session")
def signed(record, pair):
    return sign_record(record, pair)


def by_hand(payload: bytes, pair: KeyPair) -> SignedRecord:
    """Signed by a publisher who does not use our code."""
    key = load_pem_private_key(pair.private_key.encode(), None)
    return SignedRecord(payload, key.sign(payload), pair.certificate)


def canonical(fields) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def refusal(signed, ca, now):
    with pytest.raises(BitDewError) as caught:
        read_record(signed, ca=ca, now=now)
    assert caught.value.key == "disk.signature"
    assert caught.value.why
    return caught.value.why


def test_a_signed_record_is_read_as_it_was(signed, record, ca, now):
    assert read_record(signed, ca=ca, now=now) == record


def test_the_payload_is_canonical_json_that_names_its_type(signed, record):
    fields = json.loads(signed.payload)
    assert fields["type"] == "bitdew-image-1"
    assert fields["expires"].endswith("Z")
    assert signed.payload == canonical(fields)
    assert set(fields) == {"type", *record.__dataclass_fields__}


def test_times_in_another_zone_are_signed_as_utc(record, pair, ca, now):
    elsewhere = replace(record, expires=record.expires.astimezone(timezone(timedelta(hours=5, minutes=30))))
    signed = sign_record(elsewhere, pair)
    assert read_record(signed, ca=ca, now=now) == record


@given(st.data())
@settings(max_examples=200)
def test_a_record_with_any_byte_changed_is_refused(signed, ca, now, data):
    part = data.draw(st.sampled_from(["payload", "signature", "certificate"]))
    old = getattr(signed, part)
    raw = bytearray(old.encode().rstrip() if isinstance(old, str) else old)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    new = raw.decode("latin-1") if isinstance(old, str) else bytes(raw)
    refusal(replace(signed, **{part: new}), ca, now)


@given(st.binary(max_size=5000), st.binary(max_size=70), st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_arbitrary_bytes_are_refused(signed, ca, now, payload, signature, certificate):
    refusal(SignedRecord(payload, signature, certificate), ca, now)
    refusal(SignedRecord(payload, signature, signed.certificate), ca, now)


@given(st.binary(max_size=300) | st.text().map(str.encode) | st.dictionaries(st.text(), st.text()).map(canonical))
def test_arbitrary_bytes_are_refused_even_if_a_publisher_signed_them(pair, ca, now, payload):
    refusal(by_hand(payload, pair), ca, now)


def test_a_record_by_a_publisher_of_another_service_is_refused(record, strangers, ca, now):
    assert "CA" in refusal(sign_record(record, strangers.signing()), ca, now)


def test_a_certificate_swapped_for_another_publishers_is_refused(signed, parties, ca, now):
    assert "signature" in refusal(replace(signed, certificate=parties.signing("eve").certificate), ca, now)


@pytest.mark.parametrize("role", [Role.WORKER, Role.PUBLISHER, Role.OPERATOR])
def test_a_certificate_of_another_role_signs_nothing(record, signed, parties, ca, now, role):
    identity = parties.identity(role)
    with pytest.raises(BitDewError) as caught:
        sign_record(record, identity)
    assert caught.value.key == "disk.signature"
    assert "Ed25519" in refusal(replace(signed, certificate=identity.certificate), ca, now)


def test_an_ed25519_certificate_that_is_not_for_signing_signs_nothing(authority, signed, pair, ca, now):
    # The CA never makes such a certificate; this one stands for a defect in it.
    key = load_pem_private_key(pair.private_key.encode(), None)
    issued = authority._issue(key.public_key(), Role.WORKER, "5" * 32, "ada", (), now)
    assert "role worker" in refusal(replace(signed, certificate=issued.pem), ca, now)


def test_a_record_that_names_another_publisher_is_neither_signed_nor_read(record, pair, ca, now):
    other = replace(record, publisher="eve")
    with pytest.raises(BitDewError) as caught:
        sign_record(other, pair)
    assert caught.value.key == "disk.signature"
    fields = json.loads(sign_record(record, pair).payload) | {"publisher": "eve"}
    assert "eve" in refusal(by_hand(canonical(fields), pair), ca, now)


def test_a_key_that_is_not_the_certificates_signs_nothing(record, pair, parties):
    with pytest.raises(BitDewError) as caught:
        sign_record(record, KeyPair(pair.certificate, parties.signing().private_key))
    assert caught.value.key == "disk.signature"


def test_a_record_holds_until_it_expires(signed, record, ca):
    assert read_record(signed, ca=ca, now=record.expires - timedelta(seconds=1)) == record
    assert "expired" in refusal(signed, ca, record.expires)


def test_a_record_from_the_future_is_refused_beyond_what_clocks_differ(record, pair, ca, now):
    early = sign_record(replace(record, issued=now + timedelta(minutes=4)), pair)
    assert read_record(early, ca=ca, now=now).issued > now
    assert "future" in refusal(sign_record(replace(record, issued=now + timedelta(minutes=6)), pair), ca, now)


def test_a_record_does_not_outlive_its_certificate(record, pair, ca, now):
    lasting = sign_record(replace(record, expires=now + timedelta(days=3000)), pair)
    read_record(lasting, ca=ca, now=now + timedelta(days=364))
    assert "certificate holds" in refusal(lasting, ca, now + timedelta(days=366))


def test_a_record_issued_outside_its_certificates_validity_is_neither_signed_nor_read(record, pair, ca, now):
    early = replace(record, issued=now - timedelta(days=1))
    with pytest.raises(BitDewError) as caught:
        sign_record(early, pair)
    assert caught.value.key == "disk.signature"
    fields = json.loads(sign_record(record, pair).payload) | {"issued": "2020-01-01T00:00:00Z"}
    assert "not valid when it was issued" in refusal(by_hand(canonical(fields), pair), ca, now)


@pytest.mark.parametrize(
    "change",
    [
        {"uid": "A" * 32},
        {"uid": 7},
        {"name": "../etc"},
        {"name": ""},
        {"root": "b" * 63},
        {"info_hash": "c" * 40},
        {"size": 0},
        {"size": -1},
        {"size": 1.0},
        {"size": True},
        {"size": 1 << 41},
        {"size": "20"},
        {"format": "qcow2"},
        {"os": "x" * 129},
        {"os": "a\x1b[2J"},
        {"os": None},
        {"arch": "x86 64"},
        {"version": ["1"]},
        {"publisher": "*"},
        {"issued": "yesterday"},
        {"issued": 0},
        {"expires": "2990-01-01T00:00:00+00:00"},
        {"expires": "2990-01-01T00:00:00"},
        {"expires": "2001-01-01T00:00:00Z"},
        {"type": "bitdew-image-2"},
        {"unknown": 1},
    ],
)
def test_a_signed_payload_with_a_field_out_of_bounds_is_refused(signed, pair, ca, now, change):
    fields = json.loads(signed.payload) | change
    refusal(by_hand(canonical(fields), pair), ca, now)


def test_a_signed_payload_that_lacks_a_field_is_refused(signed, pair, ca, now):
    for name in json.loads(signed.payload):
        fields = json.loads(signed.payload)
        del fields[name]
        assert name in refusal(by_hand(canonical(fields), pair), ca, now)


@pytest.mark.parametrize(
    "respell",
    [
        lambda raw: raw + b" ",
        lambda raw: raw.replace(b'":"', b'": "', 1),
        lambda raw: raw.replace(b"ian", b"i\\u0061n", 1),
        lambda raw: b'{"arch":"evil",' + raw[1:],
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda _: b"[" * LARGEST_PAYLOAD,
        lambda _: b"1" * LARGEST_PAYLOAD,
        lambda _: b"NaN",
        lambda _: b'"\\ud800"',
    ],
)
def test_a_signed_payload_in_another_spelling_is_refused(signed, pair, ca, now, respell):
    refusal(by_hand(respell(signed.payload), pair), ca, now)


@pytest.mark.parametrize(
    "respell",
    [
        lambda pem: "hidden\n" + pem,
        lambda pem: pem + pem,
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: pem.replace("\n", "", 2).replace("-----M", "-----\nM", 1),
    ],
)
def test_a_certificate_in_another_spelling_is_refused(signed, ca, now, respell):
    assert "usual form" in refusal(replace(signed, certificate=respell(signed.certificate)), ca, now)


def test_a_payload_over_its_bound_is_refused_before_anything_else(pair, ca, now):
    assert "size" in refusal(by_hand(b" " * (LARGEST_PAYLOAD + 1), pair), ca, now)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"os": "x" * 129},
        {"issued": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"expires": datetime.min.replace(tzinfo=timezone.utc)},  # noqa: UP017
    ],
)
def test_a_record_out_of_bounds_is_not_signed(record, pair, change):
    with pytest.raises(BitDewError) as caught:
        sign_record(replace(record, **change), pair)
    assert caught.value.key == "input.invalid"
