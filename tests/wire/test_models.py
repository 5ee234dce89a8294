"""What crosses the wire is frozen, refuses what it does not know, and is bounded where callers send it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from bitdew.core.errors import ERRORS, error
from bitdew.core.host import Endpoint, HostFacts, Resources, Sharing
from bitdew.core.ids import HostId
from bitdew.rooms import all_routes
from bitdew.wire import limits, models
from bitdew.wire.models import (
    AttributeChoice,
    AttributeRequest,
    Count,
    DataRequest,
    DataView,
    DatumRequest,
    DeployRequest,
    DiskRequest,
    DiskView,
    EnrolRequest,
    ErrorReply,
    ErrorView,
    HostReport,
    MachineReport,
    Model,
    NameText,
    Nothing,
    PlacementReport,
    RecordModel,
    SyncRequest,
    TokenRequest,
    UploadRequest,
    WhereReply,
)

MODELS = sorted(
    (m for m in vars(models).values() if isinstance(m, type) and issubclass(m, Model)), key=lambda m: m.__name__
)
UID, ROOT = "a" * 32, "b" * 64


# Every model ----------------------------------------------------------------------------------------------------------


def test_every_model_is_frozen_and_refuses_unknown_keys_and_what_is_no_number() -> None:
    assert len(MODELS) > 40
    for model in MODELS:
        config = model.model_config
        assert config["frozen"], model
        assert config["extra"] == "forbid", model
        assert not config["allow_inf_nan"], model


BOUNDS = {
    "string": {"maxLength", "pattern"},  # the patterns of names, uids and roots have a length
    "integer": {"maximum"},
    "number": {"maximum"},
    "array": {"maxItems"},
    "object": {"maxProperties"},
    "boolean": {"type"},
    "null": {"type"},
}
"""What bounds a value of each type of JSON; any of these does."""


def unbounded(schema: dict[str, Any], where: str) -> Iterator[str]:
    """The places in a field's JSON schema where a value of any size would be taken. Models are looked at themselves."""
    if {"$ref", "enum", "const"} & schema.keys():
        return
    if "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from unbounded(part, where)
        return
    if not BOUNDS.get(schema.get("type", ""), set()) & schema.keys():
        yield where
    for part in parts_of(schema):
        yield from unbounded(part, f"{where}[]")


def parts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of a list's items, of an object's keys, and of its values."""
    if schema.get("type") == "array":
        yield schema["items"]
    elif schema.get("type") == "object":
        patterns = schema.get("patternProperties", {})
        yield from patterns.values()
        if not patterns:
            yield {"type": "string", **schema.get("propertyNames", {})}
            values = schema.get("additionalProperties", True)
            yield {} if values is True else values


def unbounded_fields(model: type[BaseModel]) -> set[str]:
    """All such places in `model` and the models that it holds."""
    whole = model.model_json_schema(mode="validation")
    models = {model.__name__: whole, **whole.get("$defs", {})}
    return {
        place
        for name, schema in models.items()
        for field, part in schema.get("properties", {}).items()
        for place in unbounded(part, f"{name}.{field}")
    }


def test_everything_that_a_caller_sends_is_bounded() -> None:
    asked = {route.body for route in all_routes()}
    assert {EnrolRequest, DiskRequest, DataRequest, SyncRequest} <= asked
    assert set().union(*map(unbounded_fields, asked)) == {
        # Any value of 32 keys: the core's `Attribute` refuses what it does not know.
        "AttributeChoice.attribute[]",
        "AttributeRequest.wishes[]",
        "DatumRequest.attribute[]",
        "DescribedDiskRequest.attribute[]",
        "DiskRequest.attribute[]",
        "PutRequest.attribute[]",
        "SubmitRequest.results[]",
        "UploadRequest.attribute[]",
        "WholeRequest.attribute[]",
        "ErrorView.fields",  # bounded as a whole, which a schema can't say; see below
        "ErrorView.fields[]",
    }


def test_the_search_for_what_is_unbounded_finds_it() -> None:
    class Inner(Model):
        text: str

    class Careless(Model):
        data: bytes
        number: int
        seconds: float
        texts: list[str]
        labels: dict[str, str]
        anything: Any
        maybe: str | None
        pair: list[Inner]
        bounded: NameText
        counted: Count

    assert {place.partition(".")[2] for place in unbounded_fields(Careless)} == {
        "text", "data", "number", "seconds", "texts", "texts[]", "labels", "labels[]", "anything", "maybe", "pair"
    }  # fmt: skip


# Bounds ---------------------------------------------------------------------------------------------------------------

REPORT = {"name": "pc-1", "swarm": "10.0.0.1:1", "cpus": 1, "memory": 1, "quota": 1, "used": 0, "free": 1}
PLACEMENT = {"uid": UID, "root": ROOT, "state": "held", "generation": 0}
MACHINE = {"uid": UID, "state": "running", "generation": 0}
SYNC = {"boot": UID, "generation": 0}
DATUM = {"name": "d", "root": ROOT, "size": 1, "attribute": "root"}
RECORD = {"payload": "e30=", "signature": "eA==", "certificate": "pem"}
WHOLE: list[tuple[type[Model], dict[str, Any]]] = [
    (Nothing, {}),
    (EnrolRequest, {"secret": "s", "name": "pc-1", "identity_csr": "pem"}),
    (TokenRequest, {"role": "worker"}),
    (UploadRequest, {"name": "debian-12", "size": 1}),
    (DiskRequest, {"upload": UID, "record": RECORD}),
    (DatumRequest, DATUM),
    (DataRequest, {"data": [DATUM]}),
    (AttributeRequest, {"wishes": {"replica": 3}}),
    (AttributeChoice, {"attribute": {"replica": 3}}),
    (HostReport, REPORT),
    (PlacementReport, PLACEMENT),
    (MachineReport, MACHINE),
    (SyncRequest, SYNC),
    (DeployRequest, {"disk": "debian-12"}),
    (ErrorView, {"key": "internal", "message": "m"}),
    (RecordModel, RECORD),
]


@pytest.mark.parametrize(("model", "body"), WHOLE, ids=[model.__name__ for model, _ in WHOLE])
def test_a_request_is_read_again_as_it_was_sent_and_a_key_too_many_is_refused(
    model: type[Model], body: dict[str, Any]
) -> None:
    read = model.model_validate_json(json.dumps(body))
    assert model.model_validate_json(read.model_dump_json()) == read
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate_json(json.dumps({**body, "surplus": 1}))
    for key in body:
        with pytest.raises(ValidationError):
            setattr(read, key, None)


@pytest.mark.parametrize(
    ("model", "body", "change"),
    [
        (UploadRequest, {"name": "d", "size": 1}, {"name": "d\n"}),
        (UploadRequest, {"name": "d", "size": 1}, {"name": "../etc"}),
        (UploadRequest, {"name": "d", "size": 1}, {"name": "d" * 129}),
        (UploadRequest, {"name": "d", "size": 1}, {"size": -1}),
        (UploadRequest, {"name": "d", "size": 1}, {"size": limits.LARGEST_DISK + 1}),
        (TokenRequest, {"role": "worker"}, {"role": "swarm"}),
        (TokenRequest, {"role": "worker"}, {"uses": 0}),
        (TokenRequest, {"role": "worker"}, {"seconds": 0}),
        (TokenRequest, {"role": "worker"}, {"seconds": float("nan")}),
        (TokenRequest, {"role": "worker"}, {"note": "n" * 201}),
        (DiskRequest, {"upload": UID, "record": RECORD}, {"upload": UID.upper()}),
        (DiskRequest, {"upload": UID, "record": RECORD}, {"attribute": {str(n): n for n in range(33)}}),
        (DatumRequest, DATUM, {"root": ROOT[:-1]}),
        (DatumRequest, DATUM, {"root": ROOT.upper()}),
        (DatumRequest, DATUM, {"size": -1}),
        (DatumRequest, DATUM, {"attribute": "a b"}),
        (DatumRequest, DATUM, {"attribute": 3}),
        (DatumRequest, DATUM, {"attribute": {"k" * 65: 1}}),
        (DataRequest, {"data": [DATUM]}, {"data": []}),
        (DataRequest, {"data": [DATUM]}, {"data": [DATUM] * (limits.BATCH + 1)}),
        (AttributeRequest, {"wishes": {}}, {"wishes": {str(n): n for n in range(33)}}),
        (AttributeChoice, {"attribute": {}}, {"attribute": None}),
        (RecordModel, RECORD, {"payload": "A" * (limits.RECORD * 2)}),
        (RecordModel, RECORD, {"payload": "not base64!"}),
        (HostReport, REPORT, {"cpus": 0}),
        (HostReport, REPORT, {"memory": 2**53 + 1}),
        (HostReport, REPORT, {"labels": {"a b": "x"}}),
        (HostReport, REPORT, {"labels": {"a": "x" * 201}}),
        (HostReport, REPORT, {"labels": {f"l{n}": "x" for n in range(101)}}),
        (HostReport, REPORT, {"sharings": [{"name": "a"}] * 101}),
        (HostReport, REPORT, {"swarm": "1" * 65}),
        (PlacementReport, PLACEMENT, {"state": "there"}),
        (PlacementReport, PLACEMENT, {"root": ROOT[:-1]}),
        (PlacementReport, PLACEMENT, {"seconds": float("inf")}),
        (PlacementReport, PLACEMENT, {"seconds": -1}),
        (PlacementReport, PLACEMENT, {"generation": -1}),
        (PlacementReport, PLACEMENT, {"reason": {"key": "internal", "message": "m" * (limits.TEXT + 1)}}),
        (PlacementReport, PLACEMENT, {"reason": {"key": "k", "message": "", "fields": {"x": "x" * limits.FIELDS}}}),
        (MachineReport, MACHINE, {"console": {"offset": 0, "text": "x" * (limits.CONSOLE_CHUNK + 1)}}),
        (PlacementReport, PLACEMENT, {"reason": {"key": "k", "message": "", "fields": {"x": float("nan")}}}),
        (SyncRequest, SYNC, {"wait": limits.LONGEST_POLL + 1}),
        (SyncRequest, SYNC, {"wait": float("nan")}),
        (SyncRequest, SYNC, {"placements": [PLACEMENT] * (limits.PLACEMENTS + 1)}),
        (SyncRequest, SYNC, {"machines": [MACHINE] * (limits.MACHINES + 1)}),
        (DeployRequest, {"disk": "d"}, {"count": limits.MACHINES_PER_DEPLOYMENT + 1}),
        (DeployRequest, {"disk": "d"}, {"memory": 1}),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(model: type[Model], body: dict[str, Any], change: dict[str, Any]) -> None:
    model.model_validate_json(json.dumps(body))
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps({**body, **change}))


def test_the_largest_sync_fits_into_a_body() -> None:
    full = {**PLACEMENT, "done": limits.LARGEST_DISK, "size": limits.LARGEST_DISK, "seconds": 12345.678}
    assert len(json.dumps({**SYNC, "placements": [full] * limits.PLACEMENTS})) < limits.BODY


def test_the_largest_batch_of_data_fits_into_a_body() -> None:
    longest = {"name": "n" * 128, "root": ROOT, "size": limits.LARGEST_DISK, "attribute": "a" * 128}
    assert len(json.dumps({"data": [longest] * limits.BATCH})) < limits.BODY
    page = DataView(**(VIEW | {"name": "n" * 128, "attribute": {"requires": "x" * 1024}}))
    assert len(page.model_dump_json()) * limits.PAGE < limits.REPLY


VIEW = {
    "uid": UID,
    "name": "d",
    "root": ROOT,
    "info_hash": ROOT,
    "size": 1,
    "created": "2026-01-01T00:00:00Z",
    "owner": "ada",
    "attribute": {},
    "wanted": 1,
    "held": 0,
    "intended": 0,
    "egress": 0,
}
RECORDED = {"format": "raw", "os": "", "arch": "", "version": "1", "publisher": "p", "expires": "2027-01-01T00:00:00Z"}


def test_where_a_disk_is_tells_its_record_and_where_a_datum_is_has_none() -> None:
    for view in (DataView(**VIEW), DiskView(**VIEW, **RECORDED)):
        sent = WhereReply(version=1, data=view, placements=[])
        assert type(WhereReply.model_validate_json(sent.model_dump_json()).data) is type(view)


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_a_record_is_the_same_bytes_at_the_other_end(payload: bytes, signature: bytes) -> None:
    model = RecordModel(payload=payload, signature=signature, certificate="pem")
    signed = RecordModel.model_validate_json(model.model_dump_json()).to_signed()
    assert (signed.payload, signed.signature, signed.certificate) == (payload, signature, "pem")
    assert RecordModel.of(signed) == model


def test_a_hosts_report_is_what_the_planner_sees() -> None:
    report = HostReport(
        name="pc-1",
        swarm="[::1]:6881",
        cpus=4,
        memory=8,
        quota=100,
        used=10,
        free=50,
        labels={"site": "lyon"},
        sharings=[{"name": "root", "version": "6.40"}, {"name": "qemu", "version": "7.2"}],
    )
    assert report.to_endpoint() == Endpoint("::1", 6881)
    assert report.to_facts(HostId(UID)) == HostFacts(
        HostId(UID),
        "pc-1",
        Resources(4, 8, 100, 10, 50),
        {"site": "lyon"},
        (Sharing("qemu", "7.2"), Sharing("root", "6.40")),
    )


# Errors ---------------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["self", "key", "message", "kind", "path", "size", "fields", "cls"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)


@given(st.sampled_from(sorted(ERRORS)), TEXTS, TEXTS, TEXTS, st.dictionaries(NAMES, PLAIN, max_size=3))
def test_an_error_is_the_same_at_the_other_end(
    key: str, message: str, why: str, do: str, fields: dict[str, Any]
) -> None:
    sent = error(key, message, why=why, do=do, **fields)
    reply = ErrorReply(error=ErrorView.of(sent)).model_dump_json()
    received = ErrorReply.model_validate_json(reply).error.to_error()
    assert type(received) is type(sent)
    assert (received.key, received.message, received.why, received.do) == (key, message, why, sent.do)
    assert received.fields == fields


def test_an_error_of_a_newer_release_keeps_its_words() -> None:
    received = ErrorView(key="host.on-fire", message="It burns", do="Run.", fields={"why": 1, "do": 2}).to_error()
    assert (received.key, received.message, received.do, received.fields) == ("internal", "It burns", "Run.", {})


@given(st.text(), st.text(), st.dictionaries(NAMES, st.text() | st.floats(), max_size=3))
def test_any_text_can_be_told_even_names_of_files_that_are_no_unicode(
    message: str, why: str, fields: dict[str, Any]
) -> None:
    told = {**fields, "path": "/disks/\udce4.img"}
    view = ErrorView.of(error("storage.failed", message + "\udcff", why=why, **told))
    read = ErrorView.model_validate_json(view.model_dump_json())
    assert read.fields["path"] == "/disks/?.img"
    assert read.message.endswith("?")


def test_what_json_has_no_form_for_is_told_by_its_text() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    view = ErrorView.of(error("internal", "m", path=Path("/x"), since=moment, state=st, share=float("nan")))
    assert view.fields == {"path": "/x", "since": str(moment), "state": str(st), "share": None}
    assert ErrorView.model_validate_json(view.model_dump_json()) == view


def test_an_error_is_cut_to_its_bounds_and_can_always_be_sent() -> None:
    huge = "x" * 1_000_000
    view = ErrorView.of(error("internal", huge, why=huge, do=huge, small=1, large=huge, last=2))
    assert {len(text) for text in (view.message, view.why, view.do)} == {limits.TEXT}
    assert view.fields == {"small": 1}
    assert ErrorView.model_validate_json(view.model_dump_json()) == view
