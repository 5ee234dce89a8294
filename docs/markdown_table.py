"""Tables in Markdown, for the pages that are made from the code."""

from __future__ import annotations


def cell(text: object) -> str:
    """`text` as a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(*head: str, rows: list[tuple[object, ...]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(cell(one) for one in row) + " |" for row in rows), ""]
