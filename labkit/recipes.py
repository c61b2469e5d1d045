"""Recipes: validated TOML files that say what is trained, on what, and how.

A recipe is `data/recipes/<name>.toml`:

    description = "Sixteen nodes, eight hops, passes drawn from 1 to 6"
    seeds = [0, 1, 2]

    [task]                  # kind, and the parameters of labkit.tasks.make
    kind = "depo"
    nodes = 16

    [model]                 # fields of SleepConfig; vocab and window come from the task
    dim = 64

    [training]
    steps = 4500
    passes = [1, 6]         # drawn anew for every batch; a plain number is a fixed count

    [curriculum]
    threshold = 0.9

Everything is checked when the file is read: an unknown key is refused and the nearest known one named.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from labkit import tasks
from labkit.checkpoints import SEEDS
from labkit.files import NAME, data_dir, nearest
from labkit.models import SleepConfig

__all__ = ["Curriculum", "Recipe", "Training", "list_recipes", "load_recipe"]

# TOML and JSON have arrays only, so tuples are read from lists; everything else must have its own type
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
FROM_THE_TASK = ("vocab", "window")

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


class Training(BaseModel):
    """The table [training]: how many steps, of what size, with which optimisers."""

    model_config = STRICT

    steps: Count
    #: sequences a step
    batch_size: Count = 64
    #: sleep passes: a number, or [lowest, highest] to draw from, evenly, for every batch
    passes: int | tuple[int, int] = 1
    #: steps of thought before an answer, likewise; the task says what a step is
    thought: int | tuple[int, int] = 0
    #: highest learning rate and momentum of Muon, which moves the matrices inside the blocks
    muon_lr: Positive = 0.01
    muon_momentum: Below1 = 0.95
    #: highest learning rate and betas of AdamW, which moves everything else
    adamw_lr: Positive = 2e-3
    betas: Annotated[tuple[Below1, Below1], Field(strict=False)] = (0.9, 0.98)
    #: of Muon's matrices, times the learning rate
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    #: largest norm of the gradient
    clip: Positive = 1.0
    #: steps over which the learning rates rise from zero
    warmup: Annotated[int, Field(ge=0)] = 50
    #: share of the steps, at the end, over which the learning rates fall to zero
    cooldown: Share = 0.4
    #: whether torch.compile makes the model faster first (a minute or two, and a C++ compiler is needed)
    compile: bool = True
    #: of the matrix products outside the memories; bfloat16 pays on processors that have instructions for it
    precision: Literal["float32", "bfloat16"] = "float32"
    #: steps between two savings of the half-done training, and between two looks of the progress bar
    checkpoint_every: Count = 200
    log_every: Count = 50

    @field_validator("passes", "thought", mode="before")
    @classmethod
    def _one_or_two(cls, value: Any, field: ValidationInfo) -> int | tuple[int, int]:
        numbers = list(value) if isinstance(value, list | tuple) else [value, value]
        least = 1 if field.field_name == "passes" else 0
        sound = len(numbers) == 2 and all(type(n) is int and n >= least for n in numbers)
        if not sound or numbers[0] > numbers[1]:
            raise ValueError(f"it must be a whole number of at least {least}, or two of them, [lowest, highest]")
        return (numbers[0], numbers[1]) if isinstance(value, list | tuple) else numbers[0]

    @property
    def passes_range(self) -> tuple[int, int]:
        """Lowest and highest number of passes; the same twice when it is fixed."""
        return self.passes if isinstance(self.passes, tuple) else (self.passes, self.passes)

    @property
    def thought_range(self) -> tuple[int, int]:
        """Lowest and highest number of steps of thought; the same twice when it is fixed."""
        return self.thought if isinstance(self.thought, tuple) else (self.thought, self.thought)


class Curriculum(BaseModel):
    """The table [curriculum]: from which depth questions start, and when they go one deeper."""

    model_config = STRICT

    start: Count = 1
    #: running accuracy at the deepest depth in use that opens the next one
    threshold: Share = 0.9
    #: weight of the past in that running accuracy, at every step
    memory: Below1 = 0.95
    #: steps after which the next depth opens in any case; left out: never
    patience: Count | None = None
    #: all depths from the first step on
    fixed: bool = False


class Recipe(BaseModel):
    """One recipe. `from_dict` and `load_recipe` make them, and answer mistakes in sentences."""

    model_config = STRICT

    name: str
    description: Annotated[str, Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    task: dict[str, Any]
    model: dict[str, Any] = Field(default_factory=dict)
    training: Training
    curriculum: Curriculum = Field(default_factory=Curriculum)

    @field_validator("name")
    @classmethod
    def _speakable(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("a recipe is called in lower-case letters and digits, joined by single hyphens")
        return name

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "The recipe") -> Recipe:
        """A recipe from nested dicts: a parsed file, or what a checkpoint's card holds.

        Raises ValueError with one sentence for each mistake; `where` opens the sentence. The task and the
        model's config are built once, so that a recipe that is read can also be trained.
        """
        try:
            recipe = cls.model_validate(dict(table))
        except ValidationError as mistakes:
            sentences = [_sentence(mistake) for mistake in mistakes.errors(include_url=False)]
            raise ValueError(f"{where} cannot be used. " + " ".join(sentences)) from None
        try:
            task = recipe.make_task()
        except (ValueError, TypeError) as mistake:
            raise ValueError(f"{where} cannot be used. [task]: {mistake}") from None
        try:
            recipe.make_config(task)
        except (ValueError, TypeError) as mistake:
            raise ValueError(f"{where} cannot be used. [model]: {mistake}") from None
        if recipe.curriculum.start > task.max_depth:
            raise ValueError(
                f"{where} cannot be used. [curriculum]: start = {recipe.curriculum.start} is deeper than "
                f"{task.max_depth}, the deepest question of the task."
            )
        if recipe.training.thought_range[1] > task.thoughts:
            raise ValueError(
                f"{where} cannot be used. [training]: thought goes to {recipe.training.thought_range[1]}, but a "
                f"question of the task has at most {task.thoughts} steps of thought."
            )
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists that JSON can hold; `from_dict` reads them back."""
        return self.model_dump(mode="json")

    def make_task(self) -> tasks.Task:
        """The task of the table [task]."""
        params = dict(self.task)
        kind = params.pop("kind", None)
        if not isinstance(kind, str):
            raise ValueError('It needs a kind, such as kind = "depo".')
        return tasks.make(kind, **params)

    def make_config(self, task: tasks.Task) -> SleepConfig:
        """The table [model] as a SleepConfig, with the vocabulary and the window of `task`."""
        known = [f.name for f in dataclasses.fields(SleepConfig) if f.name not in FROM_THE_TASK]
        for key in self.model:
            if key in FROM_THE_TASK:
                raise ValueError(f"{key!r} comes from the task and cannot be set; remove it.")
            if key not in known:
                raise ValueError(f"Unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.model.items()
        }
        return SleepConfig(vocab=task.vocab, window=task.window, **fields)


def list_recipes() -> list[str]:
    """Names of the recipes in `data/recipes/`, in alphabetical order."""
    return sorted(path.stem for path in (data_dir() / "recipes").glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe of `data/recipes/` by its name, or any other by its path (ending in `.toml`).

    Raises FileNotFoundError when there is none, ValueError when it cannot be used.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe file {path}.")
    else:
        path = data_dir() / "recipes" / f"{text}.toml"
        if text not in list_recipes():
            raise FileNotFoundError(
                f"There is no recipe {text!r} in {path.parent}.{nearest(text, list_recipes())} `labkit list` names all."
            )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as mistake:
        raise ValueError(f"The recipe {path} is not valid TOML: {mistake}.") from None
    if not NAME.fullmatch(path.stem):
        better = "-".join(re.findall("[a-z0-9]+", path.stem.lower())) or "my-recipe"
        raise ValueError(
            f"A recipe's file is called in lower-case letters and digits, joined by single hyphens; rename {path} to "
            f"{better}.toml."
        )
    if table.setdefault("name", path.stem) != path.stem:
        raise ValueError(
            f"The recipe {path} calls itself {table['name']!r}, but a recipe is called as its file; "
            "remove the key 'name'."
        )
    return Recipe.from_dict(table, where=f"The recipe {path}")


TABLES: dict[str, type[BaseModel]] = {"training": Training, "curriculum": Curriculum}


def _sentence(mistake: Any) -> str:
    """One mistake that pydantic found, as a sentence with the table and the key in it."""
    place = [str(part) for part in mistake["loc"]]
    table = place[0] if place and place[0] in TABLES else None
    key = place[-1] if place else "it"
    inside = f" in [{table}]" if table and len(place) > 1 else ""
    if mistake["type"] == "extra_forbidden":
        known = list((TABLES[table] if table else Recipe).model_fields)
        return f"Unknown key {key!r}{inside}.{nearest(key, known)} Known: {', '.join(known)}."
    if mistake["type"] == "missing" and key.isdigit():  # an element of a list, not a key
        return f"{place[-2]}{inside} needs more numbers: number {int(key) + 1} is missing."
    if mistake["type"] == "missing":
        return f"The key {key!r} is missing{inside}."
    name = place[1] if inside else key if len(place) < 2 else place[0]
    reason = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{name} = {mistake['input']!r}{inside}: {reason}."
