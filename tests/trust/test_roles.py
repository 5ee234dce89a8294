from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.trust.roles import LONGEST_NAME, Role, Subject, checked_common_name, subject_of_peer, subject_uri

PEER = {
    "subject": ((("commonName", "pc-7"),),),
    "issuer": ((("commonName", "Our grid"),),),
    "serialNumber": "0AFF",
    "notAfter": "Jan  5 09:34:43 2031 GMT",
    "subjectAltName": (("URI", "bitdew:worker:" + "5" * 32),),
}


def test_a_verified_peer_is_read_into_its_subject():
    expires = datetime(2031, 1, 5, 9, 34, 43, tzinfo=UTC)
    assert subject_of_peer(PEER) == Subject(Role.WORKER, "5" * 32, "aff", "pc-7", expires)


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_peer_without_certificate_is_told_so(nothing):
    with pytest.raises(BitDewError) as caught:
        subject_of_peer(nothing)
    assert caught.value.key == "certificate.missing"


@pytest.mark.parametrize("role", ["swarm", "signing", "service", "king", "", "WORKER"])
def test_a_role_that_asks_nothing_of_a_service_is_refused(role):
    with pytest.raises(BitDewError) as caught:
        subject_of_peer(PEER | {"subjectAltName": (("URI", f"bitdew:{role}:1"),)})
    assert caught.value.key == "certificate.role"


def test_a_certificate_without_our_uri_has_no_role():
    with pytest.raises(BitDewError) as caught:
        subject_of_peer(PEER | {"subjectAltName": (("URI", "https://example.org"), ("DNS", "bitdew:worker:1"))})
    assert caught.value.key == "certificate.role"


@pytest.mark.parametrize(
    "change",
    [
        {"subjectAltName": (("URI", "bitdew:user:1"), ("URI", "bitdew:operator:1"))},
        {"subjectAltName": (("URI", "bitdew:user:../1"),)},
        {"subjectAltName": (("URI", "bitdew:user:"),)},
        {"subjectAltName": 7},
        {"subject": ((("commonName", "a"),), (("commonName", "b"),))},
        {"subject": ()},
        {"subject": ((("commonName", "a\nb"),),)},
        {"serialNumber": "no"},
        {"serialNumber": "0"},
        {"notAfter": "tomorrow"},
        {"notAfter": None},
    ],
)
def test_a_certificate_as_the_ca_never_makes_it_is_refused(change):
    with pytest.raises(BitDewError) as caught:
        subject_of_peer(PEER | change)
    assert caught.value.key == "input.invalid"


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(PEER)), anything))
def test_no_peer_certificate_raises_anything_but_our_errors(change):
    key = ""
    try:
        subject_of_peer(PEER | change)
    except BitDewError as refused:
        key = refused.key
    assert key in {"", "input.invalid", "certificate.role"}


@pytest.mark.parametrize("name", ["*", "", "a b", "a/b", "x" * (LONGEST_NAME + 1), "é", "f" * 64])
def test_a_name_that_a_swarm_could_mistake_for_its_own_or_no_certificate_holds_is_refused(name):
    with pytest.raises(BitDewError) as caught:
        checked_common_name(name)
    assert caught.value.key == "input.invalid"


@pytest.mark.parametrize("subject_id", ["", "a:b", "a b", "é", "x" * 65, "a\n"])
def test_a_subject_id_can_not_break_out_of_its_uri(subject_id):
    with pytest.raises(BitDewError):
        subject_uri(Role.USER, subject_id)
