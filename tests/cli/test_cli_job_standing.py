"""What `--each` takes on the command line, before anything is asked of a service."""

import pytest

from bitdew.cli.job_standing import attribute_of
from bitdew.core.errors import BitDewError


def test_an_attribute_is_named_by_its_key():
    assert attribute_of("attr=events") == "events"
    assert attribute_of(" attr = events ") == "events"


@pytest.mark.parametrize("text", ["events", "attr", "attr=", "atr=events", "=events"])
def test_what_names_no_attribute_is_refused_with_what_to_write(text):
    with pytest.raises(BitDewError) as refusal:
        attribute_of(text)
    assert refusal.value.key == "input.invalid"
    assert "--each attr=events" in refusal.value.do


@pytest.mark.parametrize("other", [["--count", "3"], ["--wait"]])
def test_it_goes_with_no_array_and_is_not_waited_for(bitdew, other):
    ended = bitdew("job", "submit", "--each", "attr=events", *other, "--json", "--", "true")
    assert (ended.code, ended.key) == (2, "input.invalid")
