"""The house's own rules: what is packed, what may import what, and how files are named and sized."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitdew.core.errors import ERRORS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"bitdew": "bitdew", "catalog": "bitdew.catalog", "scheduler": "bitdew.scheduler", "worker": "bitdew.worker"}
CONTRACTS = {contract["id"]: contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]}


def source_files() -> Iterator[Path]:
    """Every file of the product, without what the interpreter wrote."""
    for folder in FOLDERS:
        yield from (p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def package_of(path: Path) -> str:
    """The package that a file of the source tree is installed in."""
    first, *rest = path.relative_to(ROOT).parent.parts
    return ".".join([FOLDERS[first], *rest])


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's full name, and its file."""
    for path in source_files():
        if path.suffix == ".py":
            yield (package_of(path) if path.stem == "__init__" else f"{package_of(path)}.{path.stem}"), path


def imports_of(name: str, path: Path) -> set[str]:
    """What a module imports anywhere in it, by full names; relative imports are resolved."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names} if base in FOLDERS.values() else {base}
    return found


# Packaging ------------------------------------------------------------------------------------------------------------


def test_every_package_on_disk_is_packed_and_no_other() -> None:
    on_disk = {package_of(path) for path in source_files() if path.suffix == ".py"}
    assert sorted(on_disk) == sorted(PROJECT["tool"]["setuptools"]["packages"])


def test_every_package_has_an_init_file() -> None:
    folders = {path.parent for path in source_files() if path.suffix == ".py"}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_wheel_installs_only_bitdew_and_every_file_of_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in (*FOLDERS, "docs/man"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tree],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    wanted = {"/".join([*package_of(path).split("."), path.name]) for path in source_files()}
    assert packed == wanted
    assert {"bitdew/py.typed", "bitdew/catalog/__init__.py", "bitdew/worker/__init__.py"} <= packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert [name.partition(".data/")[2] for name in names if ".data/" in name] == ["data/share/man/man1/bitdew.1"]


def test_every_dependency_has_a_tested_version() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()

    assert {plain(name) for name in wanted} <= {plain(name) for name in locked}


# Arrows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "may_import", "libraries_too"),
    [
        ("bitdew.core", ["bitdew.core"], False),
        ("bitdew.scheduler.planner", ["bitdew.scheduler.planner", "bitdew.core", "sortedcontainers"], False),
        ("bitdew.wire", ["bitdew.wire", "bitdew.trust", "bitdew.core"], True),
        ("bitdew.trust", ["bitdew.trust", "bitdew.core"], True),
    ],
)
def test_a_room_imports_nothing_but_what_it_may(room: str, may_import: list[str], libraries_too: bool) -> None:
    def allowed(name: str) -> bool:
        if name.partition(".")[0] == "bitdew":
            return any(name == other or name.startswith(other + ".") for other in may_import)
        return libraries_too or name.partition(".")[0] in {*sys.stdlib_module_names, *may_import}

    inside = [(name, path) for name, path in modules() if name == room or name.startswith(room + ".")]
    assert inside
    refused = {name: bad for name, path in inside if (bad := {i for i in imports_of(name, path) if not allowed(i)})}
    assert refused == {}


VIOLATIONS = {
    "rooms": ("bitdew/trust/offence.py", "import bitdew.wire"),
    "worker": ("bitdew/worker/offence.py", "import bitdew.catalog"),
    "core": ("bitdew/core/offence.py", "import os"),
    "planner": ("bitdew/scheduler/planner/offence.py", "import time"),
    "libtorrent": ("bitdew/worker/offence.py", "import libtorrent"),
    "cryptography": ("bitdew/wire/offence.py", "import cryptography.x509"),
    "databases": ("bitdew/worker/offence.py", "import sqlalchemy.orm"),
    "web": ("bitdew/cli/offence.py", "import aiohttp"),
}
LIBRARIES = {
    "bitdew.swarm": "libtorrent",
    "bitdew.trust": "cryptography",
    "bitdew.wire": "aiohttp",
    "bitdew.catalog": "alembic, sqlalchemy",
}


def verdicts(tree: Path) -> dict[str, str]:
    """import-linter's verdict on each contract, over the package in `tree`."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = {id_: next((li for li in done.stdout.splitlines() if li.startswith(n)), "") for id_, n in CONTRACTS.items()}
    assert all(lines.values()), done.stdout + done.stderr
    return {id_: line.split()[-1] for id_, line in lines.items()}


@pytest.fixture
def empty_house(tmp_path: Path) -> Path:
    """The real packages and modules with nothing inside but each library's import in its own room."""
    for name, path in modules():
        file = tmp_path.joinpath(*name.split("."))
        file = file / "__init__.py" if path.stem == "__init__" else file.with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    for room, libraries in LIBRARIES.items():
        tmp_path.joinpath(*room.split("."), "__init__.py").write_text(f"import {libraries}\n")
    return tmp_path


def test_every_contract_has_a_violation_to_prove_it() -> None:
    assert VIOLATIONS.keys() == CONTRACTS.keys()


def test_contracts_hold_where_each_library_stays_in_its_room(empty_house: Path) -> None:
    assert set(verdicts(empty_house).values()) == {"KEPT"}


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_one_forbidden_import_breaks_its_contract_and_no_other(contract: str, empty_house: Path) -> None:
    file, line = VIOLATIONS[contract]
    (empty_house / file).write_text(line + "\n")
    assert {id_ for id_, verdict in verdicts(empty_house).items() if verdict == "BROKEN"} == {contract}


# Files ----------------------------------------------------------------------------------------------------------------


def test_every_module_says_what_it_owns() -> None:
    empty_inits = {path for _, path in modules() if path.stem == "__init__" and not path.read_text().strip()}
    without = [
        str(p.relative_to(ROOT))
        for _, p in modules()
        if p not in empty_inits and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert without == []


def test_no_module_outgrows_its_subject() -> None:
    catalogues = {"bitdew/wire/models.py", "bitdew/core/errors.py"}  # lists that are looked up in, not read through
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for _, path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > 400 and name not in catalogues} == {}


def test_modules_are_named_by_their_subject() -> None:
    vague = {"helper", "helpers", "util", "utils", "common", "misc", "manager", "base", "tools"}
    assert [name for name, path in modules() if path.stem in vague] == []


def test_test_files_have_names_of_their_own() -> None:
    counted = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counted.items() if count > 1] == []


def test_field_tests_are_marked_as_such() -> None:
    files = sorted((ROOT / "tests/field").rglob("test_*.py"))
    assert [str(p.relative_to(ROOT)) for p in files if "pytest.mark.field" not in p.read_text()] == []


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(
        "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", r"deb\." + "debian", "npm" + r"js\.(?:org|com)"])
    )
    kinds = {".py", ".md", ".toml", ".lock", ".sh", ".cfg", ".yml", ".yaml", ".txt", ""}
    looked_at = [p for p in files_of_the_project() if p.suffix in kinds]
    assert [str(p.relative_to(ROOT)) for p in looked_at if hosts.search(p.read_text(errors="replace"))] == []


def files_of_the_project() -> Iterator[Path]:
    """Every file that is, or would be, committed: what git ignores is not looked at. All, where there is no git."""
    folders = [*FOLDERS, "tests", "docs", "examples", "benchmarks", ".ci"]
    for path in [*ROOT.glob("*"), *(p for folder in folders for p in (ROOT / folder).rglob("*"))]:
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts):
            yield path


# Errors ---------------------------------------------------------------------------------------------------------------


def test_every_error_that_is_raised_stands_in_the_table() -> None:
    raised: dict[str, str] = {}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", getattr(node.func, "attr", "")) == "error"
                and node.args
            ):
                key = node.args[0]
                if (
                    isinstance(key, ast.Constant)
                    and isinstance(key.value, str)
                    and re.fullmatch(r"[a-z-]+(\.[a-z-]+)?", key.value)
                ):
                    raised[key.value] = name
    assert raised
    assert {key: where for key, where in raised.items() if key not in ERRORS} == {}
