"""What reaches a terminal is text: names and reasons of other machines can't take it over."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import stamina
import structlog

from bitdew.cli import demo, serve
from bitdew.cli.documents import Removed
from bitdew.cli.output import Output, heading
from bitdew.cli.running import configure_log
from bitdew.core.errors import error

EVIL = "a\x1b[2Jb\x07c\x9b31m"


def test_texts_of_a_result_carry_no_control_sequences(capsys):
    output = Output(as_json=False)
    output.document({}, lambda: [EVIL, heading(EVIL)])
    output.remark(EVIL)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "b" in text
        assert not set("\x1b\x07\x9b") & set(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_json_on_a_terminal_is_ascii_alone(capsys, monkeypatch, terminal):
    output = Output(as_json=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    output.line(Removed(removed=f"{EVIL} Orsay é"))
    told = capsys.readouterr().out
    assert json.loads(told) == {"schema": "Removed/1", "removed": f"{EVIL} Orsay é"}
    assert told.isascii() is terminal


def test_retries_are_not_logged_in_words_of_a_library(capsys):
    configure_log(as_json=False)
    attempts = []

    @stamina.retry(on=OSError, attempts=2, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0)
    def work():
        attempts.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    assert len(attempts) == 2
    assert capsys.readouterr() == ("", "")


def fail(fault):
    raise fault


def fail_and_log(log, fault):
    try:
        fail(fault)
    except Exception:
        log.exception("planning failed", data=3)
        raise


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_of_ours_is_logged_in_its_own_words_and_a_defect_with_its_traceback(capsys, as_json):
    configure_log(as_json=as_json)
    log = structlog.get_logger("test")
    for fault in (error("storage.failed", "The database can't do this", why="it is away"), KeyError("x")):
        with pytest.raises(type(fault)):
            fail_and_log(log, fault)
    log.error("a run failed", exc_info=error("storage.full", "There is no room"))
    told = capsys.readouterr().err
    assert told.count("Traceback") == told.count("KeyError: 'x'") == 1
    for words in ("planning failed", "storage.failed", "The database can't do this", "it is away", "There is no room"):
        assert words in told
    if as_json:
        lines = [json.loads(line) for line in told.splitlines()]
        assert [line.get("key") for line in lines] == ["storage.failed", None, "storage.full"]
        assert all(line["do"] for line in lines if "key" in line)


@pytest.mark.parametrize(
    ("option", "command"),
    [("--json", "run"), ("--stop-with-parent", "join"), ("--home=x", "run"), ("--home=x", "join")],
)
def test_what_stands_before_join_or_run_is_refused_instead_of_ignored(bitdew, option, command):
    ended = bitdew("worker", option, command, *(["https://localhost", "--token=x"] if command == "join" else []))
    assert ended.code == 2
    assert f"behind it: bitdew worker {command} {option.partition('=')[0]}" in ended.out + ended.err


def test_a_folder_that_the_demo_can_not_be_in_is_an_error_of_storage(bitdew, monkeypatch, tmp_path):
    def refuse(**_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(demo.tempfile, "mkdtemp", refuse)
    ended = bitdew("demo", "--dir", tmp_path, "--json")
    assert (ended.code, ended.key) == (7, "storage.failed")
    assert "--dir" in ended.document["error"]["do"]


@pytest.mark.parametrize(("host", "told"), [("::", True), ("0:0::0", True), ("127.0.0.1", False), ("pc.lan", False)])
def test_a_service_that_listens_everywhere_says_what_to_give_to_others(capsys, host, told):
    service = SimpleNamespace(
        url=f"https://{host}:8440",
        swarm=SimpleNamespace(endpoint=f"{host}:8441"),
        settings=SimpleNamespace(host=host, name="lab", home="/srv"),
    )
    operator = SimpleNamespace(fingerprint="f", folder="/home/op")
    serve._announce(service, operator, "default", Output(as_json=False))
    assert ("--url https://ADDRESS:8440" in capsys.readouterr().out) is told


STORY_THAT_FAILS = """
import sys
from bitdew.cli import demo_run, main
from bitdew.core.errors import error

async def fail(self):
    raise ExceptionGroup("", [error(sys.argv[1], "It went wrong")])

demo_run.Demo.run = fail
main.main(["demo", "--json", "--dir", sys.argv[2]])
"""


@pytest.mark.parametrize(("key", "kept"), [("internal", 1), ("swarm.stalled", 0)])
def test_what_a_defect_left_is_kept(tmp_path, key, kept):
    # A process of its own: the demo adopts orphans for as long as its process lives.
    command = [sys.executable, "-P", "-c", STORY_THAT_FAILS, key, tmp_path]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert told["error"]["key"] == key
    folders = [str(path) for path in tmp_path.glob("bitdew-demo-*")]
    assert len(folders) == kept
    assert told["folder"] == (folders[0] if kept else None)
