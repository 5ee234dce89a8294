"""`bitdew data watch`, as people and scripts see it, against a real service."""

import json


def test_what_happens_to_data_is_shown_and_gone_on_with_by_a_cursor(bitdew, daemon, home, tmp_path):
    daemon("serve", "--port", 0, home=home)
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        assert bitdew("data", "put", tmp_path / name, "--name", name, "--replica", 0).code == 0
    assert bitdew("data", "rm", "one").code == 0

    shown = bitdew("data", "watch", "--oldest", "--count", 3)
    assert [line.split(maxsplit=2)[2] for line in shown.out.splitlines()] == [
        "one: created",
        "two: created",
        "one: ended: operator removed it",
    ]
    script = ("data", "watch", "--kind", "created", "--cursor", "script", "--oldest", "--count", 1, "--json")
    lines = [json.loads(bitdew(*script).out) for _ in range(2)]
    assert [(line["kind"], line["name"], line["again"]) for line in lines] == [
        ("created", "one", False),
        ("created", "two", False),
    ]
    (only,) = [
        json.loads(line)
        for line in bitdew("data", "watch", "two", "--oldest", "--count", 1, "--json").out.split("\n")[:1]
    ]
    assert (only["name"], only["host"], only["size"]) == ("two", None, 3)
    assert bitdew("data", "watch", "--attr", "none", "--json").key == "attribute.not-found"
    assert bitdew("data", "watch", "--cursor", "a/b", "--json").key == "input.invalid"
