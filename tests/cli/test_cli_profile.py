"""Profiles: which is the current one, and why."""

import json

import pytest

from bitdew.client.profiles import current_profile, profile_folder, use_profile


@pytest.fixture
def joined(bitdew, daemon, home):
    """Three profiles of one service: `default`, the operator's, and `lab` and `ada`."""
    service = daemon("serve", "--port", 0, home=home)
    for name in ("lab", "ada"):
        token = bitdew("token", "create", "--role", "user", "--json").document["token"]
        bitdew("user", "join", service.ready["url"], "--token", token, "--name", name, "--profile", name)
    return service


def current(ended):
    return [one["profile"] for one in ended.document["profiles"] if one["current"]]


def test_the_current_profile_is_the_options_then_the_environments_then_the_one_in_use(bitdew, joined, monkeypatch):
    listed = bitdew("profile", "ls", "--json")
    assert [one["profile"] for one in listed.document["profiles"]] == ["ada", "default", "lab"]
    assert (current(listed), listed.document["chosen_by"]) == (["default"], "default")

    assert bitdew("profile", "use", "lab").code == 0
    listed = bitdew("profile", "ls", "--json")
    assert (current(listed), listed.document["chosen_by"]) == (["lab"], "file")
    assert bitdew("user", "show", "--json").document["name"] == "lab"
    assert bitdew("token", "ls", "--json").key == "certificate.role"  # the commands ask by it too

    monkeypatch.setenv("BITDEW_PROFILE", "ada")
    listed = bitdew("profile", "ls", "--json")
    assert (current(listed), listed.document["chosen_by"]) == (["ada"], "environment")
    assert bitdew("user", "show", "--json").document["name"] == "ada"
    used = bitdew("profile", "use", "lab")
    assert "While BITDEW_PROFILE is set, it is ada all the same." in used.err

    for spelt in (["--profile", "default"], ["--profile=default"]):  # also where it says what nothing at all would
        assert bitdew("user", "show", *spelt, "--json").document["role"] == "operator"
    assert bitdew("token", "ls", "--profile", "default").code == 0


def test_the_profile_in_use_is_the_one_of_programs_too(bitdew, joined):
    bitdew("profile", "use", "ada")
    assert current_profile() == ("ada", "file")
    shown = bitdew("profile", "show", "--json").document
    assert (shown["profile"], shown["name"], shown["current"]) == ("ada", "ada", True)
    assert bitdew("profile", "show", "lab", "--json").document["current"] is False


def test_a_profile_is_removed_only_when_that_was_meant(bitdew, joined):
    bitdew("profile", "use", "lab")
    kept = bitdew("profile", "rm", "lab", "--json")
    assert (kept.code, kept.key) == (2, "input.invalid")
    assert "--yes" in kept.document["error"]["do"]
    assert profile_folder("lab").exists()
    removed = bitdew("profile", "rm", "lab", "--yes", "--json")
    assert (removed.code, removed.document["removed"]) == (0, "lab")
    assert not profile_folder("lab").exists()
    assert current_profile() == ("default", "default")
    assert (bitdew("profile", "rm", "lab", "--yes", "--json").key) == "profile.missing"


@pytest.mark.parametrize("command", ["use", "show", "rm"])
def test_a_profile_that_is_not_there_is_told_with_those_that_are(bitdew, joined, command):
    ended = bitdew("profile", command, "nobody", "--json")
    assert (ended.code, ended.key) == (5, "profile.missing")
    assert "ada, default, lab" in ended.document["error"]["why"]
    near = bitdew("profile", "use" if command == "show" else command, "lab2", "--json").document["error"]
    assert (near["message"], near["do"]) == ("There is no profile 'lab2'", "Did you mean lab?")
    assert bitdew("profile", command, "../default", "--json").key == "input.invalid"


def test_a_damaged_profile_does_not_hide_the_others(bitdew, joined):
    (profile_folder("ada") / "service.json").write_text("{")
    listed = bitdew("profile", "ls", "--json")
    damage = {one["profile"]: bool(one["damage"]) for one in listed.document["profiles"]}
    assert damage == {"ada": True, "default": False, "lab": False}
    assert "damaged" in bitdew("profile", "ls").out


@pytest.mark.parametrize("content", [b"", b"../..\n", b"\xff\xfe", b"x" * 10_000])
def test_a_choice_that_can_not_be_read_is_none(bitdew, home, content):
    (home / "current-profile").write_bytes(content)
    listed = json.loads(bitdew("profile", "ls", "--json").out)
    assert (listed["current"], listed["chosen_by"], listed["profiles"]) == ("default", "default", [])
    assert "bitdew user join" in bitdew("profile", "ls").out


def test_a_choice_whose_profile_went_is_told(bitdew, joined):
    use_profile("ada")
    (profile_folder("ada") / "service.json").unlink()
    assert "is not there. Choose: bitdew profile use NAME" in bitdew("profile", "ls").out
    assert bitdew("data", "ls", "--json").key == "profile.missing"
