"""What a job may name, run and find in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from bitdew.worker.jobs.environment import ALL_BYTES, VARIABLES, checked_environment, environment_of
from bitdew.worker.jobs.programs import installed_in, resolve
from bitdew.worker.jobs.runs import Run, RunLimits

from bitdew.core.errors import BitDewError


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_only_what_is_shared_runs_beside_the_volunteers_own(tmp_path: Path) -> None:
    root = program(tmp_path / "root-6.40/bin/root")
    assert resolve("root", {"root": root}).path == root
    for word in ("sh", "/bin/sh", str(root), "../root", "./root", "root ", ""):
        with pytest.raises(BitDewError) as refused:
            resolve(word, {"root": root})
        assert refused.value.key == "job.not-shared"


def test_a_machine_runs_what_it_has(tmp_path: Path) -> None:
    assert resolve("sh", {}, anything=True).path.name == "sh"
    assert resolve("/bin/sh", {}, anything=True).path == Path("/bin/sh")
    assert resolve("./run.sh", {}, anything=True).path == Path("run.sh")
    for word in ("there-is-none", "../run.sh", "a/../../b", "/there/is/none"):
        with pytest.raises(BitDewError):
            resolve(word, {}, anything=True)


def test_a_program_that_went_is_told(tmp_path: Path) -> None:
    with pytest.raises(BitDewError, match="not there any more"):
        resolve("root", {"root": tmp_path / "root"})


def test_a_program_may_be_read_where_it_is_installed(tmp_path: Path) -> None:
    real = program(tmp_path / "opt/root-6.40/bin/root")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/root").symlink_to(real)
    assert installed_in(real) == [tmp_path / "opt/root-6.40"]
    assert installed_in(tmp_path / "bin/root") == [tmp_path, tmp_path / "opt/root-6.40"]
    assert installed_in(Path("/usr/bin/env")) == []


def test_a_program_in_a_home_does_not_open_that_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert installed_in(program(tmp_path / "bin/tool")) == [tmp_path / "bin"]
    assert installed_in(program(tmp_path / ".local/bin/tool")) == [tmp_path / ".local/bin"]
    assert installed_in(program(tmp_path / "tool")) == [tmp_path / "tool"]
    assert installed_in(program(tmp_path / "app/bin/tool"), [tmp_path / "app/worker"]) == [tmp_path / "app/bin"]
    assert installed_in(Path("/home/somebody/bin/tool")) == [Path("/home/somebody/bin")]


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "BITDEW_TOKEN", "HOME", "PATH", "TMPDIR", "a=b", "", "1A", "A B", "A\0", "Ä"],
)
def test_what_would_steer_the_loader_or_the_host_is_refused(name: str) -> None:
    with pytest.raises(BitDewError) as refused:
        checked_environment({name: "x"})
    assert refused.value.key == "input.invalid"


def test_the_environment_is_bounded() -> None:
    for given in (
        {f"V{number}": "" for number in range(VARIABLES + 1)},
        {"A": "\0"},
        {"A": "x" * 40_000},
        {f"V{number}": "x" * 30_000 for number in range(ALL_BYTES // 30_000 + 1)},
    ):
        with pytest.raises(BitDewError):
            checked_environment(given)
    assert checked_environment({"ROOT_MAX": "ä\n"}) == {"ROOT_MAX": "ä\n"}


def test_the_hosts_own_values_are_not_the_submitters_to_change() -> None:
    found = environment_of(Path("/opt/root/bin/root"), {"LANG": "de_DE.UTF-8", "A": "1"}, 2)
    assert found == {
        "LANG": "de_DE.UTF-8",
        "A": "1",
        "OMP_NUM_THREADS": "2",
        "USER": "job",
        "LOGNAME": "job",
        "PATH": "/opt/root/bin:/usr/local/bin:/usr/bin:/bin",
    }


@pytest.mark.parametrize(
    "argv",
    [(), ("a\0b",), ("x" * 110_000,), ("x",) * 5000, ("x" * 90_000,) * 13],
    ids=["none", "zero", "long", "many", "all"],
)
def test_a_command_is_bounded(argv: tuple[str, ...]) -> None:
    with pytest.raises(BitDewError):
        Run("f", 1, argv, Path("/bin/sh"), Path("/nowhere"))


@pytest.mark.parametrize("given", [{"program": Path("../sh")}, {"directory": Path("here")}, {"readable": (Path("x"),)}])
def test_paths_say_where_they_are(given: dict[str, Path]) -> None:
    wanted = {"program": Path("/bin/sh"), "directory": Path("/nowhere"), **given}
    with pytest.raises(BitDewError):
        Run("f", 1, ("sh",), **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", ["runtime", "memory", "cpus", "processes", "disk", "files", "log_bytes"])
@pytest.mark.parametrize("value", [0, -1, 2**70, float("nan")])
def test_no_limit_is_nothing_or_without_end(limit: str, value: float) -> None:
    with pytest.raises(BitDewError, match=limit):
        RunLimits(**{limit: value})  # type: ignore[arg-type]
