"""Recipes: what they hold, and that every mistake in one is told by name."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from labkit.models import SleepConfig
from labkit.recipes import Recipe, list_recipes, load_recipe

TOML = """
description = "Six nodes, for tests"
seeds = [0, 3]

[task]
kind = "depo"
nodes = 6
hops = 2

[model]
dim = 16
pattern = ["delta"]

[training]
steps = 30
passes = [1, 3]
betas = [0.8, 0.9]

[curriculum]
threshold = 0.7
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own that holds the recipe `tiny`."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TOML)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    return tmp_path


def test_a_recipe_is_read_with_its_defaults(data: Path) -> None:
    recipe = load_recipe("tiny")
    assert (recipe.name, recipe.seeds) == ("tiny", [0, 3])
    assert recipe.training.passes_range == (1, 3) and recipe.training.betas == (0.8, 0.9)
    assert recipe.training.batch_size == 64 and recipe.training.muon_lr == 0.01
    assert recipe.curriculum.threshold == 0.7 and recipe.curriculum.start == 1
    task = recipe.make_task()
    assert (task.name, task.max_depth, task.window) == ("depo", 2, 12)
    config = recipe.make_config(task)
    assert config == SleepConfig(vocab=8, window=12, dim=16, pattern=("delta",))


def test_a_fixed_number_of_passes_is_a_range_of_one(data: Path) -> None:
    path = data / "recipes" / "fixed.toml"
    path.write_text(TOML.replace("[1, 3]", "4"))
    assert load_recipe("fixed").training.passes_range == (4, 4)
    assert load_recipe(path) == load_recipe("fixed")  # by path, too
    assert list_recipes() == ["fixed", "tiny"]


def test_a_recipe_survives_json(data: Path) -> None:
    recipe = load_recipe("tiny")
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


MISTAKES: list[tuple[tuple[str, ...], Any, str]] = [
    (("training", "stpes"), 3, "Unknown key 'stpes' in [training]. The nearest known one is 'steps'."),
    (("trainig",), {}, "Unknown key 'trainig'. The nearest known one is 'training'."),
    (("curriculum", "treshold"), 0.5, "The nearest known one is 'threshold'."),
    (("model", "dimm"), 32, "[model]: Unknown key 'dimm'. The nearest known one is 'dim'."),
    (("task", "nods"), 8, "did you mean 'nodes'?"),
    (("task", "kind"), "deppo", "did you mean 'depo'?"),
    (("task", "kind"), 4, "It needs a kind"),
    (("task", "nodes"), 3, "[task]: "),
    (("model", "vocab"), 9, "'vocab' comes from the task"),
    (("model", "window"), 9, "'window' comes from the task"),
    (("model", "dim"), 15, "[model]: dim=15 must be a multiple"),
    (("model", "pattern"), ["delta", "atention"], "[model]: pattern"),
    (("training", "steps"), None, "The key 'steps' is missing in [training]."),
    (("training", "steps"), "30", "steps = '30' in [training]"),
    (("training", "steps"), 30.0, "steps = 30.0 in [training]"),
    (("training", "steps"), True, "steps = True in [training]"),
    (("training", "steps"), 0, "steps = 0 in [training]"),
    (("training", "passes"), 0, "passes = 0 in [training]"),
    (("training", "passes"), 1.5, "[lowest, highest]"),
    (("training", "passes"), True, "[lowest, highest]"),
    (("training", "passes"), [3, 1], "[lowest, highest]"),
    (("training", "passes"), [1, 2, 3], "[lowest, highest]"),
    (("training", "muon_lr"), float("nan"), "muon_lr = nan in [training]"),
    (("training", "cooldown"), 1.5, "cooldown = 1.5 in [training]"),
    (("training", "compile"), 1, "compile = 1 in [training]"),
    (("training",), None, "The key 'training' is missing."),
    (("training",), 7, "training = 7"),
    (("curriculum", "start"), 3, "[curriculum]: start = 3 is deeper than 2"),
    (("seeds",), [], "seeds = []"),
    (("seeds",), [1, 1], "seeds = [1, 1]: a seed is named twice"),
    (("seeds",), [-1], "seeds = -1"),
    (("name",), "../up", "name = '../up'"),
    (("description",), "", "description = ''"),
]


@pytest.mark.parametrize(("place", "value", "sentence"), MISTAKES)
def test_a_mistake_is_told_by_name(data: Path, place: tuple[str, ...], value: Any, sentence: str) -> None:
    table = copy.deepcopy(load_recipe("tiny").to_dict())
    inner = table
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        Recipe.from_dict(table, where="The recipe x")
    assert str(caught.value).startswith("The recipe x cannot be used. ")
    assert str(caught.value).endswith((".", "?"))


def test_all_mistakes_are_told_at_once(data: Path) -> None:
    table = load_recipe("tiny").to_dict()
    table["training"] |= {"stpes": 1, "clip": -1.0}
    with pytest.raises(ValueError, match=r"'stpes'.*") as caught:
        Recipe.from_dict(table)
    assert "clip = -1.0" in str(caught.value)


def test_files_that_are_no_recipes(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe 'tinny'.*'tiny'"):
        load_recipe("tinny")
    with pytest.raises(FileNotFoundError, match=r"no recipe '\.\./recipes/tiny'"):
        load_recipe("../recipes/tiny")
    with pytest.raises(FileNotFoundError, match="no recipe file"):
        load_recipe(data / "nowhere.toml")
    (data / "recipes" / "torn.toml").write_text(TOML[:-5])
    with pytest.raises(ValueError, match="not valid TOML"):
        load_recipe("torn")
    (data / "recipes" / "My_recipe.toml").write_text(TOML)
    with pytest.raises(ValueError, match=r"rename .*My_recipe\.toml to my-recipe\.toml"):
        load_recipe("My_recipe")
    (data / "recipes" / "other.toml").write_text('name = "another"\n' + TOML)
    with pytest.raises(ValueError, match="calls itself 'another'"):
        load_recipe("other")


def test_a_missing_data_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="LABKIT_DATA names"):
        list_recipes()


def test_every_recipe_of_the_lab_can_be_trained(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    names = list_recipes()
    assert {"depo-elastic", "depo-n1", "depo-n4"} <= set(names)
    for name in names:
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.make_config(recipe.make_task()).dim >= 1


def test_the_models_at_the_papers_size_differ_in_their_passes_only() -> None:
    first, *others = (load_recipe(f"rule110-paper-n{n}").to_dict() for n in (1, 2, 3, 4))
    for n, other in enumerate(others, start=2):
        assert other["training"]["passes"] == n and first["training"]["passes"] == 1
        own = {"name": first["name"], "description": first["description"]}
        assert other | own | {"training": other["training"] | {"passes": 1}} == first
