"""The developer's guide and the examples in docstrings are run as they stand, each on a real grid."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import bitdew
from bitdew import blocking, fs
from bitdew.blocking.portal import Portal
from bitdew.bootdisk import write_boot_disk
from bitdew.client import dew as dew_module
from bitdew.testing.grid import Grid

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs/guides/developer.md").read_text() + (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)
DOCUMENTED = [blocking, dew_module, fs]


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that an example may take for granted, and a folder with the files that it reads."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what an example prints is its own
    with Portal() as portal:
        grid = Grid(hosts=3)
        portal.call(grid.__aenter__())
        monkeypatch.setenv("BITDEW_PROFILE", "operator")
        monkeypatch.setenv("BITDEW_HOME", str(grid.folder))
        (grid.folder / "profiles").symlink_to(grid.folder)
        (tmp_path / "files").mkdir()
        monkeypatch.chdir(tmp_path / "files")
        for name in ("root.img", "inputs.tar"):
            Path(name).write_bytes(name.encode() * 40_000)
        write_boot_disk(Path("hep.raw"), line="hello", size=2**20)
        known: dict[str, Any] = {"bitdew": bitdew, "Path": Path, "known": [], "BitDew": bitdew.BitDew}
        yield known | {
            "url": grid.service.url,
            "token": grid.token,
            "path": Path("hep.raw"),
            "Attribute": bitdew.Attribute,
            "grid": grid.client,
            "add_host": grid.add_host,
            "portal": portal,
        }
        for files in list(fs.BitDewFileSystem._cache.values()):  # fsspec keeps them for the process
            files.close()
        fs.BitDewFileSystem.clear_instance_cache()
        portal.call(grid.__aexit__())


def run(code: str, scope: dict[str, Any], mode: str = "exec") -> None:
    """Run `code`, in the loop where it awaits something, and here where it does not."""
    tree = compile(code, "example", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    awaits = any(isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) for node in ast.walk(tree))
    program = compile(code, "example", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def work() -> None:
        async with asyncio.timeout(60):
            found = eval(program, scope)  # noqa: S307 (they are our own pages)
            if inspect.isawaitable(found):
                await found

    if awaits:
        scope["portal"].call(work())
    else:
        eval(program, scope)  # noqa: S307 (they are our own pages)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_examples_of_the_developers_guide_run(number: int, scope: dict[str, Any]) -> None:
    program = BLOCKS[number]
    if '"hep-inputs"' in program and ".put(" not in program:  # the guide has put it before
        scope["portal"].call(scope["grid"].put(Path("inputs.tar"), "hep-inputs"))
        Path("inputs.tar").unlink()
    if ".submit" in program or ".executor" in program:  # a host that runs any command, as a machine does
        scope["portal"].call(scope["add_host"]("vm", jobs="anything", memory=2**32, cpus=2))
    with contextlib.redirect_stdout(io.StringIO()):
        run(program, scope)


@pytest.mark.parametrize("module", DOCUMENTED, ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run_and_print_what_they_say(module: Any, scope: dict[str, Any]) -> None:
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert found
    for test in found:
        names = scope | vars(module)
        for example in test.examples:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                run(example.source, names, "single")
            assert printed.getvalue() == example.want, f"{test.name}, line {example.lineno}: {example.source}"
