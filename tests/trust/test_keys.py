from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.trust.keys import (
    certificate_expires,
    certificate_request,
    certificate_subject,
    fingerprint,
    needs_renewal,
    new_key,
    request_digest,
)
from bitdew.trust.roles import Role


def test_a_certificate_tells_its_subject_and_its_end(parties):
    pair = parties.identity(Role.PUBLISHER, "ada")
    subject = certificate_subject(pair.certificate)
    assert (subject.role, subject.subject_id, subject.name) == (Role.PUBLISHER, "5" * 32, "ada")
    assert (
        subject.expires == certificate_expires(pair.certificate) == parties.now.replace(microsecond=0) + timedelta(30)
    )


def test_renewal_is_due_when_two_thirds_of_the_validity_have_passed(parties):
    certificate = parties.identity().certificate
    assert not needs_renewal(certificate, parties.now + timedelta(days=19, hours=23))
    assert needs_renewal(certificate, parties.now + timedelta(days=20))


def test_two_requests_by_one_key_have_one_digest_and_another_key_has_another():
    key = new_key()
    first, second = certificate_request(key, "a"), certificate_request(key, "b")
    assert first != second
    assert request_digest(first) == request_digest(second) != request_digest(certificate_request(new_key(), "a"))


def test_a_key_is_kept_out_of_the_repr_of_its_pair(parties):
    pair = parties.identity()
    assert "PRIVATE" in pair.private_key
    assert "PRIVATE" not in repr(pair)


def test_the_root_itself_names_no_subject(authority):
    with pytest.raises(BitDewError) as caught:
        certificate_subject(authority.certificate)
    assert caught.value.key == "certificate.role"


@pytest.mark.parametrize("read", [certificate_expires, certificate_subject, fingerprint, request_digest])
@given(text=st.text() | st.binary().map(lambda raw: f"-----BEGIN X-----\n{raw.hex()}\n-----END X-----"))
def test_text_that_is_no_pem_is_refused_by_name(read, text):
    with pytest.raises(BitDewError) as caught:
        read(text)
    assert caught.value.key == "input.invalid"


def test_an_endless_text_is_refused_before_it_is_parsed():
    with pytest.raises(BitDewError) as caught:
        fingerprint("-" * 20_000)
    assert caught.value.key == "input.too-large"
