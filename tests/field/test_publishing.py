"""Publishing by the real command to a real service: whatever is killed on the way, nothing has to come twice."""

from __future__ import annotations

import json
import random
import signal

import pytest

from bitdew.core.content import ContentHasher

from .conftest import begun, ended

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MB = 2**20
SIZE = 192 * MB


@pytest.fixture
def file(tmp_path):
    """Many megabytes, and what they are."""
    path, hasher = tmp_path / "large", ContentHasher(SIZE)
    with path.open("wb") as raw:
        for number in range(SIZE // MB):
            chunk = random.Random(number).randbytes(MB)
            hasher.update(chunk)
            raw.write(chunk)
    return path, hasher.finish().root


def repository(site):
    return next(site.folder.rglob("repository"))


def recorded(site):
    """How many pieces are there to stay: an entry of 36 bytes is zeros until its piece is."""
    records = [path.read_bytes() for path in repository(site).glob("uploads/*.pieces")]
    return sum(any(record[at : at + 36]) for record in records for at in range(0, len(record), 36))


def settled(site):
    """The same, once the service has noticed that the line broke."""
    counts = [recorded(site)]

    def is_still():
        counts.append(recorded(site))
        return len(counts) > 8 and len(set(counts[-8:])) == 1

    site.until(is_still)
    return counts[-1]


def partial(site):
    """The file in which the bytes are collected."""
    (upload,) = repository(site).glob("uploads/*.upload")
    return upload.with_suffix("").stat().st_ino


def kept(site, root):
    return (repository(site) / "files" / root).stat().st_ino


@pytest.mark.parametrize("group", ["data put", "disk add"])
def test_a_command_that_is_killed_goes_on_where_it_was_though_the_service_is_killed_too(site, file, group):
    site.serve()
    path, root = file
    command, before, first = [*group.split(), path, "--name", "large", "--replica", "0"], 0, None
    for number in (signal.SIGKILL, signal.SIGINT):
        sending = begun(site, *command)
        site.until(lambda now=before: recorded(site) > now)
        sending.send_signal(number)
        code, _out = ended(sending)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        before, collected = settled(site), partial(site)
        assert first in {None, collected}
        first = collected
    site.service.kill()
    site.serve()
    assert partial(site) == first
    assert site.run(*command)["root"] == root
    assert kept(site, root) == first
    assert list((repository(site) / "uploads").iterdir()) == []


def test_a_command_outlasts_a_service_that_is_killed_and_started_again(site, file):
    site.serve()
    path, root = file
    sending = begun(site, "data", "put", path, "--name", "large", "--replica", "0")
    site.until(lambda: recorded(site))
    site.service.kill()
    first = partial(site)
    site.serve()
    code, out = ended(sending)
    assert (code, json.loads(out).get("root")) == (0, root), out
    assert kept(site, root) == first
