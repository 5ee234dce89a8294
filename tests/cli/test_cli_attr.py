"""`bitdew attr`, `bitdew data` and `bitdew explain`, against a service and a worker that are processes of their own."""

import json
import shlex

import pytest
import typer

from bitdew.cli.main import app
from bitdew.cli.wishes import OPTIONS
from bitdew.core.attribute_keys import KEYS
from bitdew.core.attribute_options import from_options
from bitdew.core.attribute_text import parse_line
from bitdew.core.attribute_toml import parse_toml

EVERY_WISH = [
    *("--replica", "3", "--ft", "--lifetime", "7d", "--requires", "cpus >= 1, site in (orsay, lyon)"),
    *("--spread", "site", "--protocol", "http", "--distrib", "2", "--priority", "5"),
]
WISHES = {
    "replica": 3,
    "ft": True,
    "lifetime": "7d",
    "requires": "cpus >= 1, site in (orsay, lyon)",
    "spread": "site",
    "protocol": "http",
    "distrib": 2,
    "priority": 5,
}

LINE = (
    'attr root = { replica = 3, ft = true, lifetime = 7d, requires = "cpus >= 1, site in (orsay, lyon)", '
    "spread = site, protocol = http, distrib = 2, priority = 5 }"
)


@pytest.fixture
def service(daemon, home):
    return daemon("serve", "--port", 0, home=home)


def test_every_key_of_an_attribute_is_an_option_of_every_command_that_takes_one():
    assert list(OPTIONS) == list(KEYS)
    groups = typer.main.get_command(app).commands
    for group, name in (("attr", "set"), ("data", "put"), ("data", "attr"), ("disk", "add")):
        options = {flag for one in groups[group].commands[name].params for flag in one.opts}
        assert {f"--{key}" for key in KEYS} <= options
        assert ("--attr" in options) == (group != "attr")


# Attributes -----------------------------------------------------------------------------------------------------------


def test_an_attribute_is_the_same_whichever_way_it_is_said(bitdew, service, tmp_path):
    set_by = {
        "options": ["root", *EVERY_WISH],
        "line": [LINE],
        "file": ["--file", tmp_path / "wishes.toml"],
    }
    (tmp_path / "wishes.toml").write_text(
        '[attr.root]\nreplica = 3\nft = true\nlifetime = "7d"\nrequires = "cpus >= 1, site in (orsay, lyon)"\n'
        'spread = "site"\nprotocol = "http"\ndistrib = 2\npriority = 5\n'
    )
    for number, arguments in enumerate(set_by.values(), 1):
        (view,) = bitdew("attr", "set", *arguments, "--json").document["attributes"]
        assert (view["name"], view["wishes"], view["version"]) == ("root", WISHES, number)
    assert parse_line(bitdew("attr", "show", "root", "--as", "line").out.strip())[1].to_dict() == WISHES
    assert parse_toml(bitdew("attr", "show", "root", "--as", "toml").out)["root"].to_dict() == WISHES
    assert from_options(shlex.split(bitdew("attr", "show", "root", "--as", "options").out)).to_dict() == WISHES
    assert json.loads(bitdew("attr", "show", "root", "--as", "json").out) == WISHES
    shown = bitdew("attr", "show", "root", "--json").document
    assert (shown["wishes"], shown["line"][:14], shown["data"]) == (WISHES, "attr root = { ", 0)


def test_attributes_are_listed_changed_and_removed(bitdew, service):
    assert "There is no attribute" in bitdew("attr", "ls").out
    assert bitdew("attr", "set", "root", "--replica", "3").out == "root is defined: replica = 3\n"
    assert bitdew("attr", "set", "root", "--replica", "2", "--new", "--json").key == "attribute.name-taken"
    assert bitdew("attr", "set", "root").out == "root is changed: none: one copy\n"
    assert "root" in bitdew("attr", "ls").out
    assert [one["name"] for one in bitdew("attr", "ls", "--json").document["attributes"]] == ["root"]
    assert "version 2" in bitdew("attr", "show", "root").out
    assert bitdew("attr", "rm", "root").code == 0
    ended = bitdew("attr", "show", "root", "--json")
    assert (ended.code, ended.key) == (3, "attribute.not-found")


def test_a_file_may_define_several_and_the_second_may_follow_the_first(bitdew, service, tmp_path):
    (tmp_path / "wishes.toml").write_text('[attr.base]\nreplica = 2\n\n[attr.near]\naffinity = "attr:base"\n')
    ended = bitdew("attr", "set", "--file", tmp_path / "wishes.toml")
    assert ended.out == "base is defined: replica = 2\nnear is defined: affinity = attr:base\n"
    assert "the attribute" in bitdew("attr", "show", "near").out
    ended = bitdew("attr", "set", "base", "--affinity", "attr:near", "--json")
    assert (ended.code, ended.key) == (4, "attribute.circular")
    assert ended.document["error"]["why"] == "attr:base -> attr:near -> attr:base"


@pytest.mark.parametrize(
    ("arguments", "key", "told"),
    [
        ([], "input.invalid", "--file"),
        (["root", "--file", "x.toml"], "input.invalid", "--file"),
        (["attr root = { replica = 3 }", "--ft"], "input.invalid", "--file"),
        (["attr root = { replika = 3 }"], "attribute.invalid", "replica"),
        (["a/b", "--ft"], "input.invalid", ""),
        (["root", "--lifetime", "7days"], "attribute.invalid", "7d"),
        (["root", "--protocol", "bitorrent"], "attribute.invalid", "bittorrent"),
        (["root", "--replica", "two"], "attribute.invalid", "Correct"),
        (["root", "--replica", "3.0"], "attribute.invalid", "3?"),
        (["root", "--distrib", "unlimited"], "attribute.invalid", "-1?"),
        (["root", "--priority", "5000"], "attribute.invalid", "1000?"),
        (["root", "--requires", "site inn (orsay)"], "attribute.requires", "'in'?"),
        (["--file", "/nowhere/wishes.toml"], "disk.file-missing", "path"),
        (["--file", "/"], "disk.file-unreadable", ""),
    ],
)
def test_what_is_wrong_with_an_attribute_is_told_before_any_service_is_asked(bitdew, arguments, key, told):
    ended = bitdew("attr", "set", *arguments, "--json")
    assert ended.key == key
    assert told in ended.document["error"]["do"]


def test_an_attribute_is_named_or_wished_and_not_both(bitdew, tmp_path):
    for command in (
        ["data", "put", tmp_path, "--name", "n"],
        ["data", "attr", "n"],
        ["disk", "add", "f", "--name", "n"],
    ):
        ended = bitdew(*command, "--attr", "root", "--replica", "2", "--json")
        assert (ended.code, ended.key) == (2, "input.invalid")
        assert "--replica" in ended.document["error"]["why"]


# Data -----------------------------------------------------------------------------------------------------------------


def test_a_datum_is_put_placed_explained_changed_and_removed(bitdew, daemon, service, home, tmp_path):
    token = bitdew("token", "create", "--role", "worker", "--json").document["token"]
    joined = ["--name", "pc-1", "--home", tmp_path / "pc-1", "--listen", "127.0.0.1", "--label", "site=orsay"]
    daemon("worker", "join", service.ready["url"], "--token", token, *joined, home=home)
    file = tmp_path / "inputs.bin"
    file.write_bytes(b"0123456789" * 50_000)
    bitdew("attr", "set", "near", "--requires", "site=orsay", "--lifetime", "7d")

    added = bitdew("data", "put", file, "--name", "inputs", "--attr", "near", "--wait", "--json").document
    assert (added["held"], added["attribute_name"], added["is_disk"]) == (1, "near", False)
    assert [one["host_name"] for one in added["placements"]] == ["pc-1"]

    explained = bitdew("explain", "inputs", "--json").document
    assert [(one["host_name"], one["verdict"]) for one in explained["hosts"]] == [("pc-1", "holds")]
    assert (explained["wanted"], explained["held"], explained["missing"]) == (1, 1, 0)
    for words, text in {
        ("data", "ls"): "near",
        ("data", "show", "inputs"): "requires =",
        ("data", "where", "inputs"): "pc-1",
        ("explain", "inputs"): "Attribute near",
        ("attr", "ls"): "near",
    }.items():
        ended = bitdew(*words)
        assert (ended.code, ended.err) == (0, "")
        assert text in ended.out

    changed = bitdew("data", "attr", "inputs", "--replica", "2")
    assert changed.out == "inputs has these wishes: replica = 2\n"
    explained = bitdew("explain", "inputs", "--json").document
    assert (explained["wanted"], explained["missing"]) == (2, 1)
    assert "2 wanted, 1 held" in bitdew("explain", "inputs").out
    assert bitdew("attr", "rm", "near").code == 0

    nothing = bitdew("data", "attr", "inputs", "--json")
    assert (nothing.code, nothing.key) == (2, "input.invalid")
    assert bitdew("data", "show", "inputs", "--json").document["attribute"] == {"replica": 2}
    assert bitdew("data", "rm", "inputs").code == 0
    assert "operator removed it" in bitdew("data", "show", "inputs").out
    where = bitdew("data", "where", "inputs").out
    assert where.startswith("inputs: its life ended at ")
    assert bitdew("explain", "inputs").out.startswith("inputs: its life ended at ")
    assert bitdew("data", "show", "inputs", "--json").document["alive"] is False
    ended = bitdew("data", "rm", "inputs", "--json")
    assert (ended.code, ended.key) == (3, "data.not-found")


def test_a_long_list_has_pages(bitdew, service, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    for name in ("a-1", "a-2", "a-3", "b-1"):
        assert bitdew("data", "put", tmp_path / "f", "--name", name, "--replica", "0").code == 0
    page = bitdew("data", "ls", "--prefix", "a-", "--limit", "2", "--json").document
    assert ([one["name"] for one in page["data"]], page["next"]) == (["a-1", "a-2"], "a-2")
    shown = bitdew("data", "ls", "--prefix", "a-", "--limit", "2").out
    assert "bitdew data ls --after a-2 --prefix a-" in shown
    rest = bitdew("data", "ls", "--prefix", "a-", "--after", "a-2", "--json").document
    assert ([one["name"] for one in rest["data"]], rest["next"]) == (["a-3"], None)
    assert "There is no such datum" in bitdew("data", "ls", "--prefix", "c").out
