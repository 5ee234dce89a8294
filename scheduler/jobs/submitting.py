"""What becomes jobs of a request: its values put in, its paths checked, its name made."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bitdew.core.errors import error
from bitdew.core.job import JobSpec
from bitdew.wire.models import SubmitRequest

PLACEHOLDER: Final = "{}"


def checked_path(path: str) -> str:
    """`path` if it stays in a job's directory.

    Raises:
        UserError: `input.invalid`.
    """
    if not set(path.split("/")).isdisjoint({"", ".", ".."}) or "\0" in path or "\\" in path:
        why = "it is a path below the job's own directory"
        raise error("input.invalid", f"{path[:80]!r} can't be an input's path", why=why, field="inputs")
    return path


def specs_of(asked: SubmitRequest) -> list[JobSpec]:
    """The jobs that are asked for: one, or one for each value.

    Raises:
        UserError: `input.invalid`, `attribute.requires`.
    """
    spec = asked.spec.to_spec()
    if not asked.values:
        return [spec]

    def put(text: str, value: str) -> str:
        return text.replace(PLACEHOLDER, value)

    return [
        replace(
            spec,
            command=tuple(put(word, value) for word in spec.command),
            outputs=tuple(put(pattern, value) for pattern in spec.outputs),
            environment={name: put(text, value) for name, text in spec.environment.items()},
        )
        for value in asked.values
    ]


def name_of(spec: JobSpec) -> str:
    """What a job is called for which nobody gave a name."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in spec.command[0].rsplit("/")[-1])
    return name.strip("._-")[:64] or "job"
