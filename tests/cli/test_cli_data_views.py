"""How data and the reasons for their places look to a person."""

from datetime import UTC, datetime

import pytest

from bitdew.cli.data_views import explained, one_datum, placements, summary
from bitdew.cli.documents import DataPut, DiskAdded, put_document
from bitdew.cli.output import Output
from bitdew.wire.models import DataView, DiskView, ErrorView, ExplainReply, HostVerdict, PlacementView, WhereReply

NOON = datetime(2027, 1, 2, 12, tzinfo=UTC)
UID, ROOT = "a" * 32, "b" * 64


def view(kind=DataView, **changes):
    about = {"uid": UID, "name": "hep", "root": ROOT, "info_hash": ROOT, "size": 2048, "created": NOON, "owner": "ada"}
    about |= {"attribute": {}, "wanted": 2, "held": 1, "intended": 1, "egress": 0}
    return kind(**(about | changes))


@pytest.fixture
def shown(capsys):
    """What is printed of parts for people."""

    def print_all(*parts):
        output = Output(as_json=False)
        for part in parts:
            output.show(part)
        return capsys.readouterr().out

    return print_all


def test_an_explanation_tells_numbers_wishes_hosts_and_what_is_next(shown):
    verdicts = [("pc-1", "holds", "verified"), ("pc-2", "displaced", "its site is lyon"), ("pc-3", "refused", "full")]
    reply = ExplainReply(
        data=view(attribute={"replica": 2, "ft": True}, attribute_name="root"),
        wanted=2,
        held=1,
        intended=0,
        missing=1,
        attribute=["replica: two copies on distinct hosts"],
        lifetime="it ends on 2027-01-09",
        hosts=[HostVerdict(host=UID, host_name=n, verdict=v, reason=r) for n, v, r in verdicts],
        next=["a copy is placed once a host fits"],
        when=NOON,
    )
    lines = [" ".join(line.split()) for line in shown(*explained(reply)).splitlines()]
    assert lines == [
        "hep: 2 wanted, 1 held, 0 on their way, 1 missing",
        "Attribute root: replica = 2, ft = true",
        "replica: two copies on distinct hosts",
        "Lifetime: it ends on 2027-01-09",
        "HOST VERDICT REASON",
        "pc-1 holds verified",
        "pc-2 displaced its site is lyon",
        "pc-3 refused full",
        "Next: a copy is placed once a host fits",
        "Looked at again at 2027-01-02 12:00:00 UTC, or as soon as something changes.",
    ]


def test_a_datum_without_wishes_or_hosts_is_explained_too(shown):
    reply = ExplainReply(data=view(wanted=-1), wanted=-1, held=0, intended=0, missing=0, hosts=[], next=[])
    assert shown(*explained(reply)).splitlines() == [
        "hep: all wanted, 0 held, 0 on their way, 0 missing",
        "Wishes: none",
        "No host has joined.",
        "Next: nothing, until something changes.",
    ]


def test_a_datum_that_ended_tells_when_and_why_and_what_hosts_had_back(shown):
    ended = view(alive=False, died=NOON, died_because="hep ends: its lifetime ended", ends=NOON, held=1)
    end = "its life ended at 2027-01-02 12:00:00 UTC: its lifetime ended"
    verdicts = [("pc-1", "holds", "to be dropped"), ("pc-2", "refused", "the datum was removed")]
    reply = ExplainReply(
        data=ended,
        wanted=0,
        held=0,
        intended=0,
        missing=0,
        attribute=["replica: two copies on distinct hosts"],
        hosts=[HostVerdict(host=UID, host_name=n, verdict=v, reason=r) for n, v, r in verdicts],
        next=["drop from pc-1"],
    )
    assert [" ".join(line.split()) for line in shown(*explained(reply)).splitlines()] == [
        f"hep: {end}; 1 held still",
        "HOST VERDICT REASON",
        "pc-1 holds to be dropped",
        "Next: drop from pc-1",
    ]
    assert summary(WhereReply(version=1, data=ended, placements=[])) == f"hep: {end}; 0 copies left, 0 B freed on hosts"
    text = shown(one_datum(ended))
    assert f"ended      {end}" in text
    assert "wanted" not in text


def test_a_datum_shows_what_it_has_and_no_empty_rows(shown):
    text = shown(one_datum(view(ends=NOON, awaited=True)))
    assert "2.0 KB (2048 bytes)" in text
    assert "ends        2027-01-02 12:00 UTC" in text
    assert "waits for the bytes" in text
    assert "publisher" not in text
    assert "attribute" not in text
    recorded = {"format": "raw", "os": "Debian", "arch": "x86_64", "version": "7", "publisher": "ada", "expires": NOON}
    text = shown(one_datum(view(DiskView, damaged=True, attribute_name="root", held=0, **recorded)))
    for part in ("raw", "Debian", "ada", "root", "damaged: add the original file again"):
        assert part in text
    why = ErrorView(key="storage.rotten", message="It changed", why="its file is gone")
    text = shown(one_datum(view(damaged=True, damage=why, held=2)))
    assert "damaged: its file is gone; it is mended from the hosts that hold it" in text
    # A list leaves the record out.
    assert "publisher" not in shown(one_datum(view(is_disk=True)))


def test_copies_tell_what_they_gave_back_when_dropped_and_what_was_on_the_host_already(shown):
    def copy(state, freed=0, reused=0):
        return PlacementView(
            host=UID,
            host_name="pc-1",
            state=state,
            since=NOON,
            done=0,
            size=2048,
            from_repository=0,
            from_peers=0,
            freed=freed,
            reused=reused,
            cause="",
        )

    reply = WhereReply(version=1, data=view(), placements=[copy("held")])
    assert "FREED" not in shown(placements(reply))
    reply = WhereReply(version=1, data=view(), placements=[copy("held"), copy("gone", 2048)])
    assert "FREED" in (text := shown(placements(reply)))
    assert text.splitlines()[-1].split()[-2:] == ["2.0", "KB"]
    assert "REUSED" not in text
    reply = WhereReply(version=1, data=view(), placements=[copy("held"), copy("held", reused=2048)])
    assert "REUSED" in (text := shown(placements(reply)))
    assert text.splitlines()[-1].split()[-2:] == ["2.0", "KB"]


def test_a_datum_whose_bytes_have_not_come_says_how_they_come():
    reply = WhereReply(version=1, data=view(awaited=True), placements=[])
    assert summary(reply).endswith("bitdew data put FILE --name hep")
    assert summary(WhereReply(version=1, data=view(), placements=[])).startswith("hep: 1 held of 2 wanted")


def test_each_step_of_a_command_has_a_bar_and_says_quarters_where_nobody_watches(capsys):
    with Output(as_json=False).steps("Reading", "Sending") as (reading, sending):
        for done in range(0, 101, 5):
            reading(done, 100)
        sending(100, 100)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["Reading"] * 5 + ["Sending"]


def test_bars_of_later_steps_appear_when_those_begin(monkeypatch):
    output = Output(as_json=False)
    monkeypatch.setattr(Output, "live", property(lambda _self: True))
    output.err.file = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115 - closed below
    seen = []
    from rich.progress import Progress

    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, task, **how: (update(self, task, **how), seen.append(visible(self)))
    )

    def visible(bars):
        return [task.description for task in bars.tasks if task.visible]

    try:
        with output.steps("Reading", "Sending") as (reading, sending):
            reading(1, 2)
            sending(1, 2)
    finally:
        output.err.file.close()
    assert seen == [["Reading"], ["Reading", "Sending"]]


def test_a_disk_that_is_put_like_any_datum_is_told_as_a_disk():
    recorded = {"format": "raw", "os": "Debian", "arch": "x86_64", "version": "7", "publisher": "ada", "expires": NOON}
    disk = view(DiskView, **recorded)
    where = WhereReply(version=1, data=disk, placements=[])
    assert put_document(disk, None) == DiskAdded(**dict(disk))
    assert put_document(view(), where) == DiskAdded(**dict(disk), placements=[])
    assert put_document(view(), None) == DataPut(**dict(view()))
