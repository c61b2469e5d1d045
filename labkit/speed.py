"""How fast a recipe trains: steps per second, eager and compiled, in one run with all that was to raise it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.models import SleepLM
from labkit.recipes import Recipe
from labkit.step import lesson_forward, make_optimisers
from labkit.tasks import Batch

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative, of the loss, against eager float32


class Way(NamedTuple):
    """A way of taking a training step; the first of each measurement is eager, in float32, with fused attention."""

    compiled: bool
    precision: str
    fused: bool


class Speed(NamedTuple):
    """One way of taking a training step and how fast it was.

    Attributes:
        compiled, precision, fused, passes: the way, and the number of sleep passes.
        steps_per_second: median over the timed steps; slowest and fastest: its quartiles.
        first_seconds: the first step, compilation included.
        ratio: how many times faster than the first way in the same run.
    """

    compiled: bool
    precision: str
    fused: bool
    passes: int
    steps_per_second: float
    slowest: float
    fastest: float
    first_seconds: float
    ratio: float


def measure(
    recipe: Recipe,
    passes: tuple[int, ...] = (1, 4),
    repeats: int = 15,
    compiled: tuple[bool, ...] = (False, True),
) -> list[Speed]:
    """Time training steps of a recipe: forward, backward, clipping and both optimisers, on one batch.

    The ways are interleaved step by step, so that whatever else the machine does falls on all of them.

    Args:
        recipe: what is trained.
        passes: numbers of sleep passes, each timed by itself.
        repeats: timed steps of every way, at least 2.
        compiled: whether to time eager steps, compiled ones, or both.

    Raises:
        ValueError: fewer than 2 repeats, which have no quartiles.
        ArithmeticError: a way's loss on the same batch and weights is not that of the first. It is not timed.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2, for quartiles to be told, but it is {repeats}.")
    task, settings = recipe.make_task(), recipe.training
    batch = task.lesson(settings.batch_size, torch.Generator().manual_seed(0), task.max_depth)
    found = []
    for n in passes:
        # Compiled, only as it is trained: the compiler does not see which attention is switched on, and would take
        # the first graph for both.
        ways = [
            Way(how, precision, fused)
            for how, precision in itertools.product(compiled, ("float32", "bfloat16"))
            for fused in ((False,) if how else (True, False))
        ]
        steps, first = {}, {}
        expected: Tensor | None = None
        for way in ways:
            began = time.perf_counter()
            steps[way], loss = _prepared(recipe, batch, n, way)
            first[way] = time.perf_counter() - began
            expected = loss if expected is None else expected
            if not torch.isclose(loss, expected, rtol=TOLERANCE[way.precision], atol=0):
                raise ArithmeticError(
                    f"{way} gives the loss {loss:.6f}, where {ways[0]} gives {expected:.6f}; "
                    "a wrong step is not timed."
                )
        seconds: dict[Way, list[float]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way in ways:
                began = time.perf_counter()
                steps[way]()
                seconds[way].append(time.perf_counter() - began)
        plain = statistics.median(seconds[ways[0]])
        for way in ways:
            low, middle, high = statistics.quantiles(seconds[way], n=4)
            found.append(Speed(*way, n, 1 / middle, 1 / high, 1 / low, first[way], plain / middle))
    return found


def _prepared(recipe: Recipe, batch: Batch, passes: int, way: Way) -> tuple[Callable[[], None], Tensor]:
    """A function that takes one step, and the loss of the first, from the same weights for every way."""
    torch.manual_seed(0)
    model = SleepLM(recipe.make_config(recipe.make_task()))
    optimisers = make_optimisers(model, recipe.training)
    if way.compiled:
        model.read = torch.compile(model.read, dynamic=False)  # type: ignore[method-assign]
    losses = []

    def step() -> None:
        out = lesson_forward(model, batch, passes, way.precision, fused=way.fused)
        assert out.loss is not None
        losses.append(out.loss.detach().float())
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.clip)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    step()
    return step, losses[0]
