"""The conditions that a column is one of many values, or two are one of many pairs: one parameter, however many.

A list `IN (?, ?, …)` has a limit (32,766 values in SQLite, 32,767 in PostgreSQL), and for each length it is another
statement to parse and to plan. Here the values travel as one array, or as JSON where the database has no arrays.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Self

from sqlalchemy import ColumnElement, Dialect, Text, TypeDecorator, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import Boolean, TypeEngine


def among(column: InstrumentedAttribute[Any], values: Collection[str]) -> ColumnElement[bool]:
    """The condition that the text `column` is one of `values`."""
    return _Among(column, bindparam(None, values, type_=_Texts(), unique=True))


def among_pairs(
    one: InstrumentedAttribute[Any], other: InstrumentedAttribute[Any], pairs: Collection[tuple[str, str]]
) -> ColumnElement[bool]:
    """The condition that the texts `one` and `other` are one of `pairs`."""
    return _AmongPairs(one, other, bindparam(None, json.dumps(list(pairs)), type_=Text(), unique=True))


class _Texts(TypeDecorator[Collection[str]]):
    """Many texts as one value."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind: TypeEngine[Any] = ARRAY(Text()) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        return values if dialect.name == "postgresql" else json.dumps(values)


class _Condition(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002
        """As it is: SQLAlchemy would compare it with 1 in SQLite, which then looks up nothing in an index."""
        return self


class _Among(_Condition):
    inherit_cache = True


class _AmongPairs(_Condition):
    inherit_cache = True


@compiles(_Among)
def _in_json(element: _Among, compiler: SQLCompiler, **rest: Any) -> str:
    column, values = element.clauses
    found = f"SELECT value FROM json_each({compiler.process(values, **rest)})"  # noqa: S608 - nobody's input is in it
    return f"{compiler.process(column, **rest)} IN ({found})"


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: SQLCompiler, **rest: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **rest)} = ANY ({compiler.process(values, **rest)})"


@compiles(_AmongPairs)
def _pairs_in_json(element: _AmongPairs, compiler: SQLCompiler, **rest: Any) -> str:
    one, other, pairs = (compiler.process(clause, **rest) for clause in element.clauses)
    found = f"SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each({pairs})"  # noqa: S608
    return f"({one}, {other}) IN ({found})"


@compiles(_AmongPairs, "postgresql")
def _pairs_in_array(element: _AmongPairs, compiler: SQLCompiler, **rest: Any) -> str:
    one, other, pairs = (compiler.process(clause, **rest) for clause in element.clauses)
    found = f"SELECT value ->> 0, value ->> 1 FROM json_array_elements(CAST({pairs} AS json))"  # noqa: S608
    return f"({one}, {other}) IN ({found})"
