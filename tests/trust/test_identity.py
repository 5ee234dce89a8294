from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest

from bitdew.core.errors import BitDewError
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.keys import certificate_request, new_key, request_digest
from bitdew.trust.roles import Role

URL = "https://127.0.0.1:8440"
SUBJECT = "5" * 32


def enrol(folder, parties, role=Role.WORKER, *, subject_id=SUBJECT, name="pc-7", now=None):
    """What a service grants for what the folder asks."""
    requests = folder.prepare(role)
    who = {"subject_id": subject_id, "name": name, "now": now or parties.now}
    sign = parties.authority
    return folder.store(
        url=URL,
        ca=sign.certificate,
        identity=sign.sign_identity(requests.identity, role=role, **who).pem,
        swarm=requests.swarm and sign.sign_swarm(requests.swarm, **who).pem,
        signing=requests.signing and sign.sign_signing(requests.signing, **who).pem,
    )


@pytest.fixture
def folder(private_folder):
    return IdentityFolder(private_folder)


def test_a_folder_without_identity_says_so(folder):
    assert not folder.exists()
    with pytest.raises(BitDewError) as caught:
        folder.load()
    assert caught.value.key == "profile.missing"


@pytest.mark.parametrize(
    ("role", "swarm", "signing"),
    [
        (Role.WORKER, True, False),
        (Role.USER, False, False),
        (Role.PUBLISHER, False, True),
        (Role.OPERATOR, False, True),
    ],
)
def test_what_was_granted_is_loaded_again(folder, parties, role, swarm, signing):
    stored = enrol(folder, parties, role)
    loaded = IdentityFolder(folder.folder).load()
    assert loaded == stored
    assert (loaded.url, loaded.ca, loaded.fingerprint) == (
        URL,
        parties.authority.certificate,
        parties.authority.fingerprint,
    )
    assert (loaded.subject.role, loaded.subject.subject_id, loaded.subject.name) == (role, SUBJECT, "pc-7")
    assert (loaded.swarm is not None, loaded.signing is not None) == (swarm, signing)


@pytest.mark.parametrize("role", [Role.SWARM, Role.SIGNING, Role.SERVICE])
def test_nobody_joins_with_a_role_that_is_no_identity(folder, role):
    with pytest.raises(BitDewError) as caught:
        folder.prepare(role)
    assert caught.value.key == "certificate.role"


def test_every_file_is_for_its_owner_alone(folder, parties):
    enrol(folder, parties)
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.folder.iterdir()} == {0o600}


def test_keys_are_on_the_disk_before_a_certificate_is_asked_and_are_asked_for_again(folder):
    first = folder.prepare(Role.WORKER)
    assert {file.name for file in folder.folder.iterdir()} == {"identity.key", "swarm.key"}
    second = IdentityFolder(folder.folder).prepare(Role.WORKER)
    assert request_digest(first.identity) == request_digest(second.identity)
    assert request_digest(first.swarm) == request_digest(second.swarm)
    assert not folder.exists()


@pytest.mark.parametrize("step", range(1, 6))
def test_a_kill_at_any_file_of_the_storing_loses_no_granted_certificate(folder, parties, step):
    requests = folder.prepare(Role.WORKER)
    who = {"subject_id": SUBJECT, "name": "pc-7", "now": parties.now}
    granted = {
        "url": URL,
        "ca": parties.authority.certificate,
        "identity": parties.authority.sign_identity(requests.identity, role=Role.WORKER, **who).pem,
        "swarm": parties.authority.sign_swarm(requests.swarm, **who).pem,
    }
    code = """
        import json, os, pathlib, signal, sys
        from bitdew.trust.identity import IdentityFolder
        real, left = pathlib.Path.replace, int(sys.argv[2])
        def stop(*args):
            global left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)
        pathlib.Path.replace = stop
        IdentityFolder(pathlib.Path(sys.argv[1])).store(**json.load(sys.stdin))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder.folder), str(step)],
        input=json.dumps(granted).encode(),
        check=False,
        timeout=60,
    )
    whole = step == 5  # four files are written
    assert ended.returncode == (0 if whole else -signal.SIGKILL)
    assert folder.exists() == whole
    assert request_digest(folder.prepare(Role.WORKER).identity) == request_digest(requests.identity)
    assert folder.store(**granted).swarm is not None


def test_a_renewal_keeps_the_keys_and_what_was_not_renewed(folder, parties):
    first = enrol(folder, parties)
    later = parties.now + timedelta(days=20)
    requests = folder.prepare(Role.WORKER)
    renewed = parties.authority.sign_identity(
        requests.identity, role=Role.WORKER, subject_id=SUBJECT, name="pc-7", now=later
    )
    second = folder.store(url=URL, ca=first.ca, identity=renewed.pem)
    assert second.identity.private_key == first.identity.private_key
    assert second.identity.certificate == renewed.pem != first.identity.certificate
    assert second.swarm == first.swarm


def test_an_identity_knows_when_it_has_ended(folder, parties):
    identity = enrol(folder, parties)
    identity.require_valid(parties.now + timedelta(days=29))
    with pytest.raises(BitDewError) as caught:
        identity.require_valid(parties.now + timedelta(days=30))
    assert caught.value.key == "certificate.expired"


def test_an_identity_of_another_service_is_never_overwritten(folder, parties, strangers):
    first = enrol(folder, parties)
    with pytest.raises(BitDewError) as caught:
        enrol(folder, strangers)
    assert caught.value.key == "profile.taken"
    assert folder.load() == first


def test_joining_again_as_another_subject_leaves_nothing_of_the_first(folder, parties):
    enrol(folder, parties, Role.PUBLISHER)
    second = enrol(folder, parties, Role.USER, subject_id="6" * 32)
    assert second.subject.subject_id == "6" * 32
    assert second.signing is None
    assert not (folder.folder / "signing.pem").exists()


def test_a_certificate_for_another_key_or_by_another_ca_is_not_stored(folder, parties, strangers):
    requests = folder.prepare(Role.USER)
    who = {"role": Role.USER, "subject_id": SUBJECT, "name": "ada", "now": parties.now}
    other_key = parties.authority.sign_identity(certificate_request(new_key(), "x"), **who).pem
    other_ca = strangers.authority.sign_identity(requests.identity, **who).pem
    for certificate in (other_key, other_ca):
        with pytest.raises(BitDewError) as caught:
            folder.store(url=URL, ca=parties.authority.certificate, identity=certificate)
        assert caught.value.key == "certificate.foreign"
    assert not folder.exists()


def test_a_swarm_certificate_is_not_stored_as_an_identity_nor_another_subjects_beside_it(folder, parties):
    requests = folder.prepare(Role.WORKER)
    sign, ca, now = parties.authority, parties.authority.certificate, parties.now
    swarm = sign.sign_swarm(requests.identity, subject_id=SUBJECT, name="x", now=now).pem
    with pytest.raises(BitDewError) as caught:
        folder.store(url=URL, ca=ca, identity=swarm)
    assert caught.value.key == "certificate.role"
    identity = sign.sign_identity(requests.identity, role=Role.WORKER, subject_id=SUBJECT, name="x", now=now).pem
    others = sign.sign_swarm(requests.swarm, subject_id="6" * 32, name="x", now=now).pem
    with pytest.raises(BitDewError) as caught:
        folder.store(url=URL, ca=ca, identity=identity, swarm=others)
    assert caught.value.key == "certificate.foreign"


@pytest.mark.parametrize("name", ["service.json", "ca.pem", "identity.key", "identity.pem", "swarm.key", "swarm.pem"])
@pytest.mark.parametrize("content", ["", "[]", '{"url": 7, "fingerprint": []}', "\0" * 50, "[" * 60_000, "x" * 70_000])
def test_a_damaged_file_is_named_with_what_to_do(folder, parties, name, content):
    enrol(folder, parties)
    (folder.folder / name).write_text(content)
    with pytest.raises(BitDewError) as caught:
        folder.load()
    assert caught.value.key == "storage.failed"
    assert name in caught.value.message
    assert caught.value.do


def test_a_ca_that_service_json_does_not_name_is_not_believed(folder, parties, strangers):
    enrol(folder, parties)
    about = folder.folder / "service.json"
    about.write_text(about.read_text().replace(parties.authority.fingerprint, strangers.authority.fingerprint))
    with pytest.raises(BitDewError, match=r"ca\.pem"):
        folder.load()


@pytest.mark.parametrize("name", ["ca.pem", "identity.key", "identity.pem", "swarm.key"])
def test_a_missing_file_is_named(folder, parties, name):
    enrol(folder, parties)
    (folder.folder / name).unlink()
    with pytest.raises(BitDewError, match=name):
        folder.load()


@pytest.mark.parametrize("name", ["identity.key", "identity.pem", "swarm.pem", "ca.pem"])
def test_files_of_two_identities_do_not_pass_as_one(folder, parties, strangers, tmp_path, name):
    enrol(folder, parties)
    other = IdentityFolder(tmp_path / "other")
    enrol(other, strangers)
    (folder.folder / name).write_text((other.folder / name).read_text())
    with pytest.raises(BitDewError) as caught:
        folder.load()
    assert caught.value.key == "storage.failed"
