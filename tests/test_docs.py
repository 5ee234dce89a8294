"""The documentation says what the code does: generated pages are current, links lead somewhere, commands exist."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import bitdew
from bitdew.core import attribute_options, attribute_text, attribute_toml, requirement
from bitdew.core.attribute_keys import KEYS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _generator()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", GENERATE.PAGES)
def test_generated_page_is_what_the_code_says_today(page: str) -> None:
    assert (ROOT / "docs/reference" / page).read_text() == GENERATE.page(page), "run: make docs-generate"


def test_the_manual_page_is_what_the_code_says_today() -> None:
    assert GENERATE.MAN.read_text() == GENERATE.man_page(), "run: make docs-generate"


def test_the_manual_page_is_installed_where_man_finds_it() -> None:
    installed = Path(sys.prefix) / "share/man/man1/bitdew.1"
    assert installed.read_text() == GENERATE.MAN.read_text(), "run: make -s .venv/.product"
    assert "man bitdew" in root_command().help


@pytest.mark.parametrize(
    ("checker", "accepted"),
    # It has no date: what is made from the code would get another one where nothing else changed.
    [(["mandoc", "-T", "lint", "-W", "warning"], ["missing date"]), (["groff", "-man", "-ww", "-z", "-Tutf8"], [])],
    ids=["mandoc", "groff"],
)
def test_the_manual_page_is_well_formed(checker: list[str], accepted: list[str]) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"there is no {checker[0]}")
    done = subprocess.run([*checker, GENERATE.MAN], capture_output=True, text=True, check=False)
    told = (done.stdout + done.stderr).splitlines()
    assert [line for line in told if not any(known in line for known in accepted)] == []


def test_the_manual_page_tells_of_every_command_and_option() -> None:
    text = GENERATE.MAN.read_text().replace("\\-", "-")
    waiting = [("bitdew", root_command())]
    while waiting:
        name, command = waiting.pop()
        waiting += [(f"{name} {word}", one) for word, one in getattr(command, "commands", {}).items() if not one.hidden]
        assert name == "bitdew" or f".SS {name}\n" in text
        section = text.partition(f".SS {name}\n")[2].partition("\n.SS ")[0]
        flags = [flag for one in command.params if not getattr(one, "hidden", False) for flag in one.opts]
        assert name == "bitdew" or [f for f in flags if f.startswith("--") and f != "--help" and f not in section] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    links += re.findall(r"(?:src|href)=\"([^\"#:]+)\"", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def commands_in(page: Path) -> list[list[str]]:
    """The lines of a page's blocks that call `bitdew`, as words, without what a pipe or a comment does after them."""
    found = []
    for block in re.findall(
        r"^```(?:text|console|sh|bash)?\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE
    ):
        prompted = [line for line in block.splitlines() if line.startswith("$ ")]
        for line in prompted or block.splitlines():  # with prompts, the other lines are what commands printed
            plain = line.strip().removeprefix("$ ").split(" | ")[0]
            if plain.startswith("bitdew ") and ":" not in plain.split()[0]:
                found.append(shlex.split(plain, comments=True)[1:])
    return found


@functools.cache
def root_command() -> Any:
    """`bitdew`, with all commands below it; it takes a moment to make."""
    from bitdew.cli.main import app

    return typer.main.get_command(app)


def commands_named_in(page: Path) -> list[list[str]]:
    """The calls of `bitdew` that a page names within its sentences and tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`(bitdew [^`|]+)`", text)  # with a bar it names several at once
    return [words for words in (shlex.split(span)[1:] for span in spans) if words and words[0].isidentifier()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_shown_to_readers_exist_with_their_options(page: Path) -> None:
    unknown = []
    for words in [*commands_in(page), *commands_named_in(page)]:
        command = root_command()
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        known = {flag for one in command.params for flag in [*one.opts, *one.secondary_opts]} | {"--help", "-h"}
        rest = rest[: rest.index("--")] if "--" in rest else rest  # what follows is another program's
        flags = {word.split("=")[0] for word in rest if word.startswith("-") and not re.fullmatch(r"-\d+", word)}
        if flags - known or (getattr(command, "commands", None) and rest and not flags):
            unknown.append(" ".join(words))
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_shown_to_readers_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make\s+([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert shown <= targets


def test_the_makefile_tells_of_every_target_that_people_type() -> None:
    text = (ROOT / "Makefile").read_text()
    told = set(re.findall(r"^#   make ([a-z-]+)", text, flags=re.MULTILINE))
    assert (
        {"demo", "test", "lint", "bench", "docs"} <= told <= set(re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE))
    )


@pytest.mark.parametrize(("module", "rules"), [(requirement, 5), (attribute_text, 4)], ids=["requires", "line"])
def test_the_grammar_of_a_language_is_the_one_that_its_parser_names(module: ModuleType, rules: int) -> None:
    grammar = re.findall(r"^\s+(\w+\s*:= .*)$", module.__doc__ or "", flags=re.MULTILINE)
    assert len(grammar) == rules
    page = (ROOT / "docs/attributes.md").read_text()
    assert [line for line in grammar if line not in page] == []


def test_every_attribute_key_is_explained() -> None:
    page = (ROOT / "docs/attributes.md").read_text()
    assert [key for key in KEYS if not re.search(rf"^{key}\n: ", page, flags=re.MULTILINE)] == []


def test_the_four_spellings_shown_to_readers_say_the_same() -> None:
    page = (ROOT / "docs/attributes.md").read_text().partition("## Four spellings")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"```([a-z]+)\n(.*?)```", page, flags=re.DOTALL))
    name, wanted = attribute_text.parse_line(shown["text"])
    scope: dict[str, Any] = {}
    exec(shown["python"], scope)  # noqa: S102  (it is our own page)
    assert scope["root"] == wanted
    assert attribute_toml.parse_toml(shown["toml"]) == {name: wanted}
    assert attribute_options.from_options(shlex.split(shown["sh"].replace("\\\n", ""))[4:]) == wanted


def test_the_examples_of_requirements_can_be_read() -> None:
    page = (ROOT / "docs/attributes.md").read_text()
    examples = page.partition("Some examples:")[2].split("```")[1].splitlines()[1:]
    assert len(examples) == 3
    assert [str(requirement.Requirement(example)) for example in examples] == examples


def test_no_page_fetches_anything_from_elsewhere() -> None:
    settings = (ROOT / "docs/conf.py").read_text()
    assert "intersphinx_mapping" not in settings
    assert "http" not in (ROOT / "docs/pictures/architecture.svg").read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_changelog_tells_of_this_version() -> None:
    assert f"[{bitdew.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_an_addition_touches_exists() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("## To add something")[2]
    named = re.findall(r"`((?:bitdew|catalog|scheduler|worker|examples|tests|docs|benchmarks)(?:/[\w./-]+)?)`", section)
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []
