"""Requirement expressions: which hosts are eligible for a datum.

Owns the little language of `requires`. Grammar (also in docs/attributes.md):

    expression := term ("or" term)*
    term       := factor (("and" | ",") factor)*
    factor     := "not" factor | "(" expression ")" | test
    test       := name operator value | name ["not"] "in" "(" value ("," value)* ")"
    operator   := "=" | "==" | "!=" | "<" | "<=" | ">" | ">="

A name is `sharing` (true if any sharing has that name), `sharing.NAME` (its version), `host` (the host's name),
`cpus`, `memory`, `quota`, `free`, or else a label. Sizes may carry units (`memory >= 2GB`), versions are compared
number by number. A name that the host does not have makes a test false, `!=` and `not in` included: absence is never a
match.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .errors import BitDewError, error
from .host import HostFacts
from .units import parse_size

MOST_CHARACTERS: Final = 1024
MOST_DEPTH: Final = 32
_TOKEN: Final = re.compile(r"""\s*(?:(?P<op><=|>=|!=|==|[=<>(),])|(?P<text>"[^"]*")|(?P<word>[^\s=<>!(),"]+))""")
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SIZES: Final = frozenset({"memory", "quota", "free"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a host matches, and the first test that decided against it."""

    matches: bool
    reason: str = ""


class Requirement:
    """A parsed expression. Equal expressions have equal text; `str()` gives the text as it was written."""

    def __init__(self, text: str = "") -> None:
        """Parse `text`; an empty one matches every host.

        Raises:
            UserError: `attribute.requires`, with the position of the fault.
        """
        self.text = text.strip()
        self._node: _Node | None = _Parser(self.text).parse() if self.text else None

    def check(self, host: HostFacts) -> Verdict:
        """Whether `host` is eligible, and if not, why."""
        return self._node.check(host) if self._node else Verdict(matches=True)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Requirement({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requirement) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Node:
    def check(self, host: HostFacts) -> Verdict:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _All(_Node):
    parts: tuple[_Node, ...]

    def check(self, host: HostFacts) -> Verdict:
        return next((v for part in self.parts if not (v := part.check(host)).matches), Verdict(matches=True))


@dataclass(frozen=True, slots=True)
class _Any(_Node):
    parts: tuple[_Node, ...]

    def check(self, host: HostFacts) -> Verdict:
        verdicts = [part.check(host) for part in self.parts]
        if any(v.matches for v in verdicts):
            return Verdict(matches=True)
        return Verdict(matches=False, reason=" and ".join(v.reason for v in verdicts))


@dataclass(frozen=True, slots=True)
class _Not(_Node):
    part: _Node
    text: str

    def check(self, host: HostFacts) -> Verdict:
        if self.part.check(host).matches:
            return Verdict(matches=False, reason=f"it matches {self.text}")
        return Verdict(matches=True)


@dataclass(frozen=True, slots=True)
class _Test(_Node):
    name: str
    op: str
    values: tuple[str, ...]

    def check(self, host: HostFacts) -> Verdict:
        found = _values_of(self.name, host)
        wanted = (
            f"{self.name} {self.op} {self.values[0] if len(self.values) == 1 else '(' + ', '.join(self.values) + ')'}"
        )
        if not found:
            return Verdict(matches=False, reason=f"it has no {self.name}, wanted {wanted}")
        negated = self.op in {"not in", "!="}
        op = "=" if negated or self.op == "in" else self.op
        matches = negated != any(_compare(self.name, value, op, wish) for value in found for wish in self.values)
        return Verdict(matches, "" if matches else f"its {self.name} is {', '.join(found)}, wanted {wanted}")


def _values_of(name: str, host: HostFacts) -> list[str]:
    """What `host` has under `name`, as texts; several only for `sharing`."""
    if name == "sharing":
        return [sharing.name for sharing in host.sharings]
    if name.startswith("sharing."):
        return [s.version for s in host.sharings if s.name == name.removeprefix("sharing.")]
    if name == "host":
        return [host.name]
    if name in {"cpus", "memory", "quota", "free"}:
        return [str(getattr(host.resources, name))]
    return [host.labels[name]] if name in host.labels else []


def _version(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|[a-z]+", text.lower())]


def _compare(name: str, found: str, op: str, wanted: str) -> bool:
    if name in _SIZES:
        return _OPERATORS[op](int(found), parse_size(wanted))
    if name == "cpus":
        return _OPERATORS[op](int(found), int(wanted))
    if op == "=":
        return found == wanted
    return _OPERATORS[op](_version(found), _version(wanted))


@dataclass(frozen=True, slots=True)
class _Lexeme:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MOST_CHARACTERS:
            raise self._fault(f"it is longer than {MOST_CHARACTERS} characters", MOST_CHARACTERS)
        self.lexemes = self._lex()
        self.next = 0
        self.depth = 0

    def _fault(self, why: str, at: int) -> BitDewError:
        return error(
            "attribute.requires",
            f"The requirement can't be read at position {at + 1}: {self.text[max(0, at - 20) : at + 20]!r}",
            why=why,
            position=at + 1,
        )

    def _lex(self) -> list[_Lexeme]:
        found: list[_Lexeme] = []
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if not match or match.lastgroup is None:
                rest = self.text[at:].lstrip()
                raise self._fault("this character has no meaning here", len(self.text) - len(rest))
            kind = match.lastgroup
            found.append(_Lexeme(kind, match[kind].strip('"') if kind == "text" else match[kind], match.start(kind)))
            at = match.end()
        return found

    def _peek(self, *words: str) -> bool:
        if self.next >= len(self.lexemes):
            return False
        lexeme = self.lexemes[self.next]
        return lexeme.kind != "text" and lexeme.text.lower() in words

    def _take(self, *words: str) -> bool:
        if self._peek(*words):
            self.next += 1
            return True
        return False

    def _word(self, what: str) -> _Lexeme:
        if self.next < len(self.lexemes) and self.lexemes[self.next].kind != "op":
            self.next += 1
            return self.lexemes[self.next - 1]
        raise self._fault(f"{what} is expected", self._at())

    def _at(self) -> int:
        return self.lexemes[self.next].at if self.next < len(self.lexemes) else len(self.text)

    def parse(self) -> _Node:
        node = self._expression()
        if self.next < len(self.lexemes):
            raise self._fault("'and', 'or', ',' or the end is expected", self._at())
        return node

    def _expression(self) -> _Node:
        parts = [self._term()]
        while self._take("or"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def _term(self) -> _Node:
        parts = [self._factor()]
        while self._take("and", ","):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _factor(self) -> _Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self._fault(f"it is nested deeper than {MOST_DEPTH}", self._at())
        try:
            start = self._at()
            if self._take("not"):
                part = self._factor()
                return _Not(part, self.text[start + 3 : self._at()].strip())
            if self._take("("):
                node = self._expression()
                if not self._take(")"):
                    raise self._fault("')' is expected", self._at())
                return node
            return self._test()
        finally:
            self.depth -= 1

    def _test(self) -> _Node:
        name = self._word("a name").text
        if self._take("not"):
            if not self._take("in"):
                raise self._fault("'in' is expected", self._at())
            return _Test(name, "not in", self._list(name))
        if self._take("in"):
            return _Test(name, "in", self._list(name))
        if not self._peek(*_OPERATORS):
            raise self._fault("an operator is expected: = != < <= > >= in", self._at())
        op = self.lexemes[self.next].text
        self.next += 1
        return _Test(name, "=" if op == "==" else op, (self._value(name),))

    def _value(self, name: str) -> str:
        at = self._at()
        value = self._word("a value").text
        if name in _SIZES:
            try:
                parse_size(value)
            except BitDewError as fault:
                raise self._fault(fault.message, at) from None
        if name == "cpus" and not value.isdecimal():
            raise self._fault("a whole number is expected", at)
        return value

    def _list(self, name: str) -> tuple[str, ...]:
        if not self._take("("):
            raise self._fault("'(' is expected", self._at())
        values = [self._value(name)]
        while self._take(","):
            values.append(self._value(name))
        if not self._take(")"):
            raise self._fault("')' is expected", self._at())
        return tuple(values)
