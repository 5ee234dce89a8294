"""The blocking twin of the developer's API: `with bitdew.blocking.connect() as dew: ...`.

The same names, arguments, results and errors, without `async` and `await`. What is an asynchronous iterator there is an
iterator here.

>>> with bitdew.blocking.connect() as dew:
...     words = dew.put(b"some words", name="words")
...     for event in words.events():
...         if event.kind is bitdew.EventKind.HELD:
...             break
...     print(words.read(5))
b'words'
"""

from __future__ import annotations

from .dew import BlockingDatum, BlockingDew, connect

__all__ = ["BlockingDatum", "BlockingDew", "connect"]
