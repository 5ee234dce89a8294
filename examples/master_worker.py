"""Count words in a large text on many hosts, a word for each job: python examples/master_worker.py TEXT to be or not.

The text goes to each host once, by swarm; the jobs go where it is, and each result comes back.
"""

import asyncio
import sys
from pathlib import Path

from bitdew import Attribute, BitDew, JobSpec

COUNT = "import sys; open('count', 'w').write(str(open('text').read().split().count(sys.argv[1])))"


async def main(text: Path, words: list[str]) -> None:
    """Ask for one job for each word, and print what they found."""
    async with BitDew.connect() as grid:
        datum = await grid.put(text, text.name, Attribute(replica=0))
        spec = JobSpec(("python3", "-c", COUNT, "{}"), outputs=("count",))
        jobs = await grid.submit(spec, inputs=[(datum.name, "text")], values=words)
        await grid.finished(jobs[0].array)
        async for one in grid.results(jobs[0].array, Path("counts")):
            print(f"{words[one.job.index]}: {one.path.read_text()}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
