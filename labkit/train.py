"""Training: a recipe and a seed in, a checkpoint out; what a kill interrupts goes on from where it was saved."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from labkit import budget
from labkit.checkpoints import check_seed, list_checkpoints, read_card, save_checkpoint
from labkit.files import data_dir, write_beside
from labkit.machine import device_called
from labkit.models import SleepLM
from labkit.recipes import Recipe
from labkit.step import Step, harden, learning_rate, make_optimisers
from labkit.tasks import Batch, Task, Thinking


@dataclass
class Progress:
    """How far a training has come: everything a resumed run needs besides weights and optimiser states.

    Attributes:
        step: optimiser steps taken.
        depth: the deepest question of the current lessons.
        running: running accuracy at that depth; the curriculum goes on when it passes the threshold.
        accuracy: running accuracy by depth, for the progress bar and the card.
        opened: the step at which each depth was first asked.
        curve: some hundred to two hundred times, evenly: the step, then `accuracy` of the depths asked for by then.
        tokens: tokens of all lessons so far.
        flops: floating-point operations of all steps so far, forward and backward.
        seconds: time spent in steps, over all runs of this training.
    """

    step: int = 0
    depth: int = 1
    running: float = 0.0
    accuracy: list[float] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    tokens: int = 0
    flops: int = 0
    seconds: float = 0.0


def train(
    recipe: Recipe,
    seed: int,
    folder: str | Path | None = None,
    *,
    device: str = "cpu",
    resume: bool = True,
    progress: bool = True,
) -> Path:
    """Train one model and write ``<name>-s<seed>.safetensors`` with its card.

    A seed that is trained already is left as it is. Every `checkpoint_every` steps the whole training (weights, both
    optimisers, random generator, curriculum) is written beside the checkpoints; a run that finds such a file goes on
    from it, and ends bit-equal to an unbroken run in eager mode.

    Args:
        recipe: what to train, from `labkit.recipes.load_recipe`.
        seed: starts the weights and the data; two trainings share a random number only if they share a seed.
        folder: where the checkpoint goes; None takes ``data/checkpoints``.
        device: where the model is trained. Weights and lessons begin the same on all, and sums are rounded otherwise.
            On a GPU nothing is compiled, steps are recorded instead (`labkit.step`), and the same seed need not end at
            the same weights twice.
        resume: False begins anew even where a half-done or a finished training lies.
        progress: show a bar with loss, curriculum depth and accuracy by depth.

    Returns:
        The path of the checkpoint.

    Raises:
        ValueError: what lies there, half-done or finished, is of another version of the recipe; there is no such
            device; or the recipe compiles the model, and there is no C++ compiler.
        TypeError, ValueError: the seed is not a whole number from 0 to 999,999.
        FloatingPointError: the loss is no longer finite; the last saved state is kept.
    """
    check_seed(seed)
    place = device_called(device)
    task = recipe.make_task()
    settings = recipe.training
    folder = Path(folder) if folder is not None else data_dir() / "checkpoints"
    if resume and folder.is_dir() and (recipe.name, seed) in list_checkpoints(folder):
        return _finished(recipe, seed, folder)
    compiled = settings.compile and place.type == "cpu"
    if compiled and not compiler():
        raise ValueError(
            f"The recipe {recipe.name!r} compiles the model, and no C++ compiler was found. Install g++ or clang++ "
            "(or name yours in CXX), or set compile = false in [training], which trains slower."
        )
    folder.mkdir(parents=True, exist_ok=True)
    half_done = folder / f".{recipe.name}-s{seed}.training"

    torch.manual_seed(seed)
    model = SleepLM(recipe.make_config(task)).to(place)
    generator = torch.Generator().manual_seed(seed)
    optimisers = make_optimisers(model, settings)
    at = Progress(depth=task.max_depth if recipe.curriculum.fixed else recipe.curriculum.start, opened=[0])
    at.accuracy = [0.0] * task.max_depth
    if resume and half_done.exists():
        at = _restore(half_done, recipe, model, optimisers, generator)
    cost = _Cost(model)
    reader = model.read
    if compiled:
        torch.compiler.reset()  # what was compiled for another model counts towards a limit, after which nothing is
        model.read = torch.compile(reader, dynamic=False)  # type: ignore[method-assign]

    bar = tqdm(total=settings.steps, initial=at.step, desc=f"{recipe.name} s{seed}", disable=not progress)
    if compiled:
        bar.set_postfix_str("compiling first, which takes some minutes")
    for now in _steps(model, task, recipe, optimisers, generator, at, cost):
        at = now
        bar.update(1)
        if at.step % settings.log_every == 0:
            reached = " ".join(f"{a:.2f}".lstrip("0") for a in at.accuracy[: at.depth])
            bar.set_postfix_str(f"depth {at.depth}/{task.max_depth} accuracy {reached}")
        if at.step % settings.checkpoint_every == 0:
            _keep(half_done, recipe, model, optimisers, generator, at)
    bar.close()

    model.read = reader  # type: ignore[method-assign]
    card = {
        "task": recipe.task,
        "recipe": recipe.to_dict(),
        "command": f"labkit train {recipe.name} --seed {seed}" + ("" if device == "cpu" else f" --device {device}"),
        "steps": at.step,
        "train_seconds": round(at.seconds, 1),
        "train_flops": at.flops,
        "train_tokens": at.tokens,
        "metrics": {"lesson_accuracy": at.accuracy, "depth": at.depth, "opened": at.opened, "curve": at.curve},
    }
    path = save_checkpoint(model, card, recipe.name, seed, folder)
    half_done.unlink(missing_ok=True)
    return path


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call: the one named in CXX, or a usual one; None without any."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ("g++", "clang++", "cl"))), None)


def _finished(recipe: Recipe, seed: int, folder: Path) -> Path:
    """The path of the checkpoint that lies there, if this recipe made it to its last step."""
    card = read_card(recipe.name, seed, folder)
    path = folder / f"{recipe.name}-s{seed}.safetensors"
    if not _same(card.get("recipe", {}), recipe, path) or card.get("steps") != recipe.training.steps:
        raise ValueError(
            f"{path} was trained by another version of the recipe {recipe.name!r}. Give another --folder, move the "
            "file away, or train with --no-resume to replace it."
        )
    return path


def _same(kept: dict[str, Any], recipe: Recipe, path: Path) -> bool:
    """Whether a file was written under this recipe; keys that the file does not know yet have their defaults."""
    return Recipe.from_dict(kept, where=f"The recipe in {path}") == recipe


def _steps(
    model: SleepLM,
    task: Task,
    recipe: Recipe,
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    generator: torch.Generator,
    at: Progress,
    cost: _Cost,
) -> Iterator[Progress]:
    settings, curriculum = recipe.training, recipe.curriculum
    step = Step(model, optimisers, settings, task.max_depth)
    while at.step < settings.steps:
        began = time.perf_counter()
        thought = _drawn(settings.thought_range, generator) if isinstance(task, Thinking) else 0
        batch = _lesson(task, settings.batch_size, generator, at.depth, thought)
        passes = _drawn(settings.passes_range, generator)
        harden(model, at.step / settings.steps)
        found = step(batch, passes, learning_rate(at.step, settings))
        if not math.isfinite(found.loss):
            raise FloatingPointError(
                f"The loss of {recipe.name} is {found.loss} at step {at.step}; lower muon_lr or adamw_lr in the "
                "recipe. The last saved state of the training is kept."
            )
        lists: dict[str, Any] = {name: list(getattr(at, name)) for name in ("accuracy", "opened", "curve")}
        at = dataclasses.replace(at, step=at.step + 1, **lists)
        at.flops += cost.step(batch, passes)
        at.tokens += batch.tokens.numel()
        for d in range(at.depth):
            if found.asked[d]:
                latest = _share(found.right[d], found.asked[d])
                at.accuracy[d] += (1 - curriculum.memory) * (latest - at.accuracy[d])
        # the deepest questions open for readers with many passes and long thoughts
        able = 2 * passes >= sum(settings.passes_range) and 2 * thought >= sum(settings.thought_range)
        if able and found.asked[at.depth - 1]:
            latest = _share(found.right[at.depth - 1], found.asked[at.depth - 1])
            at.running = curriculum.memory * at.running + (1 - curriculum.memory) * latest
        if at.step % max(1, settings.steps // 100) == 0:
            at.curve.append([at.step, *(round(a, 4) for a in at.accuracy[: at.depth])])
        known = at.running > curriculum.threshold
        waited = curriculum.patience is not None and at.step - at.opened[-1] >= curriculum.patience
        if (known or waited) and at.depth < task.max_depth:
            at.depth, at.running = at.depth + 1, 0.0
            at.opened.append(at.step)
        at.seconds += time.perf_counter() - began
        yield at


def _drawn(lowest_highest: tuple[int, int], generator: torch.Generator) -> int:
    lowest, highest = lowest_highest
    return int(torch.randint(lowest, highest + 1, (), generator=generator))


def _lesson(task: Task, size: int, generator: torch.Generator, depth: int, thought: int) -> Batch:
    if isinstance(task, Thinking):
        return task.lesson(size, generator, depth, thought)
    return task.lesson(size, generator, depth)


class _Cost:
    """FLOPs of training steps. They depend on shapes alone, so each shape is counted once, on the eager model."""

    def __init__(self, model: SleepLM) -> None:
        self.model = copy.copy(model)  # keeps its own `read` when the trained one is compiled
        self.known: dict[tuple[tuple[int, ...], int, int, int], int] = {}

    def step(self, batch: Batch, passes: int) -> int:
        key = (tuple(batch.tokens.shape), batch.context, batch.loops, passes)
        if key not in self.known:
            here = batch.to(self.model.embed.weight.device)
            self.known[key] = budget.training_flops(self.model, here, passes)
        return self.known[key]


def _share(right: int, asked: int) -> float:
    return right / asked


# -------------------------------------------------------------------------------- keeping a half-done training


def _tensors(
    model: nn.Module, optimisers: tuple[torch.optim.Optimizer, ...], generator: torch.Generator
) -> dict[str, Tensor]:
    kept = {f"model.{name}": t for name, t in model.state_dict().items()}
    kept["generator"] = generator.get_state()
    for i, optimiser in enumerate(optimisers):
        for parameter, values in optimiser.state_dict()["state"].items():
            kept |= {f"optimiser.{i}.{parameter}.{name}": torch.as_tensor(v) for name, v in values.items()}
    return kept


def _keep(
    path: Path,
    recipe: Recipe,
    model: nn.Module,
    optimisers: tuple[torch.optim.Optimizer, ...],
    generator: torch.Generator,
    at: Progress,
) -> None:
    header = {"recipe": json.dumps(recipe.to_dict()), "progress": json.dumps(dataclasses.asdict(at))}
    kept = {name: t.detach().contiguous().clone() for name, t in _tensors(model, optimisers, generator).items()}
    write_beside(path, lambda beside: save_file(kept, beside, metadata=header))


def _restore(
    path: Path,
    recipe: Recipe,
    model: nn.Module,
    optimisers: tuple[torch.optim.Optimizer, ...],
    generator: torch.Generator,
) -> Progress:
    again = "Remove the file to begin anew, or train with --no-resume"
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            kept = {name: file.get_tensor(name) for name in file.keys()}
        if not _same(json.loads(header["recipe"]), recipe, path):
            raise ValueError(
                f"{path} is a half-done training of another version of the recipe {recipe.name!r}. {again}; or restore "
                "the recipe it was begun with."
            )
        _fill(kept, model, optimisers, generator)
        return Progress(**json.loads(header["progress"]))
    except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not whole ({' '.join(str(error).split())}). {again}.") from error


def _fill(
    kept: dict[str, Tensor],
    model: nn.Module,
    optimisers: tuple[torch.optim.Optimizer, ...],
    generator: torch.Generator,
) -> None:
    """The other way round than `_tensors`."""
    model.load_state_dict({n.removeprefix("model."): t for n, t in kept.items() if n.startswith("model.")})
    generator.set_state(kept["generator"])
    for i, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in kept.items():
            if name.startswith(f"optimiser.{i}."):
                _, _, parameter, key = name.split(".")
                state.setdefault(int(parameter), {})[key] = value
        whole = optimiser.state_dict()
        optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
