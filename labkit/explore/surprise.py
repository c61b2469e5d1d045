"""Surprise, letter by letter: Titans' memory learns what follows what in a text, while the text is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ipywidgets as W
import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.panes import axes, panes, stack
from labkit.kernels.titans import Carried, continue_memory, read_memory

__all__ = ["Knobs", "Reading", "TEXT", "expect", "first_weights", "read_text", "strip"]

TEXT = "the moon is far. the moon is cold. " * 2 + "the moon is made of cheese. the moon is far."
MOST = 192  # letters that are read, so that a move stays quick
WIDTH = 32  # of the space of letters
PER_ROW = 48
PALE = [[0, "#ffffff"], [1, style.PALETTE["sky"]]]  # black letters can be read on all of it

STEPS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
MOMENTA = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95)
FORGETS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
CHUNKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Knobs:
    """How a memory learns: step θ, momentum η, forgetting α (each for every letter alike), chunk size, layers."""

    step: float = 0.2
    momentum: float = 0.3
    forget: float = 0.001
    chunk_size: int = 1
    layers: int = 1
    limit: float | None = None


@dataclass(frozen=True)
class Reading:
    """What happened while a text was read.

    Attributes:
        text: the letters; the memory learns which one follows.
        surprise: ``[T]`` norm of the gradient at each letter but the first two and the last.
        answers: the letter that the memory expected, before it saw the true one.
        error: ``[T]`` squared error of that answer.
    """

    text: str
    surprise: NDArray[np.float64]
    answers: str
    error: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where the expected letter came."""
        return np.array([a == b for a, b in zip(self.answers, self.text[2:], strict=True)], dtype=bool)


def first_weights(layers: int, width: int = WIDTH, seed: int = 0) -> list[Tensor]:
    """M_0 of a memory with `layers` layers of one width, all weights drawn at random; a linear one begins at zero."""
    generator = torch.Generator().manual_seed(seed)
    if layers == 1:
        return [torch.zeros(1, 1, width, width)]
    return [1.5 * torch.randn(1, 1, width, width, generator=generator) * width**-0.5 for _ in range(layers)]


def read_text(text: str, knobs: Knobs) -> Reading:
    """Let the real memory (`labkit.kernels.titans`) read a text once.

    A letter is a fixed random vector of length 1. At letter t the key is made of the letters t and t - 1, and the value
    is letter t + 1. Before the value is written, the memory is asked for it: that is its answer.

    Raises ValueError, in a sentence, for a text of fewer than four letters.
    """
    text = text[:MOST]
    if len(text) < 4:
        raise ValueError(f"The memory needs a text of at least 4 letters, and this has {len(text)}; type some more.")
    letters = sorted(set(text))
    known = torch.tensor([_vector(letter) for letter in letters])
    x = torch.stack([known[letters.index(letter)] for letter in text])
    keys = F.normalize(x[1:-1] + x[:-2].roll(1, dims=-1), dim=-1)  # rolled: where a letter stood makes a difference
    values = x[2:]
    expected, surprise = expect(keys, values, knobs)
    error = (expected - values).square().sum(-1).double()
    sane = torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0)
    nearest = (sane @ known.T).argmax(dim=-1)
    answers = "".join(letters[i] if row.any() else "·" for i, row in zip(nearest.tolist(), sane, strict=True))
    return Reading(text, surprise.double().numpy(), answers, error.numpy())


def expect(keys: Tensor, values: Tensor, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """What a memory that learns ``keys [T, D]`` and ``values [T, D]`` one by one expects of each before it is written.

    Returns the answers ``[T, D]``, and the surprise of every token ``[T]``.
    """
    weights = first_weights(knobs.layers, keys.shape[-1])
    begun = Carried.begin(weights, [torch.zeros_like(w) for w in weights])
    rates = (knobs.step, knobs.momentum, knobs.forget)
    step, momentum, forget = (torch.full((1, len(keys), 1), float(rate)) for rate in rates)
    # the memory is read after a token was written: so with the key of the next one, and before all with the first
    q, k, v = (t[None, :, None] for t in (torch.cat([keys[1:], keys[:1]]), keys, values))
    y, _, surprise = continue_memory(
        q, k, v, step, momentum, forget, begun, chunk_size=knobs.chunk_size, limit=knobs.limit
    )
    first = read_memory(weights, k[:, :1])
    return torch.cat([first, y[:, :-1]], dim=1)[0, :, 0], surprise[0, :, 0]


def _vector(letter: str) -> list[float]:
    """The fixed vector of a letter: of length 1, the same on every machine and for every text."""
    drawn = np.random.default_rng(ord(letter)).standard_normal(WIDTH)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32).tolist()


def strip() -> Panel:
    """Type a text and turn the memory's knobs: how much each letter surprises it, and what it expected instead."""
    typed = W.Textarea(TEXT, description="text", rows=3, continuous_update=True, layout=W.Layout(width="640px"))
    step, momentum = choice("step θ", STEPS, 0.2), choice("momentum η", MOMENTA, 0.3)
    forget, chunk = choice("forgetting α", FORGETS, 0.001), choice("chunk size", CHUNKS, 1)
    layers = slider("layers", 1, 1, 4)
    fig = panes("surprise", ["How much each letter surprised, and below it the letter expected"], height=430)
    rows = math.ceil(MOST / PER_ROW)
    bar = {"title": {"text": "surprise (norm of the gradient)", "side": "right"}, "thickness": 12}
    cells = stack(
        fig, (1, 1),
        go.Heatmap(zmin=0, zmax=3, colorscale=PALE, xgap=1, ygap=1, name="surprise", colorbar=bar),
    )  # fmt: skip
    truth = stack(fig, (1, 1), _letters("the text", style.ROLES["truth"]))
    hits = stack(fig, (1, 1), _letters("expected, and right", style.ROLES["model"]))
    misses = stack(fig, (1, 1), _letters("expected, and wrong", style.ROLES["wrong"]))
    axes(
        fig, (1, 1), x="letter of the row", y="row of the text",
        x_range=(-0.5, PER_ROW - 0.5), y_range=(rows - 0.3, -0.7), dtick=1,
    )  # fmt: skip
    last = {"text": TEXT}

    def show() -> str:
        text = typed.value.replace("\n", " ")
        told = "" if len(text) >= 4 else "Four letters at least are needed; the figure still shows the last text. "
        last["text"] = last["text"] if told else text
        knobs = Knobs(step.value, momentum.value, forget.value, chunk.value, layers.value)
        reading = read_text(last["text"], knobs)
        place = np.arange(len(reading.text))
        x, y = style.column(place % PER_ROW), style.column(place // PER_ROW)
        surprise = np.full(len(place), np.nan)
        surprise[2:] = np.minimum(np.nan_to_num(reading.surprise, nan=1e6, posinf=1e6), 1e6)
        with fig.batch_update():
            # empty cells half a row below keep those of the letters half as high, and the answers on white
            below = style.column(np.arange(rows) + 0.5)
            cells.x, cells.y = np.append(x, 0 * below), np.append(y, below)
            cells.z = np.append(style.column(surprise), below + np.float32(np.nan))
            truth.x, truth.y, truth.text = x, y, list(_seen(reading.text))
            for trace, wanted in ((hits, True), (misses, False)):
                here = 2 + np.flatnonzero(reading.right == wanted)
                trace.x, trace.y = x[here], y[here] + np.float32(0.42)
                trace.text = list(_seen("".join(reading.answers[i - 2] for i in here)))
        half = len(reading.right) // 2
        early, late = (float(part.mean()) for part in (reading.right[:half], reading.right[half:]))
        ending = ""
        if len(typed.value) > MOST:
            ending = f" Only the first {MOST} letters are read."
        if not np.isfinite(reading.error).all() or reading.error.max() > 1e3:
            ending += " The memory has diverged: its answers grow without end."
        return (
            f"{told}With θ = {knobs.step:g}, η = {knobs.momentum:g}, α = {knobs.forget:g}, chunks of "
            f"{knobs.chunk_size} and {knobs.layers} layer(s), {early:.0%} of the letters in the first half of the text "
            f"were expected, and {late:.0%} in the second.{ending}"
        )

    return Panel(
        "surprise", show, controls=[typed, step, momentum, forget, chunk, layers], figures=[fig],
        source="Live: labkit.kernels.titans reads the text anew at every move. Letters are fixed random vectors; "
        "nothing is trained here.",
    )  # fmt: skip


def _letters(name: str, colour: str) -> go.Scatter:
    return go.Scatter(mode="text", name=name, textfont={"color": colour, "size": 13}, hoverinfo="skip", x=[0], y=[0])


def _seen(text: str) -> str:
    return text.replace(" ", "␣")
