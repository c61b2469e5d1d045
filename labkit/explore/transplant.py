"""Two sleepers change memories: whose answers do they give?"""

from __future__ import annotations

import dataclasses

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from labkit.evaluate import EXAM_SEEDS, fall_asleep
from labkit.explore import style
from labkit.explore.mind import Sleeper, ask
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.panes import axes, panes, stack
from labkit.models import SleepState

__all__ = ["agreement", "exchange", "transplant", "two_contexts", "whose_answers"]


def two_contexts(sleeper: Sleeper, seed: int = 0) -> Tensor:
    """Two unseen contexts ``[2, C]`` of full size."""
    return sleeper.task.exam(2, torch.Generator().manual_seed(EXAM_SEEDS + 1000 + seed)).context


def exchange(one: SleepState, other: SleepState, layers: tuple[int, ...]) -> tuple[SleepState, SleepState]:
    """The two states with the fast weights of these memory layers (from 0) exchanged; all else stays."""

    def taken(keep: SleepState, give: SleepState) -> SleepState:
        fast = tuple(give.fast[i] if i in layers else f for i, f in enumerate(keep.fast))
        return dataclasses.replace(keep, fast=fast)

    return taken(one, other), taken(other, one)


def agreement(sleeper: Sleeper, state: SleepState, contexts: Tensor) -> Tensor:
    """``[contexts, depths]``: the share of all questions that a state answers as each context would have them."""
    exam = sleeper.task.questions(contexts)
    if not torch.equal(exam.questions[:1].expand_as(exam.questions), exam.questions):
        raise ValueError("The contexts must be asked the same questions, so graphs must have the same nodes.")
    given = ask(sleeper.model, state, exam.questions[0]).argmax(dim=-1)
    return (given == exam.answers).double().unflatten(1, (sleeper.task.max_depth, -1)).mean(dim=-1)


def whose_answers(sleeper: Sleeper, passes: int = 6, pairs: int = 10) -> pd.DataFrame:
    """By depth, whose answers a sleeper gives that kept its own memories but for one, which it got from another.

    Args:
        pairs: of unseen contexts, over which is averaged.

    Returns a row for the seed, each memory (from 1), and "giver" and "keeper": the share of answers that are as the
    context of the one who gave that memory has them, and of the one who kept all others; a column for each depth.
    """
    found: dict[tuple[str, str], list[Tensor]] = {}
    for seed in range(pairs):
        contexts = two_contexts(sleeper, seed)
        both = fall_asleep(sleeper.model, contexts, passes)
        one, two = (both.select(torch.tensor([i])) for i in (0, 1))
        for layer in range(len(both.fast)):
            as_keeper, as_giver = agreement(sleeper, exchange(one, two, (layer,))[0], contexts)
            for who, share in (("giver", as_giver), ("keeper", as_keeper)):
                found.setdefault((f"memory {layer + 1}", who), []).append(share)
    table = pd.DataFrame({key: torch.stack(shares).mean(dim=0).numpy() for key, shares in found.items()}).T
    table.columns = pd.RangeIndex(1, table.shape[1] + 1, name=sleeper.deeper)
    table = table.rename_axis(["exchanged", "answers as the graph of its"])
    return pd.concat({sleeper.seed: table}, names=["seed"])


def transplant(sleeper: Sleeper, contexts: Tensor, passes: int = 6, most: int = 16) -> Panel:
    """Two sleepers read a context each; exchange their memories, all or some, and compare answers with both contexts.

    Args:
        contexts: ``[2, C]`` with the same nodes.
        passes: where the slider starts; most: where it ends.
    """
    layers = len(sleeper.model.init_state(1).fast)
    every = tuple(range(layers))
    parts = {"nothing": (), **{f"memory {i + 1}": (i,) for i in every}, "all memories": every}
    turn = slider("passes before the exchange", passes, 0, most)
    swap = choice("exchange", list(parts.items()), ())
    noun, whose = sleeper.noun, ("A", "B")
    guess = slider(f"my guess: % as the {noun} it did not read", 50, 0, 100, step=5)
    fig = panes("transplant", [f"Sleeper {i + 1}, who read {noun} {w}" for i, w in enumerate(whose)], height=380)
    depths = list(range(1, sleeper.task.max_depth + 1))
    bars, guesses = {}, []
    for pane in (1, 2):
        for other, (w, name, shape) in enumerate(zip(whose, ("blue", "orange"), ("", "/"), strict=True)):
            look = {"color": style.tint(style.PALETTE[name], 0.7), "pattern": {"shape": shape}}
            bars[pane, other] = stack(
                fig, (1, pane),
                go.Bar(x=style.column(depths), marker=look, name=f"answers as {noun} {w} has it", showlegend=pane == 1),
            )  # fmt: skip
        axes(
            fig, (1, pane), x=sleeper.deeper, y="agreement (share)", x_range=(0.4, depths[-1] + 0.6), y_range=(0, 1.04)
        )
        ends = style.column([0.4, depths[-1] + 0.6])
        line = {"color": style.ROLES["guess"], "dash": "dash", "width": 3}
        dashed = go.Scatter(x=ends, mode="lines", line=line, name="your guess", showlegend=pane == 1)
        guesses.append(stack(fig, (1, pane), dashed))

    def show() -> str:
        both = fall_asleep(sleeper.model, contexts, turn.value)
        one, two = (both.select(torch.tensor([i])) for i in (0, 1))
        states = exchange(one, two, swap.value)
        told = []
        shares = [agreement(sleeper, state, contexts) for state in states]
        with fig.batch_update():
            for (pane, other), bar in bars.items():
                bar.y = style.column(shares[pane - 1][other])
            for dashed in guesses:
                dashed.y = style.column([guess.value / 100] * 2)
        for i, share in enumerate(shares):
            as_a, as_b = (100 * share.mean(dim=1)).tolist()
            told.append(f"sleeper {i + 1} answers {as_a:.0f} % as {noun} A has it, {as_b:.0f} % as {noun} B")
        label = next(name for name, layers in parts.items() if layers == swap.value)
        return f"N = {turn.value}, exchanged: {label}. Of all questions {'; '.join(told)}."

    return Panel(
        "transplant", show, controls=[guess, swap, turn], figures=[fig],
        source=f"Live: {sleeper.name}, seed {sleeper.seed}, two sleeps and all questions at every move.",
    )  # fmt: skip
