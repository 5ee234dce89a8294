"""What people get wrong, and what machines do to them: one clear error with the next step, and nothing is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(180)]
MB = 2**20


@pytest.fixture
def serving(site):
    site.serve()
    return site


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.raw"
    path.write_bytes(os.urandom(2 * MB))
    return path


def refused(site, *arguments, key, code):
    """The command ends with this key and exit code, and says what, and what to do."""
    fault = site.run(*arguments, code=code)["error"]
    assert fault["key"] == key, fault
    assert fault["message"]
    assert fault["do"]
    return fault


def names(site):
    return [disk["name"] for disk in site.run("disk", "ls")["disks"]]


def test_a_missing_an_empty_and_an_unreadable_file(serving, tmp_path):
    empty = tmp_path / "empty.raw"
    empty.touch()
    refused(serving, "disk", "add", tmp_path / "nowhere", "--name", "a", key="disk.file-missing", code=3)
    refused(serving, "disk", "add", empty, "--name", "a", key="disk.empty", code=2)
    refused(serving, "disk", "add", tmp_path, "--name", "a", key="input.invalid", code=2)
    assert names(serving) == []


def test_a_file_that_may_not_be_read(serving, image):
    image.chmod(0)
    # The superuser reads everything, unless it gives that power away.
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    fault = serving.run("disk", "add", image, "--name", "a", code=5, prefix=powerless)["error"]
    assert fault["key"] == "disk.file-unreadable"
    assert names(serving) == []


def test_a_name_that_is_taken_keeps_the_first(serving, image, tmp_path):
    root = serving.run("disk", "add", image, "--name", "hep")["root"]
    other = tmp_path / "other.raw"
    other.write_bytes(os.urandom(MB))
    refused(serving, "disk", "add", other, "--name", "hep", key="disk.name-taken", code=4)
    assert serving.run("disk", "show", "hep")["root"] == root


def test_a_disk_that_changes_while_it_is_added(serving, tmp_path):
    image = tmp_path / "changing.raw"
    image.write_bytes(os.urandom(64 * MB))
    stop = threading.Event()

    def scribble():
        while not stop.wait(0.005):
            with image.open("r+b") as file:
                file.seek(63 * MB)
                file.write(os.urandom(16))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        refused(serving, "disk", "add", image, "--name", "moving", key="disk.changed", code=8)
    finally:
        stop.set()
        writer.join()
    assert names(serving) == []
    serving.run("disk", "add", image, "--name", "moving")  # it is still now, and nothing is in the way
    assert names(serving) == ["moving"]


def test_a_full_disk_at_the_repository(site, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = site.folder / "home"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", small], check=True)
    try:
        daemon = site.serve()
        fits, large = tmp_path / "fits.raw", tmp_path / "large.raw"
        fits.write_bytes(os.urandom(2 * MB))
        large.write_bytes(os.urandom(80 * MB))
        site.run("disk", "add", fits, "--name", "fits")
        refused(site, "disk", "add", large, "--name", "large", key="storage.full", code=7)
        assert names(site) == ["fits"]
        assert daemon.stop() == 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_disk_at_a_host_is_the_reason_that_people_see(serving, tmp_path):
    serving.worker(1, "--quota", "4MB")
    image = tmp_path / "image.raw"
    image.write_bytes(os.urandom(8 * MB))
    serving.run("disk", "add", image, "--name", "big")
    explained = serving.until(lambda: (told := serving.run("disk", "explain", "big"))["hosts"] and told)
    assert explained["missing"] == 1
    assert "quota" in explained["hosts"][0]["reason"]


def test_a_port_in_use_and_a_home_in_use(serving):
    port = serving.service.ready["url"].rpartition(":")[2]
    home = serving.folder / "second"
    refused(serving, "serve", "--home", home, "--port", port, key="port.in-use", code=7)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        swarm = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(serving, "serve", "--home", home, "--port", 0, "--swarm", swarm, key="port.in-use", code=7)
    refused(serving, "serve", "--port", 0, key="storage.locked", code=7)


def test_tokens_that_are_used_expired_mistyped_or_of_another_service(serving, commands, tmp_path):
    url = serving.service.ready["url"]
    once = serving.run("token", "create", "--role", "worker")["token"]

    def join(home, token, **expected):
        arguments = ["worker", "join", url, "--token", token, "--home", tmp_path / home, "--enrol-only"]
        return refused(serving, *arguments, **expected) if expected else serving.run(*arguments)

    join("first", once)
    join("second", once, key="token.used", code=5)
    short = serving.run("token", "create", "--role", "worker", "--expires", "1s")["token"]
    time.sleep(1.2)
    join("third", short, key="token.expired", code=5)
    join("fourth", once[:-5], key="token.invalid", code=5)
    join("fifth", "nonsense", key="token.invalid", code=5)
    user = serving.run("token", "create", "--role", "user")["token"]
    join("sixth", user, key="certificate.role", code=5)

    other = type(serving)(tmp_path / "other", commands)
    other.folder.mkdir()
    other.serve()
    try:
        foreign = other.run("token", "create", "--role", "worker")["token"]
        join("seventh", foreign, key="token.foreign", code=5)
        # The profile of one service shown to another: what it gets is refused before anything is sent.
        joined = other.run("disk", "ls", "--profile", "default")
        assert joined["disks"] == []
        theirs = other.folder / "home" / "profiles" / "default" / "service.json"
        theirs.write_text(theirs.read_text().replace(other.service.ready["url"], url))
        refused(other, "disk", "ls", key="certificate.foreign", code=5)
    finally:
        other.end()


def test_a_wrong_url_and_a_stopped_service(serving, tmp_path):
    token = serving.run("token", "create", "--role", "worker")["token"]

    def join(url, key, code):
        home = tmp_path / "host"
        refused(serving, "worker", "join", url, "--token", token, "--home", home, "--enrol-only", key=key, code=code)

    join("https://127.0.0.1:1", "service.unreachable", 6)
    join("not a url", "input.invalid", 2)
    join(serving.service.ready["url"].replace("https", "http"), "input.invalid", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def hang_up():
            while True:
                try:
                    connection, _ = silent.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
                connection.close()

        answering = threading.Thread(target=hang_up)
        answering.start()
        join(f"https://127.0.0.1:{silent.getsockname()[1]}", "service.not-bitdew", 6)
        silent.shutdown(socket.SHUT_RDWR)
    answering.join()
    assert serving.service.stop() == 0
    refused(serving, "disk", "ls", key="service.unreachable", code=6)
    serving.serve()
    serving.run(
        "worker", "join", serving.service.ready["url"], "--token", token, "--home", tmp_path / "host", "--enrol-only"
    )


def test_a_corrupted_piece_is_never_held_and_its_source_is_named(serving, tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(os.urandom(8 * MB))
    root = serving.run("disk", "add", image, "--name", "hep")["root"]
    stored = serving.folder / "home" / "service" / "repository" / "files" / root
    with stored.open("r+b") as file:
        file.seek(4 * MB)
        file.write(os.urandom(1000))
    serving.worker(1)
    serving.until(lambda: serving.run("disk", "show", "hep")["damaged"])
    where = serving.where("hep")
    assert where["data"]["held"] == 0
    assert "damaged" in str(serving.run("disk", "explain", "hep")["next"]) + str(where["data"])
    serving.run("disk", "add", image, "--name", "again", "--replica", 0)
    serving.until(lambda: serving.where("hep")["data"]["held"] == 1)
    assert serving.copy(1, root).read_bytes() == image.read_bytes()
