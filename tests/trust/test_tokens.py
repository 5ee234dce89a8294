from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.trust.tokens import JoinToken, same_secret, secret_digest

FINGERPRINT = "0f" * 32
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_token_survives_being_written_and_read(secret, fingerprint):
    token = JoinToken(secret.hex(), fingerprint.hex())
    assert JoinToken.parse(f"  {token}\n") == token


def test_a_token_is_one_word_to_the_shell():
    word = str(JoinToken.mint(FINGERPRINT))
    assert shlex.quote(word) == word
    assert word.startswith("bitdew-join-")


def test_each_token_has_another_secret():
    assert len({JoinToken.mint(FINGERPRINT).secret for _ in range(50)}) == 50


def test_a_token_in_a_log_does_not_show_its_secret():
    token = JoinToken.mint(FINGERPRINT)
    assert token.secret not in repr(token)
    assert str(token) not in repr(token)


@given(st.data())
def test_a_token_with_one_character_changed_is_refused(data):
    word = str(JoinToken("ab" * 32, FINGERPRINT))
    place = data.draw(st.integers(0, len(word) - 1))
    other = data.draw(st.sampled_from(CHARACTERS).filter(lambda one: one != word[place]))
    with pytest.raises(BitDewError) as caught:
        JoinToken.parse(word[:place] + other + word[place + 1 :])
    assert caught.value.key == "token.invalid"


@given(st.integers(0, 103))
def test_a_truncated_token_is_refused(length):
    with pytest.raises(BitDewError) as caught:
        JoinToken.parse(str(JoinToken("ab" * 32, FINGERPRINT))[:length])
    assert caught.value.key == "token.invalid"


def test_a_token_of_a_later_version_says_so():
    import base64
    import hashlib

    body = bytes([2]) + bytes(64)
    raw = body + hashlib.sha256(b"bitdew-join-" + body).digest()[:4]
    with pytest.raises(BitDewError, match="version 2"):
        JoinToken.parse("bitdew-join-" + base64.urlsafe_b64encode(raw).decode())


@given(st.text() | st.text(CHARACTERS, min_size=92, max_size=92).map("bitdew-join-".__add__))
def test_arbitrary_text_is_refused_as_no_token(text):
    with pytest.raises(BitDewError) as caught:
        JoinToken.parse(text)
    assert caught.value.key == "token.invalid"


def test_a_fingerprint_of_another_form_makes_no_token():
    with pytest.raises(BitDewError):
        JoinToken.mint("AB:CD")


def test_a_secret_is_recognised_by_its_digest_alone():
    token = JoinToken.mint(FINGERPRINT)
    digest = secret_digest(token.secret)
    assert token.secret not in digest
    assert same_secret(token.secret, digest)
    assert not same_secret(JoinToken.mint(FINGERPRINT).secret, digest)
    assert not same_secret("\ud800", digest)
    assert not same_secret(token.secret, "é")
