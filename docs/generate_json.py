"""The reference of what commands print with `--json`, from the table of shapes and the models themselves."""

from __future__ import annotations

from collections.abc import Iterator

from generate_models import collect, model_section
from markdown_table import table
from pydantic import BaseModel

RULE = """\
With `--json` a command prints documents on standard output, each on one line: one, or for commands that go on, one
after the other. Remarks and logs go to standard error. The first key of a document is its `schema`: the name of its
shape and a version, like `DataList/1`.

- Whoever reads a document passes over keys that they don't know: a release may add some under the same version.
- The version is counted up when a key goes, or means something else.
- A failure is an [`ErrorReply`](#errorreply), whatever the command, and the last line. Its key is that of the
  [errors](errors.md), and so is the exit code.
- Moments are UTC in ISO 8601, sizes bytes, durations seconds. No document has colours or other control sequences.
"""


def json_page() -> Iterator[str]:
    """Which command prints what, and each shape."""
    from bitdew.cli.output import schema_of
    from bitdew.cli.shapes import SHAPES, models
    from bitdew.wire.models import ErrorReply

    known = models()
    yield from ["# JSON of the commands", "", RULE]
    rows: list[tuple[object, ...]] = [
        (f"`bitdew {command}`", ", ".join(f"[`{schema_of(known[name])}`](#{name.lower()})" for name in names))
        for command, names in sorted(SHAPES.items())
    ]
    yield from table("command", "schema", rows=rows)
    found: dict[str, type[BaseModel]] = {}
    for model in [*known.values(), ErrorReply]:
        collect(model, found)
    yield from ["## Shapes", ""]
    for name in sorted(found):
        yield from model_section(found[name])
