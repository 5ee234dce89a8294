"""What becomes jobs of a request: its values put in, its paths checked, its name made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from bitdew.core.errors import error
from bitdew.core.job import JobSpec
from bitdew.core.job_path import checked_path, pattern_parts
from bitdew.trust.roles import Subject
from bitdew.wire.models import InputModel, SubmitRequest

from ...catalog.data import DataRoom
from .records import JobInput

PLACEHOLDER: Final = "{}"


def laid_out(inputs: Iterable[JobInput]) -> tuple[JobInput, ...]:
    """These inputs, each of which has a place of its own, in the order of their paths.

    Raises:
        UserError: `input.invalid`.
    """
    found: dict[str, JobInput] = {}
    for one in inputs:
        if one.path in found:
            raise error("input.invalid", f"Two inputs would be at {one.path[:80]!r}", field="inputs")
        found[checked_path(one.path)] = one
    for path in found:
        parts = path.split("/")
        if clash := {"/".join(parts[:n]) for n in range(1, len(parts))} & found.keys():
            raise error("input.invalid", f"{min(clash)[:80]!r} can't be an input and a folder", field="inputs")
    return tuple(found[path] for path in sorted(found))


async def inputs_of(data: DataRoom, asked: Sequence[InputModel], caller: Subject) -> tuple[JobInput, ...]:
    """The data that a job is to read, each in a place of its own.

    Raises:
        UserError: `data.not-found`, `input.invalid`.
    """
    found = [(await data.readable(one.data, caller), one.path) for one in asked]
    return laid_out(JobInput(datum.data.uid, path or datum.data.name) for datum, path in found)


def specs_of(asked: SubmitRequest) -> list[JobSpec]:
    """The jobs that are asked for: one, or one for each value.

    Raises:
        UserError: `input.invalid`, `attribute.requires`.
    """
    spec = asked.spec.to_spec()
    if not asked.values:
        return [checked_outputs(spec)]
    return [checked_outputs(put_in(spec, value)) for value in asked.values]


def checked_outputs(spec: JobSpec) -> JobSpec:
    """`spec`, if every host can look for its outputs.

    Raises:
        UserError: `input.invalid`.
    """
    for pattern in spec.outputs:
        pattern_parts(pattern)
    return spec


def put_in(spec: JobSpec, value: str) -> JobSpec:
    """`spec` with `value` in all its placeholders.

    Raises:
        UserError: `input.invalid`, if that makes it too long.
    """

    def put(text: str) -> str:
        return text.replace(PLACEHOLDER, value)

    return replace(
        spec,
        command=tuple(map(put, spec.command)),
        outputs=tuple(map(put, spec.outputs)),
        environment={name: put(text) for name, text in spec.environment.items()},
    )


def name_of(spec: JobSpec) -> str:
    """What a job is called for which nobody gave a name."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in spec.command[0].rsplit("/")[-1])
    return name.strip("._-")[:64] or "job"
