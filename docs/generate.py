"""Writes the pages of docs/reference from the code: `make docs-generate`.

tests/test_docs.py holds the pages against the code. This owns no words but headings and column names: what a page says
of a command, an error, a route or a state is said in the code, once.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from generate_cli import cli_page
from generate_json import json_page
from generate_man import man_page
from generate_models import api_page
from markdown_table import table

from bitdew.core import states
from bitdew.core.attribute import Attribute
from bitdew.core.attribute_keys import KEYS
from bitdew.core.errors import ERRORS, EXIT_CODES

FOLDER: Final = Path(__file__).parent / "reference"
MAN: Final = Path(__file__).parent / "man/bitdew.1"
NOTICE: Final = "<!-- Made from the code by docs/generate.py. Do not edit. -->"

WHOSE: Final = {
    "user": "what was asked",
    "service": "the service",
    "host": "the host's own state",
    "peer": "a remote peer",
}


def errors_page() -> Iterator[str]:
    """The table of error keys."""
    yield from ["# Errors", ""]
    yield "A failure has a key that stays the same in a log, in a reply of the service, in `--json` and here. It says"
    yield from ["happened to what, why, and what to do next.", ""]
    rows: list[tuple[object, ...]] = [
        (f"`{key}`", kind.meaning, kind.do, WHOSE[kind.fault], kind.status, kind.exit_code)
        for key, kind in sorted(ERRORS.items())
    ]
    yield from table("key", "meaning", "what to do", "whose fault", "HTTP status", "exit code", rows=rows)
    yield from ["## Exit codes", ""]
    yield from table("code", "meaning", rows=[(code, meaning) for code, meaning in EXIT_CODES.items()])


def states_page() -> Iterator[str]:
    """The tables of states, drawn."""
    yield from [
        "# States",
        "",
        "Staying in a state is always legal. A move that is not drawn is refused, with its history.",
        "",
    ]
    for one in (states.PLACEMENT, states.HOST, states.MACHINE, states.JOB, states.RUN):
        yield from [f"## {one.subject.capitalize()}", ""]
        yield from [inspect.cleandoc(type(one.initial).__doc__ or ""), ""]
        yield from ["```mermaid", one.to_mermaid(), "```", ""]
        rows: list[tuple[object, ...]] = [
            (f"`{state}`", ", ".join(f"`{after}`" for after in sorted(one.moves[state])) or "nothing: it is the end")
            for state in one.moves
        ]
        yield from table("state", "may be followed by", rows=rows)


def shown_default(field: str) -> str:
    """What an attribute has in `field` when nothing is said; "" if that is nothing."""
    value = getattr(Attribute(), field)
    return str(value).lower() if value not in {None, ()} else ""


def attributes_page() -> Iterator[str]:
    """The keys of an attribute, from the attribute itself."""
    yield from ["# Attribute keys", "", "What they are for stands in [Attributes](../attributes.md).", ""]
    told = inspect.cleandoc(Attribute.__doc__ or "").partition("Attributes:")[2]
    meanings = dict(line.strip().split(": ", 1) for line in told.strip().splitlines())
    rows: list[tuple[object, ...]] = [
        (f"`{key}`", about.kind, f"`{told}`" if (told := shown_default(about.field)) else "none", meanings[about.field])
        for key, about in KEYS.items()
    ]
    yield from table("key", "type", "default", "meaning", rows=rows)


def settings_page() -> Iterator[str]:
    """The worker's settings, from the models themselves."""
    from bitdew.worker.activity.rules import Rules
    from bitdew.worker.configuration.keys import NAMED, paths, variable
    from bitdew.worker.settings import WorkerSettings

    yield from ["# Settings of a worker", ""]
    yield "Where they are written, and which place goes first, stands [for volunteers](../guides/volunteer.md)."
    yield from ["Sizes and rates are bytes, or texts like `50GB`.", ""]
    rows: list[tuple[object, ...]] = []
    for path in paths():
        model = Rules if len(path) > 1 else WorkerSettings
        field = model.model_fields[path[-1]]
        default = "" if field.default_factory is not None else json.dumps(field.default)
        rows.append(
            (f"`{'.'.join(path)}`", f"`{default}`" if default else "", f"`{variable(path)}`", told(model)[path[-1]])
        )
    yield from table("setting", "default", "variable", "meaning", rows=rows)
    for key, kind in NAMED.items():
        if kind is not None:
            yield from [f"## `{key}.NAME`", ""]
            inner: list[tuple[object, ...]] = [(f"`{name}`", told(kind)[name]) for name in kind.model_fields]
            yield from table("key", "meaning", rows=inner)


def told(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each of a model's fields, in its source."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101
    found = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = inspect.cleandoc(str(ast.literal_eval(below.value)))
    return found


def metrics_page() -> Iterator[str]:
    """The figures that a service gives to those who watch over it."""
    from bitdew.scheduler.figures import FIGURES

    yield from ["# Metrics", ""]
    yield "`GET /v1/metrics` gives them as Prometheus reads them; how to ask stands [for"
    yield "operators](../guides/operator.md#watching-over-a-service). With several services on one database, figures of"
    yield "the whole grid are the same from each; the others are the asked service's own."
    yield ""
    rows: list[tuple[object, ...]] = [
        (
            f"`{figure.name}{'_total' if figure.grows else ''}{{{figure.label}}}`".replace("{}", ""),
            "counter" if figure.grows else "gauge",
            "the grid" if figure.of_all else "the service",
            figure.meaning,
        )
        for figure in FIGURES
    ]
    yield from table("metric", "type", "of", "meaning", rows=rows)
    yield "On Linux there are the process's own beside them: `process_cpu_seconds_total`,"
    yield "`process_resident_memory_bytes`, `process_virtual_memory_bytes`,"
    yield "`process_open_fds`, `process_max_fds`, `process_start_time_seconds`."


PAGES: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "api.md": api_page,
    "attributes.md": attributes_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "json.md": json_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
    "states.md": states_page,
}


def page(name: str) -> str:
    """The whole text of one page."""
    return "\n".join([NOTICE, "", *PAGES[name]()]).rstrip() + "\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        try:
            text = page(name)
        except ImportError as fault:  # a room that is not there yet
            print(f"{name}: left as it is: {fault}", file=sys.stderr)  # noqa: T201
            continue
        (FOLDER / name).write_text(text)
    MAN.write_text(man_page())


if __name__ == "__main__":
    main()
