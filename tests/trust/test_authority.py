from __future__ import annotations

import base64
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, certificate_subject, fingerprint, new_key, new_signing_key
from bitdew.trust.private_files import alone_in
from bitdew.trust.roles import IDENTITIES, Role

SUBJECT = "5" * 32


def parsed(pem):
    return x509.load_pem_x509_certificate(pem.encode())


def san(pem):
    return parsed(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def purposes(pem):
    return set(parsed(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def request_by(key, name="x"):
    """A request as another program makes it, with wishes of its own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    wishes = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("bitdew:operator:1"), x509.DNSName("*")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(wishes, critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_authority_is_made_once_and_found_again(private_folder, now):
    first = Authority.open(private_folder, now=now, name="grid")
    second = Authority.open(private_folder, now=now + timedelta(days=1), name="another name")
    assert first.certificate == second.certificate
    assert first.fingerprint == second.fingerprint == fingerprint(first.certificate)


def test_the_key_is_for_its_owner_alone(private_folder, now):
    private_folder.mkdir(mode=0o755)
    Authority.open(private_folder, now=now, name="grid")
    assert mode(private_folder) == 0o700
    assert [mode(file) for file in private_folder.iterdir()] == [0o600]


def test_a_key_that_was_left_open_to_others_is_closed(private_folder, now):
    Authority.open(private_folder, now=now, name="grid")
    file = private_folder / "authority.pem"
    file.chmod(0o644)
    Authority.open(private_folder, now=now, name="grid")
    assert mode(file) == 0o600


@pytest.mark.parametrize("point", ["os.fdopen", "os.fsync", "pathlib.Path.replace", "after pathlib.Path.replace"])
def test_a_kill_at_any_point_leaves_a_whole_authority_or_none(private_folder, now, point):
    after, _, target = point.rpartition(" ")
    code = f"""
        import os, signal, pathlib
        from datetime import datetime, UTC
        from bitdew.trust.authority import Authority
        real = {target}
        def stop(*args, **kw):
            if {bool(after)}:
                real(*args, **kw)
            os.kill(os.getpid(), signal.SIGKILL)
        {target} = stop
        Authority.open(pathlib.Path({str(private_folder)!r}), now=datetime.now(UTC), name="first")
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert (private_folder / "authority.pem").exists() == bool(after)
    again = Authority.open(private_folder, now=now, name="second")
    name = parsed(again.certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert name == ("first" if after else "second")
    assert [file.name for file in private_folder.iterdir()] == ["authority.pem"]


def test_processes_that_start_at_once_share_one_authority(private_folder):
    code = """
        import sys, pathlib
        from datetime import datetime, UTC
        from bitdew.trust.authority import Authority
        sys.stdin.read()
        print(Authority.open(pathlib.Path(sys.argv[1]), now=datetime.now(UTC), name="grid").fingerprint)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(private_folder)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=60)[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    assert len(set(said)) == 1


def test_who_comes_second_waits_and_takes_what_the_first_has_made(private_folder, now, authority):
    private_folder.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with alone_in(private_folder):
            second = pool.submit(Authority.open, private_folder, now=now, name="second")
            with pytest.raises(TimeoutError):
                second.result(timeout=0.3)
            (private_folder / "authority.pem").write_text((authority._folder / "authority.pem").read_text())
        assert second.result(timeout=30).fingerprint == authority.fingerprint


def test_a_full_disk_leaves_nothing_half_made(private_folder, now, monkeypatch):
    import errno
    import os

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)  # a fault that the real disk can't be made to show
    with pytest.raises(BitDewError) as caught:
        Authority.open(private_folder, now=now, name="grid")
    assert caught.value.key == "storage.full"
    assert list(private_folder.iterdir()) == []


def damage_half(text):
    return text[: len(text) // 2]


def damage_key(text):
    return text[: text.index("-----BEGIN PRIVATE")] + new_key()


def damage_one_byte(text):
    at = len(text) // 4
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


@pytest.mark.parametrize(
    "damage", [damage_half, damage_key, damage_one_byte, lambda _: "", lambda _: "\0" * 900, lambda text: text * 100]
)
def test_a_damaged_authority_is_refused_with_what_to_do(private_folder, now, damage):
    Authority.open(private_folder, now=now, name="grid")
    file = private_folder / "authority.pem"
    file.write_text(damage(file.read_text()))
    with pytest.raises(BitDewError) as caught:
        Authority.open(private_folder, now=now, name="grid")
    assert caught.value.key == "storage.failed"
    assert str(file) in caught.value.message
    assert caught.value.do


def test_a_folder_in_place_of_the_file_is_told_as_a_storage_failure(private_folder, now):
    (private_folder / "authority.pem").mkdir(parents=True)
    with pytest.raises(BitDewError) as caught:
        Authority.open(private_folder, now=now, name="grid")
    assert caught.value.key == "storage.failed"


def test_the_authority_ends_after_ten_years_and_no_certificate_outlives_it(private_folder, now):
    authority = Authority.open(private_folder, now=now, name="grid")
    end = parsed(authority.certificate).not_valid_after_utc
    assert timedelta(days=3649) < end - now <= timedelta(days=3650)
    late = authority.sign_swarm(
        certificate_request(new_key(), "x"), subject_id=SUBJECT, name="x", now=end - timedelta(days=1)
    )
    assert late.expires == end
    for refused in (
        lambda: Authority.open(private_folder, now=end, name="grid"),
        lambda: authority.issue_service([], now=end),
    ):
        with pytest.raises(BitDewError) as caught:
            refused()
        assert caught.value.key == "certificate.expired"


@pytest.mark.parametrize("role", sorted(IDENTITIES))
def test_an_identity_may_ask_and_nothing_else(parties, role):
    certificate = parties.identity(role).certificate
    assert purposes(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert list(san(certificate)) == [x509.UniformResourceIdentifier(f"bitdew:{role}:{SUBJECT}")]
    assert not parsed(certificate).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("role", sorted(set(Role) - IDENTITIES))
def test_a_role_that_is_no_identity_is_not_signed_as_one(parties, role):
    with pytest.raises(BitDewError) as caught:
        parties.identity(role)
    assert caught.value.key == "certificate.role"


def test_a_swarm_certificate_is_what_libtorrent_asks_for(parties):
    certificate = parties.swarm().certificate
    assert san(certificate).get_values_for_type(x509.DNSName) == ["*"]
    assert purposes(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert certificate_subject(certificate).role is Role.SWARM
    parsed(certificate).verify_directly_issued_by(parsed(parties.authority.certificate))


def test_a_signing_certificate_signs_and_nothing_else(parties):
    certificate = parties.signing().certificate
    assert purposes(certificate) == {ExtendedKeyUsageOID.CODE_SIGNING}
    assert certificate_subject(certificate).role is Role.SIGNING


def test_validity_begins_five_minutes_ago_and_lasts_as_the_role_says(parties, now):
    whole = now.replace(microsecond=0)
    for pair, days in ((parties.identity(), 30), (parties.swarm(), 30), (parties.signing(), 365)):
        certificate = parsed(pair.certificate)
        assert certificate.not_valid_before_utc == whole - timedelta(minutes=5)
        assert certificate.not_valid_after_utc == whole + timedelta(days=days)


def test_what_is_told_of_an_issued_certificate_is_what_stands_in_it(authority, now):
    issued = authority.sign_swarm(certificate_request(new_key(), "x"), subject_id=SUBJECT, name="pc-7", now=now)
    subject = certificate_subject(issued.pem)
    assert (subject.serial, subject.expires, subject.name) == (issued.serial, issued.expires, "pc-7")


def test_nothing_that_a_request_wishes_is_granted_but_its_key(authority, now):
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.sign_identity(request_by(key, "boss"), role=Role.USER, subject_id=SUBJECT, name="eve", now=now)
    subject = certificate_subject(issued.pem)
    assert (subject.role, subject.subject_id, subject.name) == (Role.USER, SUBJECT, "eve")
    assert not parsed(issued.pem).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert san(issued.pem).get_values_for_type(x509.DNSName) == []
    assert parsed(issued.pem).public_key() == key.public_key()


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["another curve", "RSA"],
)
def test_keys_of_another_kind_are_not_certified(authority, now, key):
    with pytest.raises(BitDewError) as caught:
        authority.sign_swarm(request_by(key), subject_id=SUBJECT, name="x", now=now)
    assert caught.value.key == "input.invalid"
    with pytest.raises(BitDewError) as caught:
        authority.sign_signing(request_by(key), subject_id=SUBJECT, name="x", now=now)
    assert caught.value.key == "input.invalid"


def test_keys_for_signing_and_for_tls_do_not_stand_in_for_each_other(authority, now):
    with pytest.raises(BitDewError):
        authority.sign_signing(certificate_request(new_key(), "x"), subject_id=SUBJECT, name="x", now=now)
    with pytest.raises(BitDewError):
        authority.sign_swarm(certificate_request(new_signing_key(), "x"), subject_id=SUBJECT, name="x", now=now)


VALID_REQUEST = certificate_request(new_key(), "x")
VALID_DER = x509.load_pem_x509_csr(VALID_REQUEST.encode()).public_bytes(serialization.Encoding.DER)
# Says how many bits of the signature's last byte are none of it. The parser lets any zero bits be called that: the
# signed part, the key and the signature's bytes stay what they were.
UNUSED_BITS = len(VALID_DER) - len(x509.load_pem_x509_csr(VALID_REQUEST.encode()).signature) - 1


def armoured(der):
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


@given(st.integers(0, len(VALID_DER) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_request_with_one_byte_changed_is_refused(authority, now, place, change):
    assume(place != UNUSED_BITS)
    der = bytearray(VALID_DER)
    der[place] ^= change
    with pytest.raises(BitDewError) as caught:
        authority.sign_identity(armoured(bytes(der)), role=Role.USER, subject_id=SUBJECT, name="x", now=now)
    assert caught.value.key == "input.invalid"


@given(st.binary(max_size=5000).map(lambda raw: raw.decode("latin-1")) | st.binary().map(armoured) | st.text())
def test_arbitrary_bytes_are_refused_as_a_request(authority, now, text):
    with pytest.raises(BitDewError) as caught:
        authority.sign_identity(text, role=Role.USER, subject_id=SUBJECT, name="x", now=now)
    assert caught.value.key in {"input.invalid", "input.too-large"}


@pytest.mark.parametrize(("subject_id", "name"), [("a:b", "x"), ("", "x"), ("1", "*"), ("1", "x" * 64), ("1", "a b")])
def test_an_id_or_name_that_no_certificate_holds_is_refused(authority, now, subject_id, name):
    with pytest.raises(BitDewError) as caught:
        authority.sign_swarm(VALID_REQUEST, subject_id=subject_id, name=name, now=now)
    assert caught.value.key == "input.invalid"


def test_the_service_is_certified_under_all_its_names(authority, now):
    pair = authority.issue_service(["grid.example.org", "10.0.0.7", "fe80::1%eth0", "localhost"], now=now)
    names = san(pair.certificate)
    assert names.get_values_for_type(x509.DNSName) == ["bitdew-service", "localhost", "grid.example.org"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "10.0.0.7", "fe80::1"]
    assert purposes(pair.certificate) == {ExtendedKeyUsageOID.SERVER_AUTH}


@pytest.mark.parametrize("names", [["*.example.org"], ["*"], ["a b"], [""], ["é.org"], [f"h{n}" for n in range(100)]])
def test_names_that_no_service_has_are_refused(authority, now, names):
    with pytest.raises(BitDewError) as caught:
        authority.issue_service(names, now=now)
    assert caught.value.key in {"input.invalid", "input.too-large"}


def test_the_service_keeps_its_pair_until_a_third_of_its_validity_is_left(private_folder, now):
    authority = Authority.open(private_folder, now=now, name="grid")
    first = authority.service_pair(["10.0.0.7", "fe80::1%eth0"], now=now)
    assert mode(private_folder / "service.pem") == 0o600
    again = Authority.open(private_folder, now=now, name="grid")
    assert again.service_pair(iter(["10.0.0.7"]), now=now + timedelta(days=240)) == first
    assert again.service_pair(["10.0.0.7"], now=now + timedelta(days=245)) != first


def test_the_service_gets_another_pair_for_another_name_or_when_the_old_one_is_damaged(private_folder, now, strangers):
    authority = Authority.open(private_folder, now=now, name="grid")
    first = authority.service_pair([], now=now)
    second = authority.service_pair(iter(["10.0.0.8"]), now=now)
    assert second != first
    foreign = strangers.authority.issue_service(["10.0.0.8"], now=now)
    for text in ("", "nonsense", second.certificate + first.private_key, foreign.certificate + foreign.private_key):
        (private_folder / "service.pem").write_text(text)
        renewed = authority.service_pair(["10.0.0.8"], now=now)
        assert certificate_subject(renewed.certificate).role is Role.SERVICE
        assert authority.service_pair(["10.0.0.8"], now=now) == renewed
        parsed(renewed.certificate).verify_directly_issued_by(parsed(authority.certificate))
