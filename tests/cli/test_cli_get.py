"""`bitdew data get`, as people see it, against a real service."""


def test_people_are_told_what_came_where_and_what_was_fetched_of_it(bitdew, daemon, home, tmp_path):
    daemon("serve", "--port", 0, home=home)
    top = tmp_path / "run"
    top.mkdir()
    (top / "notes").write_text("a line\n")
    with (top / "sparse").open("wb") as file:
        file.truncate(2 * 2**20)
    put = bitdew("data", "put", top, "--name", "run", "--replica", 0)
    assert (put.code, "run is in the repository" in put.out) == (0, True)
    assert "a folder, which travels as its archive" in bitdew("data", "show", "run").out

    got = bitdew("data", "get", "run", tmp_path / "back")
    assert (got.code, (tmp_path / "back" / "notes").read_text()) == (0, "a line\n")
    assert f"{tmp_path / 'back'} is run: 2.0 MB; " in got.out
    assert "of it were fetched" in got.out
    assert "Fetching run: 100 %" in got.err
    assert "Unpacking run: 100 %" in got.err

    again = bitdew("data", "get", "run", tmp_path / "back")
    assert (again.code, "--force" in again.err) == (4, True)
    assert bitdew("data", "get", "run", tmp_path / "back", "--force", "--json").document["data"]["kind"] == "folder"
    assert bitdew("data", "get", "none", "--json").key == "data.not-found"
