"""The reference of the HTTP API: routes, and the models that cross them; and how a model is told."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from markdown_table import table
from pydantic import BaseModel


def api_page() -> Iterator[str]:
    """The service's routes and the models that cross them."""
    from bitdew.rooms import all_routes
    from bitdew.wire.server import TextReply

    yield from ["# HTTP API", ""]
    yield "TLS with a client certificate everywhere but where callers are `anyone`. Bodies and replies are JSON; a"
    yield "reply that is not a success is an `ErrorReply`, whose keys stand with the [errors](errors.md)."
    yield "`{name}` takes a name or a uid."
    yield ""
    rows: list[tuple[object, ...]] = []
    models: dict[str, type[BaseModel]] = {}
    for route in sorted(all_routes(), key=lambda route: (route.path, route.method)):
        reply = typing.get_type_hints(route.handler).get("return", BaseModel)
        roles = "anyone" if route.roles is None else ", ".join(sorted(route.roles))
        path = re.sub(r":(?:[^{}]|\{\d+\})+\}", "}", route.path)  # without the pattern of a parameter
        body = "raw bytes" if route.streams else f"`{route.body.__name__}`" if route.body.model_fields else ""
        replies = typing.get_args(reply) or (reply,)
        bytes_of_file = not issubclass(replies[0], BaseModel)
        is_text = replies[0] is TextReply
        told = " or ".join(f"`{one.__name__}`" for one in replies if bytes_of_file or one.model_fields)
        answer = "text" if is_text else "raw bytes" if bytes_of_file else told
        rows.append((f"`{route.method} {path}`", roles, body, answer))
        for model in ([] if route.streams else [route.body]) + ([] if bytes_of_file else list(replies)):
            collect(model, models)
    yield from table("route", "callers", "body", "reply", rows=rows)
    from bitdew.wire.models import ErrorReply

    collect(ErrorReply, models)
    yield from ["## Models", ""]
    for name in sorted(models):
        yield from model_section(models[name])


def model_section(model: type[BaseModel]) -> Iterator[str]:
    """One model: what it is, and its fields."""
    yield from [f"### `{model.__name__}`", "", inspect.cleandoc(model.__doc__ or ""), ""]
    schema = model.model_json_schema()
    needed = set(schema.get("required", ()))
    rows: list[tuple[object, ...]] = [
        (f"`{field}`", kind_of(about), "" if field in needed else "optional")
        for field, about in schema.get("properties", {}).items()
    ]
    yield from table("field", "type", "", rows=rows)


def collect(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """`model` and the models inside it, each once; empty ones are left out."""
    if model.__name__ in found or not model.model_fields:
        return
    found[model.__name__] = model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            collect(inner, found)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def kind_of(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        most = f"at most {schema['maxItems']}, " if "maxItems" in schema else ""
        return f"list ({most}each {kind_of(schema.get('items', {}))})"
    if "format" in schema and kind == "string":
        kind = str(schema["format"])
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("maxLength", "at most"),
        )
        if key in schema
    ]
    return kind + (f" ({', '.join(bounds)})" if bounds else "")
