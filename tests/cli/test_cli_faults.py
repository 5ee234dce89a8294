"""Every failure of a command is one clear message, or one JSON object, and the exit code of its kind."""

import pytest

from bitdew.cli import disk as disk_commands
from bitdew.core.errors import ERRORS, error


def failing(fault):
    def ask(*_):
        raise fault

    return ask


@pytest.mark.parametrize("key", sorted(ERRORS))
def test_an_error_becomes_its_own_exit_code_and_message(bitdew, monkeypatch, key):
    fault = error(key, "It went wrong", why="a wheel came off", size=3)
    monkeypatch.setattr(disk_commands, "ask", failing(fault))
    ended = bitdew("disk", "ls")
    assert ended.code == ERRORS[key].exit_code
    assert ended.out == ""
    assert ended.err.splitlines() == [
        "Error: It went wrong",
        "  Why: a wheel came off",
        f"  Do:  {ERRORS[key].do}",
        f"  Key: {key}",
    ]
    ended = bitdew("disk", "ls", "--json")
    assert ended.code == ERRORS[key].exit_code
    assert ended.err == ""
    assert ended.document == {
        "error": {
            "key": key,
            "message": "It went wrong",
            "why": "a wheel came off",
            "do": ERRORS[key].do,
            "fields": {"size": 3},
        }
    }


def test_a_defect_is_told_without_a_traceback_which_is_in_a_file(bitdew, monkeypatch, tmp_path):
    monkeypatch.setattr(disk_commands, "ask", failing(ZeroDivisionError("seven")))
    ended = bitdew("disk", "ls", "--json")
    assert (ended.code, ended.key) == (1, "internal")
    assert "Traceback" not in ended.out + ended.err
    log = tmp_path / "home" / "bitdew-defects.log"
    assert ended.document["error"]["fields"]["log"] == str(log)
    assert "ZeroDivisionError: seven" in log.read_text()


def test_a_defect_is_in_the_file_whatever_the_words_were(bitdew, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["bitdew", "disk", "show", "a\udcff"])
    monkeypatch.setattr(disk_commands, "ask", failing(ZeroDivisionError("seven")))
    assert bitdew("disk", "ls").code == 1
    assert "a\\udcff" in (tmp_path / "home" / "bitdew-defects.log").read_text()


def test_a_word_that_is_not_utf_8_is_no_defect(bitdew, monkeypatch):
    fault = UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed")
    monkeypatch.setattr(disk_commands, "ask", failing(fault))
    ended = bitdew("disk", "ls", "--url", "a\udcff")
    assert ended.code == 2
    assert ended.err.splitlines()[0] == "Error: a\\udcff is not UTF-8"
    assert bitdew("disk", "ls").code == 1


def test_a_defect_that_can_not_be_written_at_home_is_written_elsewhere(bitdew, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file where the folder should be")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(disk_commands, "ask", failing(ZeroDivisionError("seven")))
    ended = bitdew("disk", "ls")
    assert str(tmp_path / "tmp" / "bitdew-defects.log") in ended.err
    assert (tmp_path / "tmp" / "bitdew-defects.log").exists()


def test_a_token_on_the_command_line_stays_out_of_the_log(bitdew, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["bitdew", "user", "join", "--token", "bitdew-join-secret"])
    monkeypatch.setattr(disk_commands, "ask", failing(ZeroDivisionError("seven")))
    bitdew("disk", "ls")
    assert "secret" not in (tmp_path / "home" / "bitdew-defects.log").read_text()


def test_ctrl_c_ends_with_130(bitdew, monkeypatch):
    monkeypatch.setattr(disk_commands, "ask", failing(KeyboardInterrupt()))
    assert bitdew("disk", "ls").code == 130
    assert bitdew("disk", "ls", "--json").key == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command"),
        (["disk", "add"], "Missing"),
        (["disk", "ls", "--nonsense"], "nonsense"),
        (["disk", "add", "f", "--name", "n", "--replica", "many"], "replica"),
        (["token", "create", "--role", "king"], "king"),
        (["token", "create", "--role", "user", "--expires", "soon"], "duration"),
        (["vm", "deploy", "d", "--memory", "big"], "size"),
        (["disk", "add", "f", "--name", "n", "--requires", "a b"], "requirement"),
        (["disk", "add", "f", "--name", "n", "--replica", "-2"], "replica"),
        (["serve", "--swarm", "here"], "address"),
        (["serve", "--port", "70000"], "65535"),
        (["demo", "--replicas", "9"], "--replicas 9"),
        (["demo", "--workers", "0"], "--workers 0"),
        (["demo", "--size", "1KB"], "too small"),
        (["worker", "join", "https://x", "--token", "t", "--label", "site"], "label"),
    ],
)
def test_wrong_usage_is_told_in_one_message_with_exit_code_2(bitdew, arguments, told):
    ended = bitdew(*arguments)
    assert ended.code == 2
    assert told in ended.err
    assert "Key: " in ended.err
    assert ended.out == ""
    ended = bitdew(*arguments, "--json")
    assert ended.code == 2
    assert told in ended.document["error"]["message"] + ended.document["error"]["why"]
    assert ended.document["error"]["do"]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["worker", "ls"], ["bitdew host ls"]),
        (["host", "join"], ["bitdew worker join"]),
        (["explain", "ls"], []),
        (["worker", "join", "ls"], []),
        (["nonsense"], []),
    ],
)
def test_a_command_of_another_noun_is_named(bitdew, arguments, meant):
    told = bitdew(*arguments).err
    assert [line for line in meant if line not in told] == []
    assert ("There is" in told) == bool(meant)


def test_a_verb_without_its_noun_is_told_which_nouns_have_it(bitdew):
    told = bitdew("ls").err
    for noun in ("data", "disk", "host", "job", "vm"):
        assert f"bitdew {noun} ls" in told


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["disk", "ls"], "profile.missing"),
        (["user", "show"], "profile.missing"),
        (["worker"], "profile.missing"),
        (["worker", "run"], "profile.missing"),
        (["demo", "--disk", "/nowhere/disk.raw"], "disk.file-missing"),
        (["demo", "--size", "1000TB"], "storage.full"),
        (["user", "join", "https://127.0.0.1:1", "--token", "nonsense"], "token.invalid"),
        (["worker", "join", "https://127.0.0.1:1", "--token", "nonsense"], "token.invalid"),
    ],
)
def test_what_can_not_be_done_here_has_its_key(bitdew, arguments, key):
    ended = bitdew(*arguments, "--json")
    assert (ended.code, ended.key) == (ERRORS[key].exit_code, key)


def test_control_sequences_of_others_never_reach_the_terminal(bitdew, monkeypatch):
    fault = error("data.not-found", "evil \x1b]0;title\x07 \x1b[2J name")
    monkeypatch.setattr(disk_commands, "ask", failing(fault))
    assert "\x1b" not in bitdew("disk", "ls").err
