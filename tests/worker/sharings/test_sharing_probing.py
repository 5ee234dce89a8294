"""A sharing counts as being there when its program says a version, and what jobs need of it is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.sharings.declaration import Declaration, trial_of
from bitdew.worker.sharings.probing import probe
from bitdew.worker.stamps import signature
from pydantic import ValidationError


def test_a_known_application_is_found_with_the_programs_that_are_there(programs):
    config, root = programs("root-config", "echo 6.30/04"), programs("root", "")
    found = probe("root", Declaration())
    assert found.sharing is not None
    assert (found.sharing.version, found.sharing.kind, found.why) == ("6.30.04", "application", "")
    assert dict(found.sharing.programs) == {"root": root}
    assert {str(config), str(root)} <= {entry[0] for entry in found.signature}


def test_a_real_program_of_this_machine_is_found():
    found = probe("python3", Declaration())
    assert found.sharing is not None
    assert found.sharing.version.startswith("3.")
    assert found.sharing.programs["python3"].is_absolute()
    assert os.access(found.sharing.programs["python3"], os.X_OK)


def test_a_module_of_python_is_imported_and_its_file_watched(programs, tmp_path, monkeypatch):
    programs("python3", f'exec {sys.executable} "$@"')
    (tmp_path / "modules").mkdir()
    module = tmp_path / "modules" / "fancy.py"
    module.write_text("print('a banner, version 9.9')\n__version__ = '1.2.3'\n")
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    found = probe("fancy", Declaration(python="fancy"))
    assert found.sharing is not None
    assert (found.sharing.version, found.sharing.kind, dict(found.sharing.programs)) == ("1.2.3", "library", {})
    assert str(module) in found.files
    assert probe("absent", Declaration(python="no_such_module_here")).why.startswith("python3: it ended with 1")


def test_a_library_is_asked_for_at_pkg_config(programs):
    programs("pkg-config", 'test "$1 $2" = "--modversion mylib" && echo 2.7.1')
    found = probe("mylib", Declaration(pkg_config="mylib"))
    assert found.sharing is not None
    assert (found.sharing.version, found.sharing.kind) == ("2.7.1", "library")
    assert probe("other", Declaration(pkg_config="other")).sharing is None


def test_an_application_of_which_jobs_could_run_nothing_is_not_there(programs):
    programs("tool-config", "echo 1.0")
    why = probe("tool", Declaration(command=("tool-config",))).why
    assert why == "tool is not there, or can't be run"


def test_every_program_that_was_named_has_to_be_there(programs, tmp_path):
    here = programs("tool", "echo 1.0")
    declared = Declaration(command=("tool",), programs=(str(here), str(tmp_path / "away")))
    assert probe("tool", declared).why == f"{tmp_path / 'away'} is not there, or can't be run"
    declared = Declaration(command=("tool",), programs=(str(here), "sh"))
    found = probe("tool", declared).sharing
    assert found is not None
    assert found.programs.keys() == {"tool", "sh"}


def test_one_that_is_not_installed_is_told_and_is_not_run(tmp_path):
    found = probe("tool", Declaration(command=(str(tmp_path / "tool"), "--version")))
    assert (found.sharing, found.why) == (None, f"{tmp_path / 'tool'} is not there, or can't be run")


def test_one_that_says_nothing_of_a_version_is_not_offered(programs):
    programs("tool", "echo hello; echo there")
    assert probe("tool", Declaration(command=("tool",))).why == "tool tells no version: hello there"


def test_one_that_hangs_may_pass(programs):
    programs("tool", "sleep 1000")
    found = probe("tool", Declaration(command=("tool",)), seconds=0.2)
    assert (found.sharing, found.passing) == (None, True)


def test_a_file_that_is_replaced_changes_what_the_trial_depends_on(programs):
    programs("tool", "echo 1.0")
    declared = Declaration(command=("tool",))
    before = probe("tool", declared)
    assert signature(before.files) == before.signature
    programs("tool", "echo 2.0")
    assert signature(before.files) != before.signature
    programs("tool", "echo 1.0").unlink()
    assert signature(before.files) != before.signature


@pytest.mark.parametrize(
    ("name", "declared", "why"),
    [
        ("rooot", {}, "did you mean root?"),
        ("r", {}, "did you mean R?"),
        ("qemu", {"command": ["qemu", "--version"]}, "tries qemu by itself"),
        ("tool", {"command": ["bin/tool"]}, "neither the name of a program nor its whole path"),
        ("tool", {"command": ["-c"]}, "neither the name of a program nor its whole path"),
        ("tool", {"command": ["tool", "a\nb"]}, "match"),
        ("tool", {"command": ["tool"], "python": "tool"}, "in one way"),
        ("tool", {"python": "os; import evil"}, "match"),
        ("tool", {"pkg_config": "--define-variable=x"}, "match"),
        ("tool", {"command": ["tool"], "programs": ["/bin/sh", "/usr/bin/sh"]}, "the same name"),
        ("tool", {"command": ["tool"], "programs": ["../sh"]}, "neither"),
        ("tool", {"command": ["tool"] * 33}, "at most 32"),
        ("tool", {"shell": "rm"}, "Extra inputs"),
        (".tool", {"command": ["tool"]}, "match"),
    ],
)
def test_what_can_not_be_tried_is_refused_with_its_reason(tmp_path, name, declared, why):
    with pytest.raises(ValidationError) as refused:
        WorkerSettings(home=tmp_path, sharings={name: declared})
    assert why in str(refused.value)


def test_what_was_said_goes_before_the_table_and_the_table_fills_the_rest():
    trial = trial_of("root", Declaration(command=("/opt/root/bin/root-config", "--version")))
    assert trial.command[0] == "/opt/root/bin/root-config"
    assert trial.programs == ("root", "root.exe", "rootcling", "hadd")
    assert trial_of("root", Declaration(programs=("/opt/root/bin/root",))).command == ("root-config", "--version")


def test_the_interpreter_that_a_trial_uses_is_not_given_to_jobs():
    assert trial_of("tool", Declaration(command=("python3", "-c", "print(1)"))).programs == ("tool",)
    assert trial_of("numpy", Declaration()).programs == ()


def test_links_are_kept_as_they_are(programs, tmp_path):
    real = programs("real", "echo 1.0")
    link = real.parent / "tool"
    link.symlink_to(real)
    found = probe("tool", Declaration(command=("tool",))).sharing
    assert found is not None
    assert found.programs["tool"] == Path(link)
