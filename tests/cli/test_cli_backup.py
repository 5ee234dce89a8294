"""A service is backed up while it runs, and put back when it does not."""

import json
import stat
import tarfile

import pytest


def test_a_running_service_is_backed_up_and_restored_as_it_was(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, "--name", "lab", home=home)
    bitdew("token", "create", "--role", "worker", "--note", "before")
    file = tmp_path / "monday.tar"
    written = bitdew("backup", file, "--json")
    assert (written.code, written.err) == (0, "")
    assert written.document["size"] <= file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert {"catalog.sqlite3", "authority/authority.pem"} <= set(names)

    taken = bitdew("backup", file, "--json")
    assert (taken.code, taken.key) == (4, "backup.in-the-way")
    bitdew("token", "create", "--role", "worker", "--note", "after")
    running = bitdew("restore", file, "--force", "--json")
    assert (running.code, running.key) == (7, "storage.locked")
    assert service.close() == 0

    refused = bitdew("restore", file, "--json")
    assert (refused.code, refused.key) == (4, "backup.in-the-way")
    restored = bitdew("restore", file, "--force")
    assert restored.code == 0
    assert "is as it was at" in restored.out
    assert "replaced-" in restored.out

    again = daemon("serve", "--port", 0, "--name", "lab", home=home)
    assert again.ready["fingerprint"] == service.ready["fingerprint"]
    assert [one["note"] for one in bitdew("token", "ls", "--json").document["tokens"]] == ["before"]
    assert again.close() == 0


def test_a_lost_home_is_made_again_from_its_backup(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, "--name", "lab", home=home)
    assert bitdew("backup", tmp_path / "monday.tar", "--with-repository").code == 0
    assert service.close() == 0
    (home / "service").rename(tmp_path / "lost")
    restored = bitdew("restore", tmp_path / "monday.tar", "--json")
    assert (restored.code, restored.document["aside"], restored.document["repository"]) == (0, None, True)
    again = daemon("serve", "--port", 0, "--name", "lab", home=home)
    assert again.ready["fingerprint"] == service.ready["fingerprint"]
    assert again.close() == 0


@pytest.mark.parametrize("words", [["backup", "x.tar"], ["restore", "nowhere.tar"]])
def test_what_is_not_there_is_told(bitdew, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = bitdew(*words, "--json")
    told = json.loads(ended.out)["error"]
    assert (ended.code, told["key"]) in {(2, "input.invalid"), (3, "disk.file-missing")}
    assert str(tmp_path) in told["message"] + told["why"]
