"""Whole models: a training step, and what a slider asks for, against the same model with the frozen plain form."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from labkit.bench.racing import Candidate, Roof, beside_roof, race
from labkit.budget import flops_of
from labkit.checkpoints import load, task_of
from labkit.kernels import gated_delta
from labkit.kernels.gated_delta import plain
from labkit.models import SleepLM
from labkit.recipes import Recipe
from labkit.step import lesson_forward

LIMIT = 1e-4  # relative, of a loss, its gradients and logits: whole models add up more roundings than one operator


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Models compute the gated delta rule by the frozen plain form while this is open."""
    with patch.object(gated_delta, "chunked_gated_delta_rule", plain.chunked_gated_delta_rule):
        yield


@contextlib.contextmanager
def token_by_token() -> Iterator[None]:
    """Models compute the gated delta rule by the recurrence while this is open."""

    def form(*args: Tensor, chunk_size: int, **options: Any) -> tuple[Tensor, Tensor]:
        return gated_delta.recurrent_gated_delta_rule(*args, **options)

    with patch.object(gated_delta, "chunked_gated_delta_rule", form):
        yield


def training(
    recipe: Recipe,
    passes: int = 4,
    *,
    repeats: int,
    threads: int,
    roof: Roof,
    compiled: bool = True,
    quiet: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """A training step of a recipe, forward and backward with N sleep passes on one batch: plain, fast, compiled.

    Ratios are to the plain form. A compiled model's row has ``first_seconds``, its first step with compilation, which
    is in no other number. ``roofline`` is of the fast form's operations, and of reading every weight and writing its
    gradient once.
    """
    task = recipe.make_task()
    batch = task.lesson(recipe.training.batch_size, torch.Generator().manual_seed(0), task.max_depth)

    def model(dtype: torch.dtype = torch.float32) -> SleepLM:
        torch.manual_seed(0)
        return SleepLM(recipe.make_config(task)).to(dtype)

    def step(model: SleepLM) -> list[Tensor]:
        out = lesson_forward(model, batch, passes, "float32")  # in bfloat16 gradients are 14% off, so not timed here
        assert out.loss is not None
        weights = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(out.loss, weights, materialize_grads=True)
        return [out.loss.detach(), torch.cat([g.flatten() for g in gradients])]

    with token_by_token():
        wanted = step(model(torch.float64))
    eager = model()
    candidates = [
        Candidate("plain, eager", _under(frozen, lambda: step(eager))),
        Candidate("fast, eager", lambda: step(eager)),
    ]
    first = {}
    if compiled:
        graphs = model()
        graphs.read = torch.compile(graphs.read, dynamic=False)  # type: ignore[method-assign]
        began = time.perf_counter()
        step(graphs)
        first["fast, compiled"] = time.perf_counter() - began
        candidates.append(Candidate("fast, compiled", lambda: step(graphs)))
    how: dict[str, Any] = {"limit": LIMIT, "repeats": repeats, "threads": threads, "quiet": quiet}
    rows, refused = race(candidates, wanted, title="training steps", **how)
    rows = beside_roof(rows, roof, flops_of(lambda: step(eager)), 2 * sum(p.nbytes for p in eager.parameters()))
    sizes = {"batch": len(batch.tokens), "length": batch.tokens.shape[1], "passes": passes}
    return [{**sizes, **row, "first_seconds": first.get(row["candidate"])} for row in rows], refused


def awake(
    checkpoint: str, passes: int, *, seed: int = 0, repeats: int, threads: int = 1, roof: Roof, quiet: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a slider asks for: one context slept on with N passes, one question answered awake; plain and fast.

    ``roofline`` is of the fast form's operations, and of reading every weight once for each pass and once awake.
    """
    model, card = load(checkpoint, seed)
    task = task_of(card)
    batch = task.batch(1, torch.Generator().manual_seed(0))
    context, question = batch.tokens[:, : batch.context], batch.tokens[:, batch.context :]

    def answer(model: SleepLM) -> list[Tensor]:
        with torch.inference_mode():
            state = model.init_state(1)
            for window in context.split(model.config.window, dim=1):
                state = model.sleep(window, state, passes=passes)
            return [model.wake(question[:, :3], state)[0]]

    with token_by_token():
        exact, _ = load(checkpoint, seed)
        wanted = answer(exact.double())
    candidates = [
        Candidate("fast", lambda: answer(model)),
        Candidate("plain", _under(frozen, lambda: answer(model))),
    ]
    how: dict[str, Any] = {"limit": LIMIT, "repeats": repeats, "threads": threads, "quiet": quiet}
    rows, refused = race(candidates, wanted, title=f"N = {passes}", **how)
    moved = (passes + 1) * sum(p.nbytes for p in model.parameters())
    rows = beside_roof(rows, roof, flops_of(lambda: answer(model)), moved)
    sizes = {"checkpoint": checkpoint, "length": context.shape[1], "passes": passes}
    return [{**sizes, **row} for row in rows], refused


def _under(form: Callable[[], Any], run: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    def called() -> list[Tensor]:
        with form():
            return run()

    return called
