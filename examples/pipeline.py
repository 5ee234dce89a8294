"""A pipeline that events drive: whatever is put with the attribute `texts` has its words counted.

    python examples/pipeline.py

It may be ended and started again at any time: the cursor keeps how far it came, and nothing is missed. An event may
come twice, so that a count which is there already is left alone.
"""

import asyncio
from collections import Counter

import bitdew
from bitdew import Attribute, BitDewError, Event

dew = bitdew.connect()


@dew.on("created", attr="texts", cursor="word-count", since="oldest")
async def count(event: Event) -> None:
    """Count the words of one text, and put the counts beside it, for as long as the text lives."""
    words = Counter((await dew.read(event.data)).decode().split())
    lines = "".join(f"{word} {number}\n" for word, number in words.most_common())
    try:
        await dew.put(lines.encode(), Attribute(lifetime=event.name), name=f"{event.name}.counts")
    except BitDewError as fault:
        if fault.key != "disk.name-taken":
            raise
    print(f"{event.name}: {words.total()} words", flush=True)


async def main() -> None:
    """Count until interrupted."""
    async with dew:
        await dew.define("texts", Attribute(replica=2))
        await dew.react()


if __name__ == "__main__":
    asyncio.run(main())
