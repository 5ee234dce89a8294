"""What a volunteer shares, with real processes: declared, tried, announced, withdrawn when it vanishes."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


def test_an_application_is_seen_at_the_service_while_it_is_there_and_data_follow_it(site, tmp_path):
    site.serve()
    worker = site.worker(1)
    home, tool = site.folder / "host1", tmp_path / "bin" / "solver"
    tool.parent.mkdir()

    def install(version: str) -> None:
        fresh = tool.with_suffix(".new")
        fresh.write_text(f"#!/bin/sh\necho Solver, release {version}\n")
        fresh.chmod(0o755)
        fresh.rename(tool)

    def seen() -> dict[str, str]:
        (host,) = site.run("host", "ls")["hosts"]
        return {one["name"]: one["version"] for one in host["sharings"] if one["name"] == "solver"}

    install("2.9/04")
    command = ["--command", f"{tool} --version", "--program", tool]
    added = site.run("worker", "share", "add", "solver", *command, "--home", home)
    assert (added["running"], added["sharings"][0]["version"]) == (True, "2.9.04")
    site.until(lambda: seen() == {"solver": "2.9.04"})

    # A datum for hosts with a newer one waits, and comes as soon as the volunteer has installed that.
    file = tmp_path / "mesh.bin"
    file.write_bytes(b"mesh" * 1000)
    site.run("data", "put", file, "--name", "mesh", "--replica", 1, "--requires", "sharing.solver >= 2.10")
    assert site.where("mesh")["placements"] == []
    install("2.10")
    site.until(lambda: seen() == {"solver": "2.10"}, 20)
    site.until(lambda: [one["state"] for one in site.where("mesh")["placements"]] == ["held"])

    began = time.monotonic()
    tool.unlink()
    site.until(lambda: seen() == {}, 20)
    assert time.monotonic() - began < 15
    (shown,) = [one for one in site.run("worker", "share", "ls", "--home", home)["sharings"] if one["name"] == "solver"]
    assert (shown["offered"], shown["why"]) == (False, f"{tool} is not there, or can't be run")

    # What is declared is kept over a kill.
    worker.kill()
    install("3.0")
    site.worker(1)
    site.until(lambda: seen() == {"solver": "3.0"})
    site.run("worker", "share", "rm", "solver", "--home", home)
    site.until(lambda: seen() == {})


def test_settings_come_from_the_environment_and_a_file_and_the_host_is_looked_over(site):
    site.serve()
    site.environment |= {"BITDEW_WORKER_QUOTA": "3GB", "XDG_CONFIG_HOME": str(site.folder / "config")}
    general = site.folder / "config" / "bitdew" / "worker.toml"
    general.parent.mkdir(parents=True)
    general.write_text('quota = "5GB"\nmachines = 2\n[labels]\nsite = "orsay"\n[sharings.python3]\n')
    worker = site.worker(1, "--label", "rack=7")
    home = site.folder / "host1"
    (host,) = site.until(lambda: [one for one in site.run("host", "ls")["hosts"] if one["state"] == "alive"])
    assert host["quota"] == 3 * 2**30
    assert {"site": "orsay", "rack": "7"}.items() <= host["labels"].items()
    assert "python3" in {one["name"] for one in host["sharings"]}

    def source(key: str) -> str:
        shown = site.run("worker", "settings", "--home", home)["settings"]
        return {one["key"]: one["source"] for one in shown}[key]

    # The worker's own environment counts, and not that of the command.
    del site.environment["BITDEW_WORKER_QUOTA"]
    places = ("quota", "machines", "labels.rack", "labels.site", "cpus")
    assert [source(key) for key in places] == ["environment", "file", "command", "file", "default"]
    assert site.run("worker", "limits", "--quota", "4GB", "--home", home)["quota"]["cap"] == 4 * 2**30
    assert source("quota") == "command"
    checked = site.run("worker", "check", "--home", home)
    assert (checked["ready"], checked["running"]) == (True, True)
    worker.kill()
    general.write_text('quotta = "5GB"')
    failed = site.run("worker", "run", "--home", home, code=2)
    assert failed["error"]["do"] == "Did you mean quota?"
    assert site.run("worker", "check", "--home", home, code=1)["ready"] is False
