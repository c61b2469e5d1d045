"""Search at wake time: many chains of thought and a chooser, whole chains against a tree, at equal budget.

A written chain has R + 1 steps. *Samples* write B chains to their ends and a chooser takes one answer (best of B, or
the majority). A *tree* keeps W partial chains, lets each take B / W next steps, and a judge of single steps keeps W of
these B again. Both draw B tokens at every step and ask a judge as often or oftener; a tree reads only W of them again,
so it is cheaper, and the two are compared by operations (`search_cost`).

How far the judge can be trusted is a knob: with error e it calls a right step or answer wrong, and a wrong one right,
in a share e of cases; e = 0 is an oracle.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit.checkpoints import load, task_of
from labkit.costs import position_after, read_cost, sleep_cost
from labkit.evaluate import EXAM_SEEDS, fall_asleep, room_for
from labkit.intervals import mean_of_seeds
from labkit.laws.reach import accuracy
from labkit.machine import versions
from labkit.models import SleepConfig, SleepLM, SleepState
from labkit.sweep import EXAM
from labkit.tasks import Exam, Thinking

__all__ = ["CELL", "KINDS", "Chains", "chosen", "search", "search_cost", "search_rows", "tree_lead"]

CELL = ("checkpoint", "seed", "weights", "passes", "thought", "kind", "branches", "judge_error")
"""The columns that make a row the row of one way of searching."""

KINDS = ("one", "samples", "tree", "guess", "majority")


@dataclass(frozen=True, eq=False)
class Chains:
    """What was written about each question.

    Attributes:
        right: ``[n, Q, B]`` bool, which chains ended in the right answer.
        answers: ``[n, Q, B]`` their answers.
    """

    right: Tensor
    answers: Tensor


@torch.inference_mode()
def search(
    model: SleepLM,
    task: Thinking,
    exam: Exam,
    state: SleepState,
    thought: int,
    branches: int,
    *,
    kept: int | None = None,
    error: float = 0.0,
    temperature: float = 1.0,
    generator: torch.Generator,
) -> Chains:
    """Write `branches` chains about every question of an exam, each from its own copy of the state.

    Args:
        exam, state: contexts with their questions, announced for this thought, and what sleep left of them.
        thought: R, of written steps of one token.
        branches: B.
        kept: W, partial chains that a tree keeps after each step, a divisor of B; None writes whole chains.
        error: of the judge that a tree asks after each step.
        temperature: of the draws.
        generator: for draws and for the judge's mistakes.

    Raises ValueError for a task that writes no steps of one token, and for numbers out of range.
    """
    if not task.writes or task.piece != 1:
        raise ValueError("Search needs written steps of one token, such as those of depo-thinking with even waypoints.")
    if branches < 1 or (kept is not None and (kept < 1 or branches % kept)):
        raise ValueError(f"{branches} branches cannot be shared evenly by {kept} kept chains; take a divisor.")
    if not 0 <= error <= 1 or not temperature > 0:
        raise ValueError(f"error must be from 0 to 1 and temperature above 0, but they are {error} and {temperature}.")
    n, count, length = exam.questions.shape
    wanted = torch.cat([task.written(exam, thought).flatten(2), exam.answers[..., None]], dim=-1).flatten(0, 1)
    questions, rows = exam.questions.flatten(0, 1), torch.arange(n).repeat_interleave(count)
    step = max(1, room_for(model, state, length + thought) // branches)
    parts = []
    for first in range(0, len(rows), step):
        here = slice(first, first + step)
        logits, begun = model.wake(questions[here], state.select(rows[here]))
        parts.append(_grown(model, logits[:, -1], begun, wanted[here], branches, kept, error, temperature, generator))
    answers = torch.cat([part[..., -1] for part in parts])
    right = answers == wanted[:, -1:]
    return Chains(right.unflatten(0, (n, count)), answers.unflatten(0, (n, count)))


def _grown(
    model: SleepLM,
    logits: Tensor,
    state: SleepState,
    wanted: Tensor,
    branches: int,
    kept: int | None,
    error: float,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """``[m, B, R + 1]`` chains from the logits ``[m, vocab]`` after m questions, and the states after these."""
    m, steps = wanted.shape
    chains = torch.zeros(m, 1, 0, dtype=torch.int64)  # [m, partial chains, steps so far]
    for number in range(steps):
        share = branches // chains.shape[1]
        drawn = torch.multinomial((logits / temperature).softmax(-1), share, replacement=True, generator=generator)
        chains = chains.repeat_interleave(share, dim=1)
        chains = torch.cat([chains, drawn.reshape(m, -1, 1)], dim=-1)
        if number == steps - 1:
            return chains
        parent = torch.arange(m * (branches // share)).repeat_interleave(share).view(m, -1)
        if kept is not None:
            good = (chains == wanted[:, None, : number + 1])[..., -1]
            pick = _judged(good, error, generator).argsort(dim=1, descending=True, stable=True)[:, :kept]
            chains = chains.gather(1, pick[..., None].expand(-1, -1, number + 1))
            parent = parent.gather(1, pick)
        logits, state = model.wake(chains[..., -1].reshape(-1, 1), state.select(parent.flatten()))
        logits = logits[:, -1]
    raise AssertionError("a chain has at least its answer")


def _judged(good: Tensor, error: float, generator: torch.Generator) -> Tensor:
    """A score for each candidate, 1 to 2 for those that the judge calls right and 0 to 1 for the others."""
    mistaken = torch.rand(good.shape, generator=generator) < error
    return (good ^ mistaken).float() + torch.rand(good.shape, generator=generator)


def chosen(chains: Chains, kind: str, error: float, generator: torch.Generator) -> NDArray[np.uint8]:
    """``[n, Q]`` whether the chain that is taken is right.

    "majority" takes the most frequent answer, of two equally frequent ones that which came first, and asks no judge;
    the other kinds one of those that a judge with this error calls right, at random, or any if there is none.
    """
    if kind == "majority":
        same = chains.answers[..., :, None] == chains.answers[..., None, :]
        pick = same.sum(-1).argmax(-1, keepdim=True)
    elif kind in KINDS:
        pick = _judged(chains.right, error, generator).argmax(-1, keepdim=True)
    else:
        raise ValueError(f"There is no way to choose called {kind!r}; there are {', '.join(KINDS)}.")
    return chains.right.gather(-1, pick)[..., 0].to(torch.uint8).numpy()


def search_cost(config: SleepConfig, asks: int, thought: int, read: int, past: int = 0) -> int:
    """Operations of waking to a question of `asks` tokens once, and reading R steps again in so many branches.

    These are the W that a tree keeps, or all B. The question is read once for all, and the answer not at all; drawing
    more than one token from the same logits costs nothing, nor does the judge. `past` tokens count as read before.
    """
    steps = [read_cost(config, 1, past + asks + i, answered=True).flops for i in range(thought)]
    return read_cost(config, asks, past, answered=True).flops + read * sum(steps)


def search_rows(
    checkpoint: str,
    seed: int,
    *,
    passes: list[int],
    thought: list[int],
    branches: list[int],
    errors: list[float],
    n: int = 300,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """A row for every N, R, way of searching, B and error of the judge, by one model on one exam.

    A tree keeps the largest W that is at most the square root of B and divides it. The way "guess" is a control: B
    blind guesses out of all nodes for the same judge, which is all that an oracle needs to look good.

    Columns: those of a sweep that apply, and kind, branches, kept, judge_error; without search (B = 1) kind is "one".
    """
    model, card = load(checkpoint, seed, folder)
    task = task_of(card)
    if not isinstance(task, Thinking):
        raise ValueError(f"Search needs a model that was trained to think, and {checkpoint} was not.")
    plain = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + EXAM + seed))
    found = []
    for p in passes:
        state = fall_asleep(model.eval(), plain.context, p)
        past = position_after(model.config, task.context, p)
        for r in thought:
            exam = task.announced(plain, r)
            for b in branches:
                for kind, error in _ways(b, errors, r):
                    generator = torch.Generator().manual_seed(seed)
                    kept = max(w for w in range(1, b + 1) if w * w <= b and b % w == 0) if kind == "tree" else None
                    if kind == "guess":
                        blind = torch.randint(round(1 / task.chance(1)), (*exam.answers.shape, b), generator=generator)
                        chains = Chains(blind == exam.answers[..., None], blind)
                    else:
                        chains = search(model, task, exam, state, r, b, kept=kept, error=error, generator=generator)
                    right = chosen(chains, kind, error, generator)
                    depth = plain.depth[0].numpy()
                    asks = exam.questions.shape[-1]
                    read = 0 if kind == "guess" else search_cost(model.config, asks, r, kept or b, past)
                    found.append({
                        "checkpoint": checkpoint, "seed": seed, "weights": card["sha256"][:12], "passes": p,
                        "thought": r, "kind": kind, "branches": b, "kept": kept or b, "judge_error": error,
                        "exam": EXAM + seed, "n": n, "trace": task.trace, "params": card["parameters"],
                        **{f"right_{d}": int(right[:, depth == d].sum()) for d in sorted(set(depth.tolist()))},
                        "flops_sleep": sleep_cost(model.config, task.context, p).flops,
                        "flops_wake": read, **versions(),
                    })  # fmt: skip
    return pd.DataFrame(found)


def tree_lead(rows: pd.DataFrame) -> pd.DataFrame:
    """By how much more answers are right with a tree than with as many whole chains as it reads, over all hops.

    Both cost the same operations. A tree of B that keeps W asks its judge B (R + 1) times, best of W only W times.

    Args:
        rows: of `search_rows`, of two seeds or more.

    Returns a row for each N, R and error of the judge: ``lead`` with its 95% interval over seeds, ``low`` and ``high``;
    ``branches`` and ``kept`` of the tree; ``judged`` and ``judged_chains``, how often a judge is asked.
    """
    rows = rows.assign(share=accuracy(rows))
    trees = rows[(rows["kind"] == "tree") & (rows["kept"] > 1)]
    chains = rows[rows["kind"] == "samples"]  # which keep all they draw
    same = ["seed", "passes", "thought", "judge_error", "kept"]
    both = trees.merge(chains, on=same, suffixes=("", "_chains"))
    found = []
    for cell, own in both.groupby(["passes", "thought", "judge_error", "branches", "kept"]):
        if len(own) < 2:
            continue
        lead = mean_of_seeds((own["share"] - own["share_chains"]).tolist())
        named = dict(zip(("passes", "thought", "judge_error", "branches", "kept"), cell, strict=True))
        judged = {"judged": named["branches"] * (named["thought"] + 1), "judged_chains": named["kept"]}
        found.append({**named, "lead": lead.value, "low": lead.low, "high": lead.high, **judged})
    return pd.DataFrame(found)


def _ways(branches: int, errors: list[float], thought: int) -> list[tuple[str, float]]:
    if branches == 1:
        return [("one", 0.0)]
    judged = ("samples", "tree", "guess") if thought else ("samples", "guess")  # a tree of one step is B samples
    return [*itertools.product(judged, errors), ("majority", 0.0)]
