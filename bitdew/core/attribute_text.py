r"""The one-line language of attributes: `attr root = { replica = 3, ft = true, lifetime = 7d }`.

Owns this spelling alone, both ways, without loss. Grammar (also in docs/attributes.md):

    line  := "attr" NAME "=" "{" [pair ("," pair)*] "}"
    pair  := KEY "=" value
    value := WORD | TEXT | "[" [item ("," item)*] "]"
    item  := WORD | TEXT

A WORD is anything without spaces, `,`, `=`, quotes, brackets or braces. A TEXT stands in double quotes; in it, `\"`,
`\\`, `\n`, `\r` and `\t` are a quote, a backslash, a new line, a carriage return and a tab. Numbers, `true` and `false`
are words; what takes a text takes either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from .attribute import Attribute
from .attribute_keys import checked_key, from_text, placed, twice
from .errors import BitDewError, error
from .ids import checked_name

MOST_CHARACTERS: Final = 20_000
"""More than the longest requirement and the most pins take."""

_TOKEN: Final = re.compile(
    r'[ \t]*(?:(?P<op>[,={}\[\]])|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[^\s,={}\[\]"]+)|(?P<end>$))'
)
_CHARACTER: Final = re.compile(r"\\(.)|[^\\]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
_ESCAPES: Final = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED: Final = str.maketrans({meant: f"\\{written}" for written, meant in _ESCAPES.items()})
_HOW: Final = "Write it like: attr root = { replica = 3, lifetime = 7d }"


def parse_line(text: str) -> tuple[str, Attribute]:
    """The name and the wishes that one line gives.

    Raises:
        UserError: `attribute.invalid` or `attribute.requires`, with the fault's position, counted from 1 in `text`.
    """
    return _Parser(text).line()


def write_line(name: str, attribute: Attribute) -> str:
    """The line that gives `attribute` under `name`.

    Raises:
        UserError: `input.invalid` for a name that no attribute can have.
    """
    checked_name(name, "name of an attribute")
    wishes = ", ".join(f"{key} = {_written(value)}" for key, value in attribute.to_dict().items())
    return f"attr {name} = {{ {wishes} }}" if wishes else f"attr {name} = {{}}"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return str(value) if isinstance(value, int) or _PLAIN.fullmatch(value) else quote(value)


def quote(text: str) -> str:
    """`text` in double quotes, with escapes: as this language and TOML both read it."""
    return f'"{text.translate(_ESCAPED)}"'


@dataclass(frozen=True, slots=True)
class _Lexeme:
    """A mark, a word, a text, or the end: what it says, from where to where, and where each character stands."""

    kind: str
    text: str
    at: int
    places: tuple[int, ...]
    """One for each character, and one behind the last."""

    @property
    def quoted(self) -> bool:
        return self.kind == "text"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text.rstrip()
        self.next = 0
        start = len(self.text) - len(self.text.lstrip())
        if len(self.text) > MOST_CHARACTERS:
            raise self._fault(f"it is longer than {MOST_CHARACTERS} characters", MOST_CHARACTERS)
        if control := _CONTROL.search(self.text, start):
            raise self._fault("an attribute is one line, without control characters", control.start())
        self.lexemes = [self._lexeme(start)]
        while self.lexemes[-1].kind != "end":
            self.lexemes.append(self._lexeme(self.lexemes[-1].places[-1] + self.lexemes[-1].quoted))

    def line(self) -> tuple[str, Attribute]:
        """All of it."""
        word = self._word("'attr'")
        if word.text != "attr" or word.quoted:
            raise self._fault("a line begins with 'attr'", word.at)
        named = self._word("the attribute's name")
        try:
            name = checked_name(named.text, "name of an attribute")
        except BitDewError as fault:
            raise self._fault(fault.why, named.at, "Choose another name.") from None
        self._expect("=")
        self._expect("{")
        wishes: dict[str, Any] = {}
        while not self._take("}"):
            if wishes:
                self._expect(",", "',' or '}' is expected")
            key, value = self._pair(wishes)
            wishes[key] = value
        if self._peek.kind != "end":
            raise self._fault("nothing is expected after '}'")
        return name, Attribute.from_dict(wishes)

    def _pair(self, before: dict[str, Any]) -> tuple[str, Any]:
        word = self._word("a key")
        try:
            key = checked_key(word.text)
        except BitDewError as fault:
            raise _at(fault, word.at) from None
        if key in before:
            raise _at(twice(key), word.at)
        self._expect("=")
        start = self._peek
        texts = self._items() if self._take("[") else self._single(key)
        try:
            value = texts if isinstance(texts, list) else from_text(key, texts, quoted=start.quoted)
            Attribute.from_dict({key: value})
        except BitDewError as fault:
            inside = fault.fields["position"] - 1 if fault.key == "attribute.requires" else None
            raise _at(fault, start.at if inside is None else start.places[inside]) from None
        return key, value

    def _single(self, key: str) -> str:
        """A value that is no list."""
        value = self._word(f"the value of {key}")
        if self._peek.kind == "end" or self._peek.text in {",", "}"}:
            return value.text
        raise self._fault(
            f"',' or '}}' is expected after the value of {key}", do=self._unquoted(key, value), attribute=key
        )

    def _unquoted(self, key: str, value: _Lexeme) -> str:
        """What to do about a value of several words without quotes."""
        end = next(one.at for one in self.lexemes[self.next :] if one.kind == "end" or one.text in {",", "}"})
        whole = self.text[value.at : end].strip()
        try:
            Attribute.from_dict({key: whole})
        except BitDewError as fault:
            if fault.key == "attribute.invalid":
                return fault.do
        return f"Write it in quotes: {key} = {quote(whole)}"

    def _items(self) -> list[str]:
        items: list[str] = []
        while not self._take("]"):
            if items:
                self._expect(",", "',' or ']' is expected after an item of a list")
            items.append(self._word("an item of the list").text)
        return items

    def _lexeme(self, at: int) -> _Lexeme:
        match = _TOKEN.match(self.text, at)
        if not match or match.lastgroup is None:
            at += len(self.text[at:]) - len(self.text[at:].lstrip(" \t"))
            if self.text[at] == '"':
                raise self._fault("this quote is not closed", at, 'Close it, and write a quote within it as \\"')
            raise self._fault("this character has no meaning here", at)
        kind, at = match.lastgroup, match.start(match.lastgroup)
        if kind != "text":
            return _Lexeme(kind, match[kind], at, tuple(range(at, match.end() + 1)))
        characters = list(_CHARACTER.finditer(self.text, at, match.end(kind)))
        for one in characters:
            if one[1] and one[1] not in _ESCAPES:
                raise self._fault("this escape means nothing", one.start(), 'There are \\", \\\\, \\n, \\r and \\t.')
        text = "".join(_ESCAPES[one[1]] if one[1] else one[0] for one in characters)
        return _Lexeme(kind, text, at - 1, (*(one.start() for one in characters), match.end(kind)))

    @property
    def _peek(self) -> _Lexeme:
        return self.lexemes[self.next]

    def _take(self, mark: str) -> bool:
        taken = self._peek.kind == "op" and self._peek.text == mark
        self.next += taken
        return taken

    def _expect(self, mark: str, why: str = "") -> None:
        if not self._take(mark):
            raise self._fault(why or f"{mark!r} is expected")

    def _word(self, what: str) -> _Lexeme:
        if self._peek.kind not in {"word", "text"}:
            raise self._fault(f"{what} is expected")
        self.next += 1
        return self.lexemes[self.next - 1]

    def _fault(self, why: str, at: int | None = None, do: str = _HOW, **fields: Any) -> BitDewError:
        at = self._peek.at if at is None else at
        return error(
            "attribute.invalid",
            f"The line can't be read at position {at + 1}: {self.text[max(0, at - 20) : at + 20]!r}",
            why=why,
            do=do,
            position=at + 1,
            **fields,
        )


def _at(fault: BitDewError, at: int) -> BitDewError:
    return placed(fault, f"at position {at + 1} of the line", position=at + 1)
