"""What every command owes its reader: a description, an example that can be read, `--json`, a fast answer."""

import re
import shlex
import subprocess
import sys

import pytest
import typer

from bitdew.cli.main import app


def commands(command, words=()):
    """Every command below `command`, with the words that call it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
    for name, one in (below or {}).items():
        yield from commands(one, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def flags(command):
    return {flag for one in command.params for flag in [*one.opts, *one.secondary_opts]}


def test_every_group_is_there():
    groups = {
        "serve",
        "demo",
        "explain",
        "health",
        "top",
        "backup",
        "restore",
        "token",
        "user",
        "profile",
        "worker",
        "attr",
        "data",
        "disk",
        "vm",
        "job",
        "host",
    }
    assert {words[0] for words in COMMANDS} == groups


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_tells_what_it_does_and_takes_json(words, bitdew):
    command = COMMANDS[words]
    assert "--json" in flags(command)
    assert all(one.help for one in command.params if one.name != "help")
    ended = bitdew(*words, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: bitdew {' '.join(words)}")
    assert "Example: bitdew" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_example_of_a_command_is_one_of_its_own_with_options_that_exist(words):
    command = COMMANDS[words]
    example = shlex.split(command.epilog.removeprefix("Example: "))
    assert tuple(example[: len(words) + 1]) == ("bitdew", *words)
    own = example[: example.index("--")] if "--" in example else example  # what follows is another program's
    assert {word for word in own if word.startswith("--")} <= flags(command)


def test_help_is_shown_without_loading_what_only_commands_need():
    program = (
        "import sys; from bitdew.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'libtorrent', 'sqlalchemy', 'cryptography', 'pydantic'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    assert "bitdew demo" in done.stdout


def test_the_version_is_the_packages(bitdew):
    import importlib.metadata

    assert bitdew("--version").out == f"bitdew {importlib.metadata.version('bitdew')}\n"


def test_without_a_command_the_help_is_shown(bitdew):
    assert "Commands:" in bitdew().err + bitdew().out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["datta"], "data"),
        (["data", "lss"], "ls"),
        (["worker", "bridge", "webhok"], "webhook"),
        (["data", "ls", "--lim1t", "3"], "--limit"),
        (["vm", "deploy", "d", "--requirs", "x"], "--requires"),
    ],
)
def test_a_mistyped_word_is_told_with_the_one_that_was_meant(bitdew, words, meant):
    ended = bitdew(*words, "--json")
    assert (ended.code, ended.key) == (2, "input.invalid")
    assert re.search(rf"\b{meant.strip('-')}\b", ended.document["error"]["message"])


def test_what_follows_two_dashes_is_not_for_us(bitdew):
    assert bitdew("job", "submit", "--", "program", "--json").err.startswith("Error: No profile")
