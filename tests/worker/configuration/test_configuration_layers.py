"""A setting's value is the one of the place that goes first, and what is no setting is refused with what was meant."""

from __future__ import annotations

import json
import typing

import pytest
from bitdew.worker.activity.rules import Rules
from bitdew.worker.configuration.desk import view
from bitdew.worker.configuration.keys import ACTIVITY, NAMED, VARIABLES, check_keys, leaves, merged
from bitdew.worker.configuration.layers import Layers, Source
from bitdew.worker.configuration.reading import read_environment, read_toml
from bitdew.worker.limits import LimitsChange, keep
from bitdew.worker.settings import WorkerSettings
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError, UserError

GB = 2**30


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def place(home):
    """Writes what each place says; what it gives is everything put together."""
    home.mkdir()

    def write(said=None, file="", **environment):
        (home / "worker.json").write_text(json.dumps({"name": "pc-7", **(said or {})}))
        if file:
            (home / "worker.toml").write_text(file)
        return Layers.read(home, environment)

    return write


def test_a_command_goes_before_the_environment_before_the_file_before_the_default(place):
    file = 'quota = "3GB"\nupload = "3MB"\nmachines = 3\n[activity]\nwhen = "idle"\nidle_minutes = 3'
    environment = {
        "BITDEW_WORKER_QUOTA": "2GB",
        "BITDEW_WORKER_UPLOAD": "2MB",
        "BITDEW_WORKER_ACTIVITY_WHEN": "logged-out",
    }
    layers = place({"quota": GB}, file, **environment)
    found = layers.settings()
    assert (found.quota, found.upload, found.machines, found.connections) == (GB, 2 * 2**20, 3, 500)
    assert (found.activity.when, found.activity.idle_minutes, found.activity.busy_percent) == ("logged-out", 3.0, 0)
    sources = {path: layer and layer.source for path in VARIABLES.values() for layer in [layers.origin(path)]}
    assert sources[("quota",)] is Source.COMMAND
    assert sources[("upload",)] is sources[("activity", "when")] is Source.ENVIRONMENT
    assert sources[("machines",)] is sources[("activity", "idle_minutes")] is Source.FILE
    assert sources[("connections",)] is sources[("activity", "busy_percent")] is None


def test_tables_are_put_together_name_by_name(place):
    file = '[labels]\nsite = "orsay"\nrack = "3"\n[sharings.root]\n[data.hep]\nupload = "1MB"\ndownload = "1MB"'
    layers = place(
        {"labels": {"site": "lyon"}, "data": {"hep": {"upload": 5}}, "sharings": {"numpy": {}}},
        file,
        BITDEW_WORKER_LABELS="floor=2, rack = 4",
        BITDEW_WORKER_SHARINGS="python3,root",
    )
    found = layers.settings()
    assert found.labels == {"site": "lyon", "rack": "4", "floor": "2"}
    assert found.sharings.keys() == {"numpy", "python3", "root"}
    assert (found.data["hep"].upload, found.data["hep"].download) == (5, 2**20)
    lines = {line.key: line for line in view(layers.home, None).settings}
    assert (lines["labels.site"].source, lines["labels.site"].value) == ("command", "lyon")


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["quota", "upload", "download", "memory"]), st.integers(0, 2**40)),
        min_size=3,
        max_size=3,
    )
)
def test_each_value_is_that_of_the_first_place_that_gives_it(tmp_path_factory, places):
    home = tmp_path_factory.mktemp("home")
    said, environment, file = places
    (home / "worker.json").write_text(json.dumps({"name": "pc", **said}))
    (home / "worker.toml").write_text("".join(f"{key} = {value}\n" for key, value in file.items()))
    layers = Layers.read(home, {f"BITDEW_WORKER_{key.upper()}": str(value) for key, value in environment.items()})
    found, default = layers.settings(), WorkerSettings(home=home, name="pc")
    for key in ("quota", "upload", "download", "memory"):
        giving = next((place for place in places if key in place), None)
        assert getattr(found, key) == (getattr(default, key) if giving is None else giving[key])
        layer = layers.origin((key,))
        order = [Source.COMMAND, Source.ENVIRONMENT, Source.FILE]
        assert (layer.source if layer else None) == (None if giving is None else order[places.index(giving)])


def test_all_kinds_of_values_can_be_given_by_variables(place):
    given = {
        "LISTEN": "127.0.0.1:6900",
        "MEMORY": "4GB",
        "CPUS": "3",
        "SCRUB_DAYS": "2.5",
        "HYPERVISORS": "qemu, virtualbox",
        "EXTRA_MODIFYVM": "--cpuexecutioncap; 50",
        "PUBLISHERS_DENY": "eve",
        "ACTIVITY_SCHEDULE": "sat,sun 00:00-24:00; mon-fri 20:00-07:00",
        "ACTIVITY_BATTERY": "true",
        "DATA": '{hep = {upload = "1MB"}}',
        "SHARINGS": '{solver = {command = ["/opt/solver", "-v"]}}',
        "QUOTA": "",
    }
    found = place(**{f"BITDEW_WORKER_{key}": value for key, value in given.items()}).settings()
    assert (found.listen, found.memory, found.cpus, found.scrub_days) == ("127.0.0.1:6900", 4 * GB, 3, 2.5)
    assert (found.hypervisors, found.extra_modifyvm) == (("qemu", "virtualbox"), ("--cpuexecutioncap", "50"))
    assert found.publishers_deny == ("eve",)
    assert found.activity.schedule == ("sat,sun 00:00-24:00", "mon,tue,wed,thu,fri 20:00-07:00")
    assert found.activity.battery is True
    assert found.data["hep"].upload == 2**20
    assert found.sharings["solver"].command == ("/opt/solver", "-v")
    assert found.quota == 20 * GB


@pytest.mark.parametrize(
    ("said", "file", "environment", "where", "do"),
    [
        ({}, "quotta = 1", {}, "worker.toml", "Did you mean quota?"),
        ({}, "[activity]\nwen = 'idle'", {}, "worker.toml", "Did you mean activity.when?"),
        ({}, "[sharings.solver]\ncomand = ['a']", {}, "worker.toml", "Did you mean sharings.solver.command?"),
        ({}, "[data.hep]\nuplod = 1", {}, "worker.toml", "Did you mean data.hep.upload?"),
        ({}, "xyzzy = 1", {}, "worker.toml", "See all: bitdew worker settings"),
        ({}, "home = '/'", {}, "worker.toml", ""),
        ({"qouta": 1}, "", {}, "worker.json", "Did you mean quota?"),
        ({}, "", {"BITDEW_WORKER_QOUTA": "1"}, "The environment", "Did you mean BITDEW_WORKER_QUOTA?"),
        ({}, "", {"BITDEW_WORKER_HOME": "/"}, "The environment", ""),
    ],
)
def test_what_is_no_setting_is_refused_with_the_nearest_that_is(place, said, file, environment, where, do):
    with pytest.raises(UserError) as refused:
        place(said, file, **environment)
    assert refused.value.key == "input.invalid"
    assert where in refused.value.message
    assert do in refused.value.do


@pytest.mark.parametrize(
    ("said", "file", "environment", "told"),
    [
        ({"quota": -1}, "", {}, "quota in {home}/worker.json"),
        ({}, "upload = 'fast'", {}, "upload in {home}/worker.toml"),
        ({}, "labels = 3", {}, "labels in {home}/worker.toml"),
        ({}, "[sharings.qemu]", {}, "sharings in {home}/worker.toml"),
        ({}, "", {"BITDEW_WORKER_CPUS": "many"}, "cpus in BITDEW_WORKER_CPUS"),
        ({}, "", {"BITDEW_WORKER_ACTIVITY_WHEN": "sometimes"}, "activity.when in BITDEW_WORKER_ACTIVITY_WHEN"),
    ],
)
def test_an_impossible_value_is_told_with_its_place(place, home, said, file, environment, told):
    with pytest.raises(UserError) as refused:
        place(said, file, **environment).settings()
    assert refused.value.message == f"{told.format(home=home)} is impossible"


@pytest.mark.parametrize("text", ["quota = ", "\x00", "a" * 300_000, "x = " + "[" * 5000])
def test_a_file_that_is_none_is_refused(place, home, text):
    with pytest.raises(UserError):
        place(file=text)


@pytest.mark.parametrize("text", ["[1, 2", "{a = 1}\nquota = 5", "{" * 3000])
def test_a_variable_that_is_half_a_table_is_refused(text):
    with pytest.raises(UserError, match="BITDEW_WORKER_DATA can't be read"):
        read_environment({"BITDEW_WORKER_DATA": text})


@given(st.dictionaries(st.sampled_from(sorted(VARIABLES)), st.text(max_size=60)))
def test_whatever_variables_say_is_taken_or_refused(tmp_path_factory, environment):
    home = tmp_path_factory.getbasetemp()
    try:
        found = Layers.read(home, environment, joined=False).settings()
        outcome = found.home == home
    except BitDewError as fault:
        outcome = fault.key == "input.invalid"
    assert outcome


KEYS = [".".join(path) for path in VARIABLES.values()]
ANYTHING = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def as_toml(value):
    """A value in TOML's inline form."""
    match value:
        case dict():
            return "{" + ", ".join(f"{as_toml(str(key))} = {as_toml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case float():
            return str(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
    return json.dumps(value)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3), st.dictionaries(st.sampled_from(KEYS), ANYTHING))
def test_whatever_files_say_is_taken_or_refused(tmp_path_factory, said, written):
    home = tmp_path_factory.mktemp("home")
    tree = {key: value for key, value in said.items() if "." not in key}
    (home / "worker.json").write_text(json.dumps({"name": "pc-7", **tree}))
    (home / "worker.toml").write_text("\n".join(f"{key} = {as_toml(value)}" for key, value in written.items()))
    try:
        outcome = Layers.read(home, {}).settings().home == home
    except BitDewError as fault:
        # A file that a setting names need not be there.
        outcome = bool(fault.do) and fault.key in {"input.invalid", "storage.failed"}
    assert outcome


@given(st.binary(max_size=200) | st.text(alphabet="[]{}=.\"'\\\n #abq0123", max_size=80).map(str.encode))
def test_whatever_bytes_are_in_the_files_are_taken_or_refused(tmp_path_factory, raw):
    home = tmp_path_factory.mktemp("home")
    for name in ("worker.toml", "worker.json"):
        (home / "worker.json").write_text('{"name": "pc-7"}')
        (home / name).write_bytes(raw)
        try:
            outcome = Layers.read(home, {}).settings().name == "pc-7"
        except BitDewError as fault:
            outcome = fault.key == "input.invalid"
        assert outcome


def test_the_home_of_nobody_is_no_place_for_a_file(place):
    with pytest.raises(UserError, match="leads nowhere"):
        place(BITDEW_WORKER_CONFIG="~no-such-user-of-this-machine/worker.toml")
    with pytest.raises(UserError, match="leads nowhere"):
        place(BITDEW_WORKER_SHARINGS_FILE="~no-such-user-of-this-machine/sharings.toml")


def test_the_file_that_is_named_goes_before_that_of_the_home_before_that_of_the_configuration(place, home, tmp_path):
    general = tmp_path / "config" / "bitdew" / "worker.toml"
    general.parent.mkdir(parents=True)
    general.write_text("machines = 1")
    assert place().settings().machines == 1
    assert place(file="cpus = 7").settings().machines == 0
    (tmp_path / "named.toml").write_text("machines = 3")
    assert place(BITDEW_WORKER_CONFIG=str(tmp_path / "named.toml")).settings().machines == 3
    with pytest.raises(UserError, match="is not there"):
        place(BITDEW_WORKER_CONFIG=str(tmp_path / "absent.toml"))


def test_a_disk_declares_sharings_which_everybody_else_can_replace(place, tmp_path):
    declared = tmp_path / "sharings.toml"
    declared.write_text("[root]\ncommand = ['/usr/bin/root-config', '--version']\n[numpy]\n")
    layers = place({"sharings": {"root": {}}}, BITDEW_WORKER_SHARINGS_FILE=str(declared))
    assert layers.settings().sharings["root"].command == ()
    assert layers.settings().sharings.keys() == {"root", "numpy"}
    lines = {line.source: line.key for line in view(layers.home, None).settings}
    assert lines["command"] == "sharings.root"
    declared.write_text("[solver]\nprogs = 1")
    with pytest.raises(UserError, match=r"sharings\.solver\.progs"):
        place(BITDEW_WORKER_SHARINGS_FILE=str(declared))


def test_commands_keep_what_they_say_and_nothing_of_other_places(place, home, monkeypatch):
    monkeypatch.setenv("BITDEW_WORKER_UPLOAD", "2MB")
    place({}, "machines = 3\n[labels]\nsite = 'orsay'\n[activity]\nwhen = 'idle'")
    assert keep(home, LimitsChange(quota=GB)).upload == 2 * 2**20
    keep(home, LimitsChange(download=7, data=["hep"]))
    assert json.loads((home / "worker.json").read_text()) == {
        "name": "pc-7",
        "quota": GB,
        "data": {"hep": {"download": 7}},
    }
    keep(home, LimitsChange(upload=2 * 2**20))  # said, though it is that already
    monkeypatch.delenv("BITDEW_WORKER_UPLOAD")
    assert WorkerSettings.load(home).upload == 2 * 2**20


def test_what_is_forgotten_is_what_it_is_elsewhere(place, home):
    place({"quota": GB, "activity": {"when": "idle", "busy_percent": 5}}, "quota = 7")
    found = keep(home, LimitsChange(forget=["quota", "activity.when"]))
    assert (found.quota, found.activity.when, found.activity.busy_percent) == (7, "always", 5)
    assert json.loads((home / "worker.json").read_text()) == {"name": "pc-7", "activity": {"busy_percent": 5}}
    with pytest.raises(UserError) as refused:
        keep(home, LimitsChange(forget=["upload"]))
    assert refused.value.why == "commands said activity, activity.busy_percent, name"


def test_what_another_place_shares_can_not_be_taken_back_by_a_command(place, home):
    place({}, "[sharings.root]")
    with pytest.raises(UserError) as refused:
        keep(home, LimitsChange(unshare=["root"]))
    assert refused.value.message == f"root of sharings stands in {home}/worker.toml"


async def test_a_running_worker_tells_where_its_settings_come_from_and_what_waits(
    service, start_worker, home, monkeypatch
):
    from bitdew.worker.adjusting import change_limits
    from bitdew.worker.configuration.desk import show_settings

    monkeypatch.setenv("BITDEW_WORKER_UPLOAD", "2MB")
    home.mkdir(exist_ok=True)
    (home / "worker.json").write_text('{"name": "pc-7"}')
    async with start_worker(upload=2 * 2**20) as started:
        await change_limits(home, LimitsChange(upload=5))
        (home / "worker.toml").write_text("scrub_days = 3")
        shown = await show_settings(home)
        lines = {line.key: line for line in shown.settings}
        assert shown.running
        assert (lines["upload"].value, lines["upload"].source, lines["upload"].pending) == (5, "command", False)
        assert (lines["scrub_days"].value, lines["scrub_days"].source, lines["scrub_days"].pending) == (
            3.0,
            "file",
            True,
        )
        await change_limits(home, LimitsChange(forget=["upload"]))
        assert started.worker.limits.settings.upload == 2 * 2**20
        lines = {line.key: line for line in (await show_settings(home)).settings}
        assert (lines["upload"].where, lines["upload"].source) == ("BITDEW_WORKER_UPLOAD", "environment")


# The names ------------------------------------------------------------------------------------------------------------


def test_every_table_among_the_settings_is_known_as_one():
    tables = {key for key, field in WorkerSettings.model_fields.items() if typing.get_origin(field.annotation) is dict}
    assert tables == set(NAMED)
    assert WorkerSettings.model_fields[ACTIVITY].annotation is Rules


@given(
    st.dictionaries(st.sampled_from(["quota", "upload"]), st.integers()),
    st.dictionaries(st.just("quota"), st.integers()),
)
def test_putting_nothing_over_something_changes_nothing(low, high):
    assert merged(low, {}) == low
    assert merged({}, high) == high
    assert dict(leaves(merged(low, high))) == {**dict(leaves(low)), **dict(leaves(high))}


def test_a_table_where_a_value_belongs_is_left_to_the_settings(place, tmp_path):
    check_keys({"activity": 3, "sharings": ["root"], "data": {"hep": 1}}, "here")
    (tmp_path / "x.toml").write_text("quota = {a = 1}")
    with pytest.raises(UserError, match="quota in"):
        place({"quota": read_toml(tmp_path / "x.toml")["quota"]}).settings()
