"""Requirement expressions: which hosts are eligible for a datum.

Owns the little language of `requires`. Grammar (also in docs/attributes.md):

    expression := term ("or" term)*
    term       := factor (("and" | ",") factor)*
    factor     := "not" factor | "(" expression ")" | test
    test       := name operator value | name ["not"] "in" "(" value ("," value)* ")" | "sharing." NAME
    operator   := "=" | "==" | "!=" | "<" | "<=" | ">" | ">="

A name is `sharing` (any sharing: `sharing = root`, or with its version `sharing >= "root 6.40"`), `sharing.NAME` (that
sharing's version; alone, that there is that sharing), `host` (the host's name), `cpus`, `memory`, `quota`, `free`, or
else a label. Sizes may carry units (`memory >= 2GB`), versions are compared number by number. A name that the host does
not have makes a test false, `!=` and `not in` included: absence is never a match.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from .errors import BitDewError, error
from .host import HostFacts, Sharing
from .units import format_size, parse_size

MOST_CHARACTERS: Final = 1024
MOST_DEPTH: Final = 32
_TOKEN: Final = re.compile(r"""\s*(?:(?P<op><=|>=|!=|==|[=<>(),])|(?P<text>"[^"]*")|(?P<word>[^\s=<>!(),"]+))""")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MEANT: Final = {
    "&": "and",
    "&&": "and",
    "|": "or",
    "||": "or",
    "eq": "=",
    "equals": "=",
    "is": "=",
    "ge": ">=",
    "gt": ">",
    "le": "<=",
    "lt": "<",
    "ne": "!=",
}
"""What people write who know another language."""
_SIZES: Final = frozenset({"memory", "quota", "free"})
_FIGURES: Final = _SIZES | {"cpus"}
_NOTHING: Final[frozenset[str]] = frozenset()
_TAKEN_BY_COPIES: Final = frozenset({"free"})
"""What a copy itself changes at the host that holds it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a host matches, and the first test that decided against it."""

    matches: bool
    reason: str = ""


_MATCH: Final = Verdict(matches=True)


class Requirement:
    """A parsed expression. Equal expressions have equal text; `str()` gives the text as it was written."""

    def __init__(self, text: str = "") -> None:
        """Parse `text`; an empty one matches every host.

        Raises:
            UserError: `attribute.requires`, with the position of the fault, counted from 1 in `text`.
        """
        self.text = text.strip()
        self._node: _Node | None = _Parser(text.rstrip()).parse() if self.text else None

    def check(self, host: HostFacts) -> Verdict:
        """Whether `host` is eligible for a copy, and if not, why."""
        return self._verdict(host, _NOTHING)

    def stays(self, host: HostFacts) -> Verdict:
        """Whether a copy that `host` has already may stay there, and if not, why.

        Tests of `free` can't be judged there, since the copy itself takes of it: they count as unknown (three-valued
        logic, Kleene 1938), and only what is false whatever they were tells a copy to go.
        """
        return self._verdict(host, _TAKEN_BY_COPIES)

    def _verdict(self, host: HostFacts, unknown: frozenset[str]) -> Verdict:
        truth, reason = self._node.judge(host, unknown) if self._node else _TRUE
        return Verdict(matches=False, reason=reason) if truth is False else _MATCH

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Requirement({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requirement) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


# Meaning --------------------------------------------------------------------------------------------------------------

_Judgement = tuple[bool | None, str]
"""True, false with the reason, or None for unknown."""
_TRUE: Final[_Judgement] = (True, "")
_UNKNOWN: Final[_Judgement] = (None, "")


class _Node:
    def judge(self, host: HostFacts, unknown: frozenset[str]) -> _Judgement:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _All(_Node):
    parts: tuple[_Node, ...]

    def judge(self, host: HostFacts, unknown: frozenset[str]) -> _Judgement:
        result = _TRUE
        for part in self.parts:
            judged = part.judge(host, unknown)
            if judged[0] is False:
                return judged
            if judged[0] is None:
                result = judged
        return result


@dataclass(frozen=True, slots=True)
class _Any(_Node):
    parts: tuple[_Node, ...]

    def judge(self, host: HostFacts, unknown: frozenset[str]) -> _Judgement:
        reasons: list[str] = []
        for part in self.parts:
            truth, reason = part.judge(host, unknown)
            if truth:
                return _TRUE
            if truth is False:
                reasons.append(reason)
        return (False, " and ".join(reasons)) if len(reasons) == len(self.parts) else _UNKNOWN


@dataclass(frozen=True, slots=True)
class _Not(_Node):
    part: _Node
    text: str

    def judge(self, host: HostFacts, unknown: frozenset[str]) -> _Judgement:
        truth, _ = self.part.judge(host, unknown)
        if truth is None:
            return _UNKNOWN
        return (False, f"it matches {self.text}") if truth else _TRUE


@dataclass(frozen=True, slots=True)
class _Test(_Node):
    """One test; without an operator, of a sharing's presence. `figures` are the values of what is a number."""

    name: str
    op: str
    values: tuple[str, ...] = ()
    figures: tuple[int, ...] = ()

    def judge(self, host: HostFacts, unknown: frozenset[str]) -> _Judgement:
        if self.name in unknown:
            return _UNKNOWN
        if not self.op:
            there = any(sharing.name == self.name.removeprefix("sharing.") for sharing in host.sharings)
            return _TRUE if there else (False, f"it has no {self.name}")
        compare = _OPERATORS["=" if self.op in {"!=", "in", "not in"} else self.op]
        if self.name in _FIGURES:
            figure = getattr(host.resources, self.name)
            exact = f" ({figure} bytes)" if figure >= 1024 else ""
            size = f"{format_size(figure)}{exact}" if self.name in _SIZES else str(figure)
            found, met = [size], any(compare(figure, wish) for wish in self.figures)
        elif self.name == "sharing":
            met = any(_shares(sharing, compare, wish) for sharing in host.sharings for wish in self.values)
            versions = any(" " in wish for wish in self.values)
            found = [f"{s.name} {s.version}".rstrip() if versions else s.name for s in host.sharings]
        else:
            found = _texts_of(self.name, host)
            met = any(_compare(text, compare, wish) for text in found for wish in self.values)
        if not found:
            return False, f"it has no {self.name}, wanted {self}"
        if met is not (self.op in {"!=", "not in"}):
            return _TRUE
        return False, f"its {self.name} is {', '.join(found)}, wanted {self}"

    def __str__(self) -> str:
        listed = f"({', '.join(self.values)})" if self.op in {"in", "not in"} else self.values[0]
        return f"{self.name} {self.op} {listed}"


def _test(name: str, op: str, values: list[tuple[str, int]]) -> _Test:
    return _Test(name, op, tuple(text for text, _ in values), tuple(figure for _, figure in values))


def _texts_of(name: str, host: HostFacts) -> list[str]:
    """What `host` has under `name`, as texts; several only for the versions of one sharing, as far as it knows them."""
    if name.startswith("sharing."):
        return [s.version for s in host.sharings if s.name == name.removeprefix("sharing.") and s.version]
    if name == "host":
        return [host.name]
    return [host.labels[name]] if name in host.labels else []


def _shares(sharing: Sharing, compare: Callable[[Any, Any], bool], wish: str) -> bool:
    """Whether `sharing` is the one that `wish` names, with the version that it may name after a space."""
    name, _, version = wish.strip().partition(" ")
    if not version:
        return _compare(sharing.name, compare, name)
    return sharing.name == name and bool(sharing.version) and _compare(sharing.version, compare, version.strip())


def _compare(found: str, compare: Callable[[Any, Any], bool], wanted: str) -> bool:
    return compare(found, wanted) if compare is operator.eq else compare(_version(found), _version(wanted))


def _version(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|[a-z]+", text.lower())]


# Reading --------------------------------------------------------------------------------------------------------------


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
        if fault := _UNPRINTABLE.search(text):
            raise self._fault("this character has no meaning anywhere", fault.start())
        self.lexemes = self._lex()
        self.next = 0
        self.depth = 0

    def _fault(self, why: str, at: int, *, near: str = "") -> BitDewError:
        return error(
            "attribute.requires",
            f"The requirement can't be read at position {at + 1}: {self.text[max(0, at - 20) : at + 20]!r}",
            why=why,
            do=f"Did you mean {near!r}?" if near else "",
            position=at + 1,
        )

    def _near(self, *words: str) -> str:
        """The one of `words` that stands here, misspelt; "" if none does."""
        if self.next >= len(self.lexemes):
            return ""
        text = self.lexemes[self.next].text.lower()
        return _MEANT.get(text, "") or next(iter(get_close_matches(text, words, n=1)), "")

    def _lex(self) -> list[_Lexeme]:
        found: list[_Lexeme] = []
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if not match or match.lastgroup is None:
                rest = self.text[at:].lstrip()
                after_name = found and found[-1].kind != "op" and found[-1].text.lower() not in {"and", "or", "not"}
                near = ("!=" if after_name else "not") if rest.startswith("!") else ""
                raise self._fault("this character has no meaning here", len(self.text) - len(rest), near=near)
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
        before = self.lexemes[self.next - 1].text if self.next else ""
        turned = before == "=" and self._peek("<", ">")  # `=>` and `=<`
        near = f"{self.lexemes[self.next].text}=" if turned else ""
        raise self._fault(f"{what} is expected", self._at(), near=near)

    def _at(self) -> int:
        return self.lexemes[self.next].at if self.next < len(self.lexemes) else len(self.text)

    def parse(self) -> _Node:
        node = self._expression()
        if self.next < len(self.lexemes):
            near = self._near("and", "or")
            raise self._fault("'and', 'or', ',' or the end is expected", self._at(), near=near)
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
                raise self._fault("'in' is expected", self._at(), near=self._near("in"))
            return _test(name, "not in", self._list(name))
        if self._take("in"):
            return _test(name, "in", self._list(name))
        if self._peek(*_OPERATORS):
            op = self.lexemes[self.next].text
            self.next += 1
            return _test(name, "=" if op == "==" else op, [self._value(name)])
        if name.removeprefix("sharing.") not in {name, ""}:
            return _Test(name, "")
        near = self._near("in", "not")
        raise self._fault("an operator is expected: = != < <= > >= in", self._at(), near=near)

    def _value(self, name: str) -> tuple[str, int]:
        """A value as written, and the figure that it stands for if `name` is that of one."""
        at = self._at()
        value = self._word("a value").text
        if name in _SIZES:
            try:
                return value, parse_size(value)
            except BitDewError as fault:
                raise self._fault(fault.message, at) from None
        if name != "cpus":
            return value, 0
        if not value.isdecimal():
            raise self._fault("a whole number is expected", at)
        return value, int(value)

    def _list(self, name: str) -> list[tuple[str, int]]:
        if not self._take("("):
            raise self._fault("'(' is expected", self._at())
        values = [self._value(name)]
        while self._take(","):
            values.append(self._value(name))
        if not self._take(")"):
            raise self._fault("')' is expected", self._at())
        return values
