"""Needles live: what a trained Titans model writes of a text, token by token, and what it answers afterwards."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator
from typing import Any

import ipywidgets as W
import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from labkit.checkpoints import load
from labkit.evaluate import fall_asleep
from labkit.explore import style
from labkit.explore.mind import ask
from labkit.explore.panel import Panel, choice, note
from labkit.explore.panes import axes, panes, stack
from labkit.explore.sleeper import absent
from labkit.haystack import needle_task
from labkit.memory import NeuralMemory
from labkit.models import SleepLM
from labkit.tasks import Exam, Needle

__all__ = ["EXAMPLE", "explore", "pushes"]

EXAMPLE = "The lake lies still. k3=v5 A boat comes home. The hill is steep. k40=v61 We wait and then we go on."
MOST, FACTS = 64, 8  # typed tokens that are drawn, facts that are asked for
FILLER = (0, 64, 128, 256, 512, 1024)


def pushes(model: SleepLM, tokens: Tensor) -> Tensor:
    """How far each token of ``[T]`` moves each memory of a Titans model: θ times surprise, summed over heads.

    Returns ``[memories, T]``, first block first. The tokens are read from an empty state.

    Raises ValueError for a model without neural memories.
    """
    memories = [m for m in model.modules() if isinstance(m, NeuralMemory)]
    if not memories:
        raise ValueError("The model has no neural memory, so nothing is written by surprise; take one of Titans'.")
    with torch.no_grad(), _watched(memories) as seen:
        fall_asleep(model, tokens, 1)
    return torch.stack([torch.cat(parts) for parts in seen.values()])


@contextlib.contextmanager
def _watched(memories: list[NeuralMemory]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """While it lasts, what each of the memories takes in of the first sequence is kept, as ``[T]`` at a time."""
    seen: dict[nn.Module, list[Tensor]] = {memory: [] for memory in memories}
    busy = False

    def look(memory: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal busy
        if not busy and isinstance(memory, NeuralMemory):
            busy = True
            x, state = given
            surprise = memory(x, state, return_surprise=True)[2]
            seen[memory].append((memory.rates(x, state)[0] * surprise)[0].sum(-1))
            busy = False

    hooks = [memory.register_forward_pre_hook(look) for memory in memories]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def explore(checkpoint: str = "titans-mac", seed: int = 0) -> Panel | W.HTML:
    """Type a text with facts in it; add haystack; see what was written, and what is answered, beside the truth.

    Where there is no such checkpoint, a note says how it is trained.
    """
    try:
        model, card = load(checkpoint, seed)
    except FileNotFoundError as missing:
        return absent(checkpoint, seed, missing)
    return _panel(model.eval(), needle_task(card), f"{checkpoint}, seed {seed}")


def _panel(model: SleepLM, task: Needle, name: str) -> Panel:
    wide = {"description_width": "initial"}
    typed = W.Textarea(EXAMPLE, description="text with facts", rows=3, layout=W.Layout(width="640px"), style=wide)
    filler = choice("haystack after it (tokens)", FILLER, 64)
    complaint = note()
    hay = task.at_length(64, 1, "passkey").haystack(held_out=True)
    fig = panes("needle", ["How far each token moved the memories", "The value asked for, and the answer"], height=420)
    bars = stack(fig, (1, 1), go.Bar(x=[0], y=[0], marker_color=style.ROLES["model"], name="θ × surprise", width=0.8))
    facts = stack(fig, (1, 1), go.Bar(x=[0], y=[0], marker_color=style.ROLES["rival"], name="... of facts", width=0.8))
    sure = stack(fig, (1, 2), go.Bar(x=[0], y=[0], marker_color=style.ROLES["ceiling"], name="right answer", width=0.7))
    wrong = stack(fig, (1, 2), go.Bar(x=[0], y=[0], marker_color=style.ROLES["wrong"], name="wrong answer", width=0.7))
    words = {"mode": "text", "showlegend": False, "hoverinfo": "skip", "textposition": "top center"}
    told = stack(fig, (1, 2), go.Scatter(x=[0], y=[0], **words))
    axes(fig, (1, 1), x="token of the text", y="θ × surprise, all memories", x_range=(-1, MOST), y_range=(0, 1))
    axes(fig, (1, 2), x="fact of the text", y="probability", x_range=(0.4, FACTS + 0.6), y_range=(0, 1.12))
    fig.update_xaxes(dtick=1, row=1, col=2)
    last: dict[str, tuple[Tensor, Exam]] = {}

    def show() -> str:
        try:
            context = task.encode(typed.value)
            last["read"], complaint.value = (context, task.questions(context)), ""
        except ValueError as mistake:
            if not last:
                raise
            complaint.value = f"<b>Not yet a text with facts.</b> {html.escape(str(mistake))} The last one is shown."
        context, exam = last["read"]
        moved = pushes(model, context).sum(0)[:MOST].numpy()
        fact = _in_facts(context, task)[:MOST]
        after = torch.cat([context, hay[torch.arange(filler.value) % len(hay)]])
        chances = ask(model, fall_asleep(model, after, 1), exam.questions[0])[:FACTS]
        truth = exam.answers[0, :FACTS]
        given, place = chances.argmax(-1), np.arange(1, len(chances) + 1)
        right = (given == truth).numpy()
        height = chances.max(-1).values.numpy()
        with fig.batch_update():
            at = np.arange(len(moved))
            bars.x, bars.y = style.column(at[~fact]), style.column(moved[~fact])
            facts.x, facts.y = style.column(at[fact]), style.column(moved[fact])
            fig.layout.yaxis.range = (0, 1.1 * float(moved.max()) + 1e-9)
            for trace, here in ((sure, right), (wrong, ~right)):
                trace.x, trace.y = style.column(place[here]), style.column(height[here])
            told.x, told.y = style.column(place), style.column(height)
            told.text = [
                f"{task.token_name(int(q[1]))}: {task.token_name(int(a))}<br>is {task.token_name(int(t))}"
                for q, a, t in zip(exam.questions[0], given, truth, strict=False)
            ]
        share = moved[fact].sum() / max(moved.sum(), 1e-12)
        return (
            f"{len(context)} typed tokens and {filler.value} of haystack: {int(right.sum())} of {len(right)} facts are "
            f"answered right. The facts are {fact.mean():.0%} of the tokens drawn and {share:.0%} of what moved the "
            "memories."
        )

    return Panel(
        "needle", show, controls=[typed, filler], extra=[complaint], figures=[fig],
        source=f"Live: {name} reads the text anew at every move. k3=v5 is a fact, any other word is haystack.",
    )  # fmt: skip


def _in_facts(context: Tensor, task: Needle) -> np.ndarray:
    """Which tokens belong to a fact: the mark, the key and the value."""
    mark = (context == task.mark).numpy()
    inside = mark.copy()
    inside[1:] |= mark[:-1]
    inside[2:] |= mark[:-2]
    return inside
