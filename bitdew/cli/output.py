"""What a command prints: documents and tables on stdout, progress and remarks on stderr.

Owns the difference between a person and a program on the other side. With `--json` stdout carries JSON alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitdew.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydantic import BaseModel
    from rich.console import RenderableType
    from rich.progress import TaskID
    from rich.style import StyleType

WIDTH_OF_FILES: Final = 200
"""Columns where there is no terminal to ask: a table in a file or a pipe loses nothing."""

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Where one command prints."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether someone watches: bars may move."""
        return self.err.is_terminal

    def document(self, document: BaseModel, shown: Callable[[], Iterable[Any]]) -> None:
        """The command's result: `document` for programs, what `shown` makes for people."""
        if self.as_json:
            self.line(document)
        else:
            for part in shown():
                self.show(part)

    def show(self, part: Any) -> None:
        """Print one part of a result for people: a text without control sequences, a table, a heading."""
        self.out.print(printable(part) if isinstance(part, str) else part)

    def line(self, document: BaseModel) -> None:
        """One JSON document on one line, at once."""
        sys.stdout.write(json_line(document) + "\n")
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """A remark for people. Programs are not told."""
        if not self.as_json:
            self.err.print(printable(text))

    def raw(self, text: str) -> None:
        """Text of a guest, without the control sequences by which it could take over a terminal."""
        sys.stdout.write(printable(text))
        sys.stdout.flush()

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar of bytes: call what this gives with the bytes done and their total."""
        with self.steps(what) as (report,):
            yield report

    @contextmanager
    def steps(self, *named: str) -> Iterator[list[Callable[[int, int], None]]]:
        """A bar of bytes for each step that is taken, one after the other."""
        if self.live:
            yield from self._bars(named)
        elif self.as_json:
            yield [lambda _done, _total: None for _ in named]
        else:
            yield [self._plain(what) for what in named]

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar of things that are counted: call what this gives with how many are done and their total."""
        if self.as_json:
            yield lambda _done, _total: None
        elif not self.live:
            said: list[tuple[int, int]] = []

            def tell(done: int, total: int) -> None:
                if said != [(done, total)]:
                    said[:] = [(done, total)]
                    self.err.print(f"{what}: {done} of {total}")

            yield tell
        else:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, TimeElapsedColumn(), console=self.err, transient=True) as bars:
                task = bars.add_task(what, total=None)
                yield lambda done, total: bars.update(task, completed=done, total=total)

    def _bars(self, named: Sequence[str]) -> Iterator[list[Callable[[int, int], None]]]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed())
        with Progress(*columns, TimeRemainingColumn(), console=self.err, transient=True) as bars:
            tasks = [bars.add_task(what, total=None, visible=not number) for number, what in enumerate(named)]

            def reporter(task: TaskID) -> Callable[[int, int], None]:
                return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

            yield [reporter(task) for task in tasks]

    def _plain(self, what: str) -> Callable[[int, int], None]:
        said = -1

        def report(done: int, total: int) -> None:
            nonlocal said
            quarter = 4 * done // max(1, total)
            if quarter != said:
                said = quarter
                self.err.print(f"{what}: {25 * quarter} % of {format_size(total)}")

        return report


def json_line(document: BaseModel) -> str:
    """A document as JSON, the name and the version of its shape first."""
    told = {"schema": schema_of(type(document)), **document.model_dump(mode="json")}
    # JSON escapes C0 itself; for a terminal C1 must not pass either, which some of them obey as well.
    return json.dumps(told, ensure_ascii=sys.stdout.isatty())


def schema_of(kind: type[BaseModel]) -> str:
    """The name of a document's shape, and its version: 1 unless the class says another one, as `SHAPE`."""
    return f"{kind.__name__}/{getattr(kind, 'SHAPE', 1)}"


class _Rows(Table):
    """A table whose cells can't carry control sequences: names and reasons come from other machines."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        clean = (printable(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*clean, style=style, end_section=end_section)


def table(*columns: str) -> Table:
    """A table with `columns`; a name that begins with '>' stands above figures, one in lower case above nothing."""
    made = _Rows(box=None, pad_edge=False, header_style="bold", show_header=any(map(str.isupper, columns)))
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return made


def printable(text: str) -> str:
    """`text` with line ends and tabs, and no other control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def heading(text: str) -> Text:
    """A line that stands out."""
    return Text(printable(text), style="bold")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_OF_FILES
    # https://no-color.org: rich leaves bold text bold, and this leaves no style at all.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width, color_system=colours)
