"""A datum that is held and gets another attribute is told, or taken back, by those who choose by attributes."""

from __future__ import annotations

import pytest
from bitdew.worker.plugins import naming
from bitdew.worker.plugins.contract import Plugin


class Recorder(Plugin):
    def __init__(self):
        self.told = []

    def held(self, copy):
        self.told.append(("held", copy.name, copy.attribute))

    def dropping(self, copy):
        self.told.append(("dropping", copy.name, copy.attribute))


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(naming, "AGAIN_SECONDS", 0.1)


async def test_another_attribute_is_told_and_taken_back_and_kept(service, start_worker, disk_bytes, until, often):
    data = await service.publish(disk_bytes(9000), "root")
    chosen = {"plugins": {"some": {"only": {"attributes": ["hep"]}}}}
    some, every = Recorder(), Recorder()
    async with start_worker(plugins={"some": lambda: some, "every": lambda: every}, settings=chosen) as started:
        service.place(data)
        await until(lambda: every.told == [("held", "root", "")])
        service.attributes[data.uid] = "hep"
        await until(lambda: some.told == [("held", "root", "hep")])
        await until(lambda: every.told[1:] == [("held", "root", "hep")])
        del service.attributes[data.uid]
        await until(lambda: some.told[1:] == [("dropping", "root", "hep")])
        service.attributes[data.uid] = "hep"
        await until(lambda: len(some.told) == 3)
        await service.down()
        assert not started.task.done()
    again = Recorder()
    async with start_worker(plugins={"some": lambda: again}, settings=chosen) as started:
        teller = started.worker.audience
        await until(lambda: teller.members and teller.members["plug-in/some"].teller.told.state == "told")
        assert teller.members["plug-in/some"].teller.told.known == 1


async def test_where_nobody_chooses_by_attributes_nothing_is_asked(service, start_worker, disk_bytes, until, often):
    data, every = await service.publish(disk_bytes(9000), "root"), Recorder()
    async with start_worker(plugins={"every": lambda: every}):
        service.place(data)
        await until(lambda: every.told)
        for _ in range(3):
            await service.until_state(data.uid, "held")
        assert service.named == 0
