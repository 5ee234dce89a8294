"""What every command owes scripts: wrong usage is told by a key and exit code 2, and pipes get plain text."""

import json
import os
import pty
import select
import subprocess
import sys
from enum import Enum
from typing import ClassVar, get_args

import pytest
import typer
from pydantic import BaseModel

from bitdew.cli import documents, faults, worker_documents
from bitdew.cli.main import app
from bitdew.cli.output import Output, json_line, schema_of
from bitdew.cli.shapes import SHAPES, models
from bitdew.core.errors import ERRORS, EXIT_CODES, error

from .test_cli_help import COMMANDS

ESCAPE = "\x1b"


def kinds(option):
    """The types that an option's value may have."""
    annotation = option.type_descriptor.annotation
    return [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]


def is_checked(option):
    """Whether typer itself refuses a word that is no number, or none of the choices."""
    checked = [
        kind for kind in kinds(option) if kind in {int, float} or (isinstance(kind, type) and issubclass(kind, Enum))
    ]
    return option.param_type_name == "option" and not option.is_flag and bool(checked)


CHECKED = [
    (*words, next(flag for flag in option.opts if flag.startswith("--")))
    for words, command in COMMANDS.items()
    for option in command.params
    if is_checked(option)
]


def refused(ended):
    """A refusal as programs get it: one document, and nothing else anywhere."""
    assert ended.code == 2
    assert ended.key == "input.invalid"
    assert ended.err == ""
    assert "Traceback" not in ended.out
    assert json.loads(ended.out)["schema"] == "ErrorReply/1"
    return ended.document["error"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_that_is_none_is_refused(words, bitdew):
    told = refused(bitdew(*words, "--no-such-option-of-any", "--json"))
    assert f"bitdew {' '.join(words)} --help" in told["do"]
    ended = bitdew(*words, "--no-such-option-of-any")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith("  Key: input.invalid\n")
    assert ESCAPE not in ended.err


@pytest.mark.parametrize("words", CHECKED, ids=" ".join)
def test_a_value_that_an_option_does_not_take_is_refused(words, bitdew):
    *command, option = words
    told = refused(bitdew(*command, option, "no-such-value", "--json"))
    assert option in told["message"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_required_is_asked_for(words, bitdew):
    command = COMMANDS[words]
    if any(one.required for one in command.params):
        told = refused(bitdew(*words, "--json"))
        assert "Missing" in told["message"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_short_help_has_an_example_and_no_colours(words, bitdew):
    ended = bitdew(*words, "-h")
    assert (ended.code, ended.err) == (0, "")
    assert f"Example: bitdew {' '.join(words)}" in ended.out
    assert ESCAPE not in ended.out


@pytest.mark.parametrize(
    ("words", "code", "key"),
    [
        (["data", "put", "x", "--replica", "3", "--lifetime", "soon"], 2, "input.invalid"),
        (["job", "submit", "--cpu-time", "soon", "--", "true"], 2, "input.invalid"),
        (["worker", "limits", "--upload", "fast"], 2, "input.invalid"),
        (["worker", "pause", "--for", "long"], 2, "input.invalid"),
        (["host", "drain", "pc-1", "--timeout", "soon"], 2, "input.invalid"),
        (["token", "create", "--role", "worker", "--expires", "never"], 2, "input.invalid"),
        (["disk", "make", "x", "--size", "huge"], 2, "input.invalid"),
        (["user", "show", "--profile", "nobody"], 5, "profile.missing"),
        (["user", "join", "https://127.0.0.1:1", "--token", "bitdew-join-x"], 5, "token.invalid"),
        (["restore", "/no/such/file"], 3, "disk.file-missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_typer_does_not_know_is_refused_with_a_key_of_ours(words, code, key, bitdew):
    before, dashes, behind = words, [], []
    if "--" in words:
        at = words.index("--")
        before, dashes, behind = words[:at], ["--"], words[at + 1 :]
    ended = bitdew(*before, "--json", *dashes, *behind)
    assert (ended.code, ended.key, ended.err) == (code, key, "")
    assert ended.code == ERRORS[key].exit_code


# Exit codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ERRORS)
def test_an_error_ends_a_command_with_the_code_of_its_kind_and_says_its_key(key, capsys):
    assert ERRORS[key].exit_code in EXIT_CODES
    assert faults.report(error(key, "It went wrong"), as_json=True) == ERRORS[key].exit_code
    assert json.loads(capsys.readouterr().out)["error"]["key"] == key
    assert faults.report(error(key, "It went wrong"), as_json=False) == ERRORS[key].exit_code
    assert f"Key: {key}\n" in capsys.readouterr().err


def test_every_exit_code_is_some_errors_or_success():
    assert {kind.exit_code for kind in ERRORS.values()} | {0} == set(EXIT_CODES)


# Shapes ---------------------------------------------------------------------------------------------------------------


def test_the_shapes_of_every_command_are_told_and_no_other():
    assert set(SHAPES) == {" ".join(words) for words in COMMANDS}
    told = {name for names in SHAPES.values() for name in names}
    for module in (documents, worker_documents):
        own = {
            name
            for name, one in vars(module).items()
            if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == module.__name__
        }
        parts = {"ResultFetched", "ProfileLine", "KnownSharing", "SwarmPicture"}  # they stand in others
        assert own - parts <= told
    assert {schema_of(one).rpartition("/")[0] for one in models().values()} == told


def test_a_document_says_its_shape_first():
    assert json_line(documents.Removed(removed="x")) == '{"schema": "Removed/1", "removed": "x"}'

    class Newer(documents.Removed):
        SHAPE: ClassVar = 2

    assert schema_of(Newer) == "Newer/2"


def test_no_shape_has_a_key_of_its_own_that_is_called_schema():
    assert [name for name, one in models().items() if "schema" in one.model_fields] == []


# Colours --------------------------------------------------------------------------------------------------------------


def on_a_terminal(arguments, home, **variables):
    """What a terminal gets of a command."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "BITDEW_HOME": str(home)} | variables
    command = [sys.executable, "-P", "-m", "bitdew", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        found = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                some = os.read(ours, 4096)
            except OSError:  # Linux says so when nobody has the other end any more
                break
            if not some:
                break
            found += some
        process.wait(60)
    os.close(ours)
    return found.decode()


def test_a_terminal_has_styles_unless_it_asks_for_none(tmp_path):
    words = ["worker", "share", "known"]
    assert ESCAPE in on_a_terminal(words, tmp_path, NO_COLOR="")
    plain = on_a_terminal(words, tmp_path, NO_COLOR="1")
    assert ESCAPE not in plain
    assert "NAME" in plain


def test_a_pipe_gets_no_escape_sequences_even_where_colours_are_wished_for(tmp_path):
    environment = os.environ | {"TERM": "xterm-256color", "BITDEW_HOME": str(tmp_path), "CLICOLOR": "1"}
    command = [sys.executable, "-P", "-m", "bitdew", "worker", "share", "known"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert ESCAPE not in done.stdout + done.stderr
    assert "NAME" in done.stdout


def test_documents_have_no_escape_sequences(capsys):
    Output(as_json=True).line(documents.Removed(removed="a\x1b[31mb"))
    assert ESCAPE not in capsys.readouterr().out


def test_the_commands_are_those_of_the_application():
    assert len(COMMANDS) > 80
    assert typer.main.get_command(app).name == "bitdew"
