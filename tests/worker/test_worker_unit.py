"""The worker's unit: systemd reads it as it is meant, and it is put in its place and away again."""

from __future__ import annotations

import configparser
import plistlib
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bitdew.worker import unit
from bitdew.worker.unit import Scope
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ["/opt/bit dew/bin/bitdew"]
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A user's and a system's folder of units, and a systemctl that notes what it is told."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = {Scope.USER: unit.path_of(Scope.USER), Scope.SYSTEM: tmp_path / "etc" / unit.NAME}
    monkeypatch.setattr(unit, "path_of", found.__getitem__)
    monkeypatch.setattr(unit, "RUNNING", tmp_path)
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\nexit $(cat {tmp_path}/code 2>/dev/null || echo 0)\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


@needs_analyze
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("privileged", [False, True])
def test_systemd_finds_nothing_wrong_with_it(tmp_path, monkeypatch, scope, privileged):
    program, home = tmp_path / "bit dew", tmp_path / "ho me 100%$x"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / unit.NAME
    path.write_text(unit.text_of(scope, [str(program)], home, owner="root", privileged=privileged))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    words = ["systemd-analyze", *(["--user"] if scope is Scope.USER else []), "verify", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    # Systemd knows it from 254 on, and says before that it passes it over.
    told = [line for line in done.stderr.splitlines() if "'DelegateSubgroup' in section" not in line]
    assert (done.returncode, told) == (0, [])


def test_it_is_hardened_and_lowest_in_rank_and_a_user_manager_is_asked_nothing_that_it_can_not_do(tmp_path):
    for scope in Scope:
        text = unit.text_of(scope, PROGRAM, tmp_path)
        for line in (
            "Nice=19",
            "IOSchedulingClass=idle",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
            "KillMode=process",
            "Delegate=cpu memory pids",
            "DelegateSubgroup=worker",
        ):
            assert line in text.splitlines()
        assert f"ReadWritePaths={tmp_path}" in text
        assert ("DevicePolicy=closed" in text) is (scope is Scope.SYSTEM)
    assert "NoNewPrivileges=yes" not in unit.text_of(Scope.SYSTEM, PROGRAM, tmp_path, privileged=True)
    assert "User=ann" in unit.text_of(Scope.SYSTEM, PROGRAM, tmp_path, owner="ann")


def test_nothing_covers_a_part_of_proc_where_jobs_need_one_of_their_own(tmp_path):
    for scope, owner in ((Scope.USER, ""), (Scope.SYSTEM, "ann")):
        assert "ProtectKernel" not in unit.text_of(scope, PROGRAM, tmp_path, owner=owner).replace(
            "ProtectKernelModules", ""
        )
    assert "ProtectKernelTunables=yes" in unit.text_of(Scope.SYSTEM, PROGRAM, tmp_path)


@given(word=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_no_path_says_anything_else_to_systemd_than_itself(word):
    written = unit._quoted(word)
    plain = written[1:-1] if written.startswith('"') and written != word else written
    assert not any(mark in plain.replace("%%", "").replace("$$", "") for mark in "%$")
    back = plain.replace("$$", "$").replace("%%", "%")
    if written != word:
        back = back.replace('\\"', '"').replace("\\\\", "\\") if "\\" in back else back
    assert len(back) <= len(word) or "\\" in word or '"' in word
    if not set('\\"') & set(word):
        assert back == word


def test_a_line_end_in_a_path_is_refused(tmp_path):
    with pytest.raises(BitDewError) as caught:
        unit.text_of(Scope.USER, PROGRAM, tmp_path / "a\n[Service]\nUser=root")
    assert caught.value.key == "input.invalid"


@pytest.mark.parametrize("scope", list(Scope))
def test_it_is_put_in_its_place_started_and_put_away(config, scope):
    home = config / "home"
    text = unit.text_of(scope, PROGRAM, home)
    made = unit.install(scope, text, home, start=True)
    assert unit.find(home) == unit.find() == made
    assert unit.find(config / "other") is None
    assert made.path.stat().st_mode & 0o777 == 0o644
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(made.path)
    assert parser["X-BitDew"]["Home"] == str(home)
    assert unit.uninstall(config / "other") is None
    assert unit.uninstall(home) == made
    assert unit.uninstall(home) is None
    assert not made.path.exists()
    user = "--user " if scope is Scope.USER else ""
    told = (config / "told").read_text().splitlines()
    steps = ["daemon-reload", f"enable --now {unit.NAME}", f"disable --now {unit.NAME}", "daemon-reload"]
    assert told == [user + step for step in steps]


def test_a_unit_for_another_home_is_not_written_over(config):
    unit.install(Scope.USER, unit.text_of(Scope.USER, PROGRAM, config / "a"), config / "a", start=False)
    with pytest.raises(BitDewError) as caught:
        unit.install(Scope.USER, unit.text_of(Scope.USER, PROGRAM, config / "b"), config / "b", start=False)
    assert caught.value.key == "input.invalid"
    assert unit.find().home == config / "a"


def test_where_systemd_does_not_run_or_refuses_it_is_said(config, monkeypatch):
    text = unit.text_of(Scope.USER, PROGRAM, config)
    (config / "code").write_text("3")
    with pytest.raises(BitDewError) as caught:
        unit.install(Scope.USER, text, config, start=True)
    assert caught.value.key == "worker.unmanaged"
    monkeypatch.setattr(unit, "RUNNING", config / "nowhere")
    with pytest.raises(BitDewError) as caught:
        unit.install(Scope.USER, text, config, start=True)
    assert caught.value.key == "worker.unmanaged"
    assert unit.uninstall(config) is not None


def shown(language, page="docs/guides/volunteer.md"):
    """The blocks of the guide for volunteers in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_guides_files_for_other_systems_are_well_formed_and_run_the_worker():
    launchd, windows = shown("xml")
    plist = plistlib.loads(launchd.encode())
    assert plist["ProgramArguments"][1:] == ["worker", "run"]
    assert (plist["Nice"], plist["KeepAlive"]) == (19, {"SuccessfulExit": False})
    task = ElementTree.fromstring(windows)  # noqa: S314 (it is our own page)
    names = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext("t:Actions/t:Exec/t:Arguments", namespaces=names) == "worker run"
    assert task.findtext("t:Settings/t:Priority", namespaces=names) == "9"
