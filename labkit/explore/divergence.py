"""A memory that runs away: steps too long for its layers and its chunks, and what holds it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.surprise import Knobs, expect

__all__ = ["LONGEST", "LIMIT", "losses", "runaway"]

LONGEST, WIDTH, PAIRS = 1024, 16, 24
LIMIT = 2.0  # what labkit.memory.NeuralMemory takes by default
FLOOR, CEILING = 1e-4, 1e12  # of what is drawn


def losses(knobs: Knobs, length: int = LONGEST, seed: int = 0) -> NDArray[np.float64]:
    """``[length]`` squared error of each token's value, as the memory that is about to learn it has it.

    A few pairs of random keys and values come again and again, so all a memory has to do is to keep them.
    """
    generator = torch.Generator().manual_seed(seed)
    keys, values = F.normalize(torch.randn(2, PAIRS, WIDTH, generator=generator), dim=-1)
    drawn = torch.randint(PAIRS, (length,), generator=generator)
    expected, _ = expect(keys[drawn], values[drawn], knobs)
    return (expected - values[drawn]).square().sum(-1).double().numpy()


def runaway() -> Panel:
    """Turn the step, the layers, momentum and the chunk; see the memory's loss along 1,024 tokens, held and not.

    At first all is still stable.
    """
    step = choice("how long a step θ", (0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6), 0.1)
    momentum = choice("how much momentum η", (0.0, 0.5, 0.9), 0.5)
    layers = slider("layers of the memory", 2, 1, 4)
    chunk = choice("tokens of a chunk", (4, 8, 16, 32, 64), 16)
    fig = style.figure(
        "runaway", "Memory loss along the text", x="token", y="squared error of the next value",
        x_range=(0, LONGEST), y_range=(np.log10(FLOOR), np.log10(CEILING)), width=820, height=380,
        yaxis_type="log", yaxis_dtick=4, margin_l=84,
    )  # fmt: skip
    free = style.line(fig, "the paper's rule", colour=style.ROLES["wrong"], markers=False)
    held = style.line(fig, f"norms held below {LIMIT:g} √out", colour=style.ROLES["rival"], dash="dot", markers=False)
    both = style.line(fig, "norms held, and short steps", colour=style.ROLES["model"], markers=False)
    nothing = style.column([1.0, 1.0])
    style.line(fig, "knowing nothing", (0, LONGEST), nothing, colour=style.GREY, dash="dash", markers=False)
    tokens = style.column(np.arange(LONGEST))

    def show() -> str:
        ends = []
        with fig.batch_update():
            # the longest step that NeuralMemory takes by default
            short = (1 - momentum.value) / (max(chunk.value, 8) * layers.value)
            ways = ((free, step.value, None), (held, step.value, LIMIT), (both, min(step.value, short), LIMIT))
            for trace, θ, limit in ways:
                loss = losses(Knobs(θ, momentum.value, 0.001, chunk.value, layers.value, limit))
                drawn = np.nan_to_num(loss, nan=CEILING, posinf=CEILING)
                trace.x, trace.y = tokens, style.column(np.clip(drawn, FLOOR, CEILING))
                ends.append(drawn[-256:].mean())
        told = [f"{end:.2g}" if end < CEILING else "beyond all bounds" for end in ends]
        return (
            f"θ = {step.value:g}, η = {momentum.value:g}, {layers.value} layer(s), chunks of {chunk.value}: over the "
            f"last 256 tokens the mean loss is {told[0]} by the paper's rule, {told[1]} with norms held before each "
            f"chunk, and {told[2]} with θ held below {short:.2g} as well, as NeuralMemory does. Knowing nothing costs "
            "1."
        )

    return Panel(
        "runaway", show, controls=[step, momentum, layers, chunk], figures=[fig],
        source="Live: labkit.kernels.titans on 24 random pairs that come again and again; nothing is trained here.",
    )  # fmt: skip
