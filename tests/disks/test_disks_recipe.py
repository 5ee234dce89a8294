"""Recipes: what people write is read as meant, or refused with the reason."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.disks.recipe import LARGEST_RECIPE, GuestFile, read_recipe

EXAMPLES = Path(__file__).parent.parent.parent / "examples/disks"


def refused(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BitDewError) as caught:
        read_recipe(path)
    assert caught.value.key == "disk.recipe"
    return caught.value.why


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_among_the_examples_is_one(path):
    assert read_recipe(path).packages


def test_a_recipe_is_read_with_files_that_stand_beside_it(tmp_path):
    (tmp_path / "job").write_bytes(b"\0binary")
    (tmp_path / "r.toml").write_text(
        'name = "mine"\npip = ["root==0.1a12"]\nsize = "64MB"\nworker = false\n'
        '[[files]]\npath = "/opt/job"\nsource = "job"\nmode = "755"\n[[files]]\npath = "etc/motd"\ntext = "hello"\n'
    )
    recipe = read_recipe(tmp_path / "r.toml")
    assert (recipe.name, recipe.pip, recipe.size, recipe.worker) == ("mine", ("root==0.1a12",), 64 * 1024**2, False)
    job = GuestFile(PurePosixPath("opt/job"), b"\0binary", 0o755)
    assert recipe.files == (job, GuestFile(PurePosixPath("etc/motd"), b"hello", 0o644))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'name'"),
        ("name = ", "not TOML"),
        ('name = "a"\nnaem = 1', "'naem' is not known"),
        ('name = "a"\npackages = ["-oDebug=1"]', "'-oDebug=1' can't stand for 'packages'"),
        ('name = "a"\nsuite = "book worm"', "'suite'"),
        ('name = "a"\npip = ["root"]', "'pip'"),
        ('name = "a"\npip = ["--index-url==x"]', "'pip'"),
        ('name = "a"\nremove = ["../etc"]', "leads out"),
        ('name = "a"\nworker = "yes"', "true or false"),
        ('name = "a"\nsize = "huge"', "not a size"),
        ('name = "a"\nfiles = [{path = "../x", text = ""}]', "no path inside"),
        ('name = "a"\nfiles = [{path = "x"}]', "a text or a source"),
        ('name = "a"\nfiles = [{path = "x", text = "", mode = "4755"}]', "'mode'"),
        ('name = "a"\nfiles = "x"', "is a list"),
        (f"name = 'a'\npackages = {['a1'] * 501}", "at most 500"),
        ("#" * (LARGEST_RECIPE + 1), "more than"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_reason(tmp_path, text, why):
    assert why in refused(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BitDewError, match="does not exist"):
        read_recipe(tmp_path / "no.toml")


TOML = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(max_size=20).map(lambda t: t.replace("\0", ""))),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "suite", "kernel", "packages", "without", "worker", "pip", "modules", "remove", "files", "size")


@given(st.dictionaries(st.sampled_from(KEYS), TOML))
def test_no_value_of_any_key_leads_to_anything_but_a_recipe_or_a_refusal(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("garbage") / "r.toml"
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in values.items()), "utf-8", newline="")
    try:
        found = read_recipe(path).name
    except BitDewError as fault:
        found = fault.key
    assert found in ["disk.recipe", "disk.file-missing", "disk.file-unreadable", values.get("name")]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in str(value)) + '"'
