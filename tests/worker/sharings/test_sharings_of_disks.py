"""The disks whose recipes are shipped declare what they have for jobs, so that the worker inside can read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bitdew.worker.configuration.layers import Layers
from bitdew.worker.sharings.declaration import trial_of

from bitdew.disks.recipe import read_recipe

RECIPES = Path(__file__).parents[3] / "examples/disks"


@pytest.mark.parametrize(("recipe", "names"), [("worker.toml", {"python3"}), ("root.toml", {"python3", "root"})])
def test_what_a_recipe_declares_is_read_by_the_worker(tmp_path, monkeypatch, recipe, names):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (declared,) = [one for one in read_recipe(RECIPES / recipe).files if one.path.name == "sharings.toml"]
    assert str(declared.path) == "etc/bitdew/sharings.toml"
    (tmp_path / "sharings.toml").write_bytes(declared.content)
    around = {"BITDEW_WORKER_SHARINGS_FILE": str(tmp_path / "sharings.toml")}
    found = Layers.read(tmp_path / "home", around, joined=False).settings().sharings
    assert found.keys() == names
    assert all(trial_of(name, one).programs == ("python3",) for name, one in found.items())
