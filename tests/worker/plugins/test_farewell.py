"""When a host leaves for good, everybody is told once that nothing is held, and nobody is waited for long."""

from __future__ import annotations

import threading
import time

import pytest
from bitdew.worker.plugins import farewell as farewell_module
from bitdew.worker.plugins.contract import Plugin
from bitdew.worker.plugins.farewell import farewell
from bitdew.worker.settings import WorkerSettings


class Hearer(Plugin):
    def __init__(self):
        self.heard = []

    def started(self, held):
        self.heard.append(list(held))

    async def ended(self):
        self.heard.append("ended")


async def test_everybody_is_told_and_those_who_could_not_be_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(farewell_module, "SECONDS", 0.5)
    let_go, hearer, off = threading.Event(), Hearer(), Hearer()

    class Hanging(Plugin):
        def started(self, held):
            let_go.wait(30)

    settings = WorkerSettings(
        home=tmp_path,
        name="pc-7",
        plugins={"off": {"on": False}},
        bridges={"closed": {"kind": "xwhep", "url": "http://127.0.0.1:9"}},
    )
    began = time.monotonic()
    made = {"hearer": lambda: hearer, "off": lambda: off, "hanging": Hanging, "broken": lambda: None}
    assert await farewell(settings, made) == ["bridge/closed", "plug-in/broken", "plug-in/hanging"]
    assert time.monotonic() - began < 10
    assert (hearer.heard, off.heard) == ([[], "ended"], [])
    let_go.set()


@pytest.mark.parametrize("plugins", [None, {}])
async def test_where_nobody_is_to_be_told_nothing_happens(tmp_path, plugins):
    assert await farewell(WorkerSettings(home=tmp_path, name="pc-7"), plugins) == []


def test_plugins_and_bridges_can_be_set_in_the_file_of_settings(tmp_path):
    WorkerSettings(home=tmp_path, name="pc-7").save()
    (tmp_path / "worker.toml").write_text(
        """
[plugins.index.only]
data = ["hep-*"]
labels = { site = "orsay" }

[plugins.other]
on = false

[bridges.door]
kind = "xwhep"
url = "http://127.0.0.1:4327"
only = { attributes = ["root"] }
"""
    )
    settings = WorkerSettings.load(tmp_path)
    assert settings.plugins["index"].only.data == ("hep-*",)
    assert not settings.plugins["other"].on
    assert (settings.bridges["door"].kind, settings.bridges["door"].only.attributes) == ("xwhep", ("root",))
