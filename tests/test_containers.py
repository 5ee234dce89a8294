"""The container file and the compose file: what they promise, as far as it can be seen without a container engine.

What they start is started by `tests/field/test_containers_run.py`, by the same words; nobody builds the image here.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from bitdew.cli.main import app

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "examples/container/compose.yaml").read_text())
SERVICE, DATABASE = COMPOSE["services"]["service"], COMPOSE["services"]["database"]


def instructions() -> list[tuple[str, str]]:
    """The container file's, each with its words, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "examples/container/Containerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


INSTRUCTIONS = instructions()
LAST_STAGE = INSTRUCTIONS[max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def words_of(name: str) -> list[str]:
    """The words of an instruction in its exec form: without a shell between, so that signals arrive."""
    (rest,) = [rest for found, rest in LAST_STAGE if found == name]
    words = json.loads(rest[rest.index("[") :])
    assert all(isinstance(word, str) for word in words)
    return list(words)


def require_command(words: list[str]) -> None:
    """Fail, if `bitdew` does not take these words."""
    assert words[0] == "bitdew"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    flags = {flag for one in command.params for flag in one.opts}
    assert {word for word in rest if word.startswith("--")} <= flags


def test_the_container_starts_what_there_is() -> None:
    require_command([*words_of("ENTRYPOINT"), *words_of("CMD")])
    require_command(words_of("HEALTHCHECK"))
    require_command(["bitdew", *SERVICE["command"]])
    assert SERVICE["healthcheck"]["test"] == ["CMD", *words_of("HEALTHCHECK")]


def test_the_service_is_nobody_and_can_write_to_its_volume_alone() -> None:
    users = [rest for name, rest in LAST_STAGE if name == "USER"]
    assert users == ["10440:10440"]
    names = [name for name, _ in LAST_STAGE]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in {"RUN", "COPY"})
    assert ("VOLUME", "/var/lib/bitdew") in LAST_STAGE
    assert "home:/var/lib/bitdew" in SERVICE["volumes"]
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert not {"privileged", "cap_add", "devices"} & (set(SERVICE) | set(DATABASE))


def test_nothing_secret_and_no_checkout_gets_into_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    seen = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = [shlex.split(rest) for name, rest in INSTRUCTIONS if name == "COPY" and "--from" not in rest]
    assert {source for words in copied for source in words[:-1]} <= seen
    assert [source for source in seen if not (ROOT / source).exists()] == []
    folder = ROOT / "examples/container"
    told = (folder / "Containerfile").read_text() + (folder / "compose.yaml").read_text()
    assert re.findall(r"(?i)(?:password|token|secret)\w* *[=:] *(?!/run/)[\w/$]+", told) == []
    assert "/examples/container/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_is_copied_is_all_that_the_wheel_is_made_of() -> None:
    made = re.search(
        r"^SOURCES := \$\(shell find ([\w ]+) -type f", (ROOT / "Makefile").read_text(), flags=re.MULTILINE
    )
    assert made is not None
    copied = {
        source
        for name, rest in INSTRUCTIONS
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    }
    assert {*made[1].split(), "pyproject.toml", "LICENSE", "README.md", "docs/man"} <= copied


def test_images_are_named_as_users_name_them() -> None:
    named = [rest.split()[0] for name, rest in INSTRUCTIONS if name == "FROM"]
    assert named == ["${BASE}", "${BASE}"]
    (base,) = [rest for name, rest in INSTRUCTIONS if name == "ARG"]
    for image in [base.partition("=")[2], DATABASE["image"], SERVICE["image"]]:
        assert "/" not in image


def test_the_database_is_reached_by_its_socket_alone() -> None:
    assert (DATABASE["network_mode"], SERVICE["network_mode"]) == ("none", "host")
    assert "listen_addresses=" in DATABASE["command"]
    assert not {"ports", "networks"} & (set(SERVICE) | set(DATABASE) | set(COMPOSE))
    (mounted,) = [one for one in SERVICE["volumes"] if isinstance(one, dict)]
    assert f"{mounted['source']}:{mounted['target']}" in DATABASE["volumes"]
    assert SERVICE["environment"]["BITDEW_DATABASE"].endswith(f"?host={mounted['target']}")
    assert SERVICE["environment"]["PGPASSFILE"] == "/run/secrets/pgpass"
    assert SERVICE["depends_on"]["database"]["condition"] == "service_healthy"


def test_the_clients_are_not_older_than_the_server() -> None:
    # Debian 12 has PostgreSQL 15, whose programs are what a backup is taken with.
    assert (ROOT / "examples/container/Containerfile").read_text().count("ARG BASE=debian:bookworm-slim\n") == 1
    assert re.fullmatch(r"postgres:(\d+)-bookworm", DATABASE["image"])[1] == "15"  # type: ignore[index]


def test_every_volume_and_secret_is_declared_and_used() -> None:
    used = set()
    for one in (SERVICE, DATABASE):
        for volume in one["volumes"]:
            used.add(volume["source"] if isinstance(volume, dict) else volume.partition(":")[0])
    assert used == set(COMPOSE["volumes"])
    assert {*SERVICE["secrets"], *DATABASE["secrets"]} == set(COMPOSE["secrets"])


def test_the_two_secrets_are_one_password_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "chown").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/owners\n')
    (fake / "chown").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:/usr/bin:/bin")
    folder = tmp_path / "secrets"
    script = ["sh", str(ROOT / "examples/container/make-secrets"), str(folder)]
    subprocess.run(script, check=True, capture_output=True, timeout=30)
    password = (folder / "password").read_text().strip()
    assert len(password) == 48
    assert (folder / "pgpass").read_text() == f"*:*:bitdew:bitdew:{password}\n"
    owners = [line.split() for line in (tmp_path / "owners").read_text().splitlines()]
    assert owners == [["999:999", f"{folder}/password"], ["10440:10440", f"{folder}/pgpass"]]
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("password", "pgpass")} == {0o600}
    again = subprocess.run(script, check=False, capture_output=True, text=True, timeout=30)
    assert again.returncode == 4
    assert (folder / "password").read_text().strip() == password
