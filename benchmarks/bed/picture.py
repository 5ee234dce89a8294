"""A chart as SVG: lines over two logarithmic axes, and nothing more.

Owns the drawing. It must not measure or round what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 720
HEIGHT: Final = 420
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 44, 52
COLOURS: Final = ("#1f6f8b", "#c05621", "#2f855a", "#6b46c1", "#b83280")
"""Told apart in grey too, by the marks at the points."""
_MARKS: Final = (
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
    '<rect x="{l:.1f}" y="{t:.1f}" width="8" height="8" fill="{colour}"/>',
    '<path d="M{x:.1f} {t:.1f}l5 9h-10z" fill="{colour}"/>',
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis.

    Attributes:
        title: What it shows.
        ticks: Its marks, by their values.
        low: The value at its beginning.
        high: The value at its end.
    """

    title: str
    ticks: Mapping[float, str]
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where `value` is, from 0 to 1; what is beyond the axis is at its end."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(1.0, max(0.0, share))


def chart(
    title: str, across: Axis, up: Axis, lines: Mapping[str, Sequence[tuple[float, float]]], level: tuple[float, str]
) -> str:
    """The chart as a file's text. `level` is a value on the axis `up` where a line is drawn, with what it says."""
    inner, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return LEFT + across.place(point[0]) * inner, TOP + (1 - up.place(point[1])) * tall

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="sans-serif" font-size="13" fill="#333"><title>{escape(title)}</title>'
    )
    parts = [
        head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for value, text in across.ticks.items():
        x, _ = at((value, up.low))
        parts += [
            f'<path d="M{x:.1f} {TOP}V{TOP + tall}" stroke="#e5e5e5"/>',
            f'<text x="{x:.1f}" y="{TOP + tall + 18}" text-anchor="middle">{escape(text)}</text>',
        ]
    for value, text in up.ticks.items():
        _, y = at((across.low, value))
        parts += [
            f'<path d="M{LEFT} {y:.1f}H{LEFT + inner}" stroke="#e5e5e5"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>',
        ]
    _, y = at((across.low, level[0]))
    parts += [
        f'<path d="M{LEFT} {y:.1f}H{LEFT + inner}" stroke="#777" stroke-dasharray="5 4"/>',
        f'<text x="{LEFT + 6}" y="{y - 6:.1f}" fill="#777">{escape(level[1])}</text>',
        f'<text x="{LEFT + inner / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across.title)}</text>',
        f'<text transform="translate(16 {TOP + tall / 2}) rotate(-90)" text-anchor="middle">{escape(up.title)}</text>',
    ]
    for number, (name, points) in enumerate(lines.items()):
        colour, mark = COLOURS[number % len(COLOURS)], _MARKS[number % len(_MARKS)]
        placed = [at(point) for point in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = (LEFT + inner + 18, TOP + 12 + 24 * number)
        parts += [mark.format(x=x, y=y, l=x - 4, t=y - 4, colour=colour) for x, y in [*placed, legend]]
        parts.append(f'<text x="{legend[0] + 12}" y="{legend[1] + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
