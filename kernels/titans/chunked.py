"""The neural memory a chunk at a time: every gradient of a chunk is taken at one point, its *anchor*.

Shapes below: B batch, H heads, C tokens of a chunk, D width. ``README.md`` derives every line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = list[Tensor]


@dataclass(frozen=True, eq=False)
class Carried:
    """What a neural memory knows between two tokens.

    Attributes:
        weights, velocity: M and S after the last token, a list of ``[B, H, in, out]`` each.
        anchor: the weights at the start of the chunk that is open, where its gradients are taken.
        position: tokens of that chunk already written, 0 up to the chunk size less one.
    """

    weights: Weights
    velocity: Weights
    anchor: Weights
    position: int

    @staticmethod
    def begin(weights: Sequence[Tensor], velocity: Sequence[Tensor]) -> Carried:
        """A new chunk that starts from these weights."""
        return Carried(list(weights), list(velocity), list(weights), 0)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Some tokens of one chunk: q, k, v ``[B, H, C, D]`` and step, momentum, forget ``[B, H, C]``."""

    q: Tensor
    k: Tensor
    v: Tensor
    step: Tensor
    momentum: Tensor
    forget: Tensor

    def cut(self, here: slice) -> Tokens:
        """The tokens at `here`."""
        return Tokens(*(t[:, :, here] for t in vars(self).values()))


def chunked_neural_memory(
    tokens: Tokens, carried: Carried, chunk_size: int, limit: float | None, clip: float | None
) -> tuple[Tensor, Carried, Tensor]:
    """Write and read all tokens, going on with the chunk that is open.

    Returns ``y [B, H, T, D]``, what is carried on, and ``[B, H, T]`` the surprise of every token: the norm of its
    gradient over all weights of the memory.
    """
    outputs, surprises = [tokens.v[:, :, :0]], [tokens.step[:, :, :0]]
    first, length = 0, tokens.q.shape[2]
    while first < length:
        if carried.position == 0:
            carried = Carried.begin(_limited(carried.weights, limit), _limited(carried.velocity, limit))
        here = slice(first, min(first + chunk_size - carried.position, length))
        write = _one if chunk_size == 1 else _several
        y, surprise, carried = write(tokens.cut(here), carried, clip)
        if carried.position == chunk_size:
            carried = Carried.begin(carried.weights, carried.velocity)
        outputs.append(y)
        surprises.append(surprise)
        first = here.stop
    return torch.cat(outputs, dim=2), carried, torch.cat(surprises, dim=2)


def answers(weights: Sequence[Tensor], q: Tensor) -> Tensor:
    """``M(q)`` for ``q [B, H, T, D]``: layers ``x @ W`` with SiLU between them, none after the last."""
    for number, w in enumerate(weights):
        q = (F.silu(q) if number else q) @ w
    return q


def gradients(anchor: Weights, k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The gradient of ``sum_d (M(k) - v)^2`` at `anchor`, which for each layer and token is one outer product.

    Returns for each layer the inputs ``x [B, H, C, in]`` and the errors at its outputs ``e [B, H, C, out]``; token i
    has the gradient ``x_i e_i^T``.
    """
    inputs, slopes = [k], []
    for weight in anchor[:-1]:
        z = inputs[-1] @ weight
        squashed = torch.sigmoid(z)
        inputs.append(z * squashed)  # SiLU
        slopes.append(torch.addcmul(squashed, inputs[-1], 1 - squashed))  # its derivative, s + z s (1 - s)
    errors = [2 * (inputs[-1] @ anchor[-1] - v)]
    for weight, slope in zip(anchor[:0:-1], slopes[::-1], strict=True):
        errors.append((errors[-1] @ weight.mT) * slope)
    return inputs, errors[::-1]


def _squared_surprise(inputs: list[Tensor], errors: list[Tensor]) -> Tensor:
    """``[B, H, C]`` the square of the norm of each token's gradient; an outer product's norm is that of its sides."""
    squares = [x.square().sum(-1) * e.square().sum(-1) for x, e in zip(inputs, errors, strict=True)]
    return torch.stack(squares).sum(0)


def _clipped(step: Tensor, squares: Tensor, clip: float | None) -> Tensor:
    """Steps ``[B, H, C]``, shorter where the gradient's square is above ``clip ** 2``, untouched elsewhere."""
    if clip is None:
        return step
    return torch.where(squares > clip**2, step * clip / squares.clamp(min=clip**2).sqrt(), step)


def _limited(several: Weights, limit: float | None) -> Weights:
    """Each layer scaled back to ``limit * sqrt(out)``, a Frobenius norm, where it is longer."""
    if limit is None:
        return several
    most = [limit * w.shape[-1] ** 0.5 for w in several]
    norms = [torch.linalg.vector_norm(w, dim=(-2, -1), keepdim=True) for w in several]
    return [w * torch.where(n > m, m / n.clamp(min=m), 1.0) for w, m, n in zip(several, most, norms, strict=True)]


def _one(tokens: Tokens, carried: Carried, clip: float | None) -> tuple[Tensor, Tensor, Carried]:
    """A chunk of one token: what the masks come to when there is nothing to mask."""
    inputs, errors = gradients(carried.weights, tokens.k, tokens.v)
    squares = _squared_surprise(inputs, errors)
    step = _clipped(tokens.step, squares, clip)
    θ, η, α = (gate[..., None] for gate in (step, tokens.momentum, tokens.forget))  # [B, H, 1, 1]
    velocity, weights = [], []
    for x, e, w, s in zip(inputs, errors, carried.weights, carried.velocity, strict=True):
        velocity.append(η * s - (θ * x).mT * e)
        weights.append(torch.addcmul(velocity[-1], 1 - α, w))
    return answers(weights, tokens.q), squares.sqrt(), Carried(weights, velocity, weights, 1)


def _several(tokens: Tokens, carried: Carried, clip: float | None) -> tuple[Tensor, Tensor, Carried]:
    """The tokens of one chunk, or a part of them, at once."""
    inputs, errors = gradients(carried.anchor, tokens.k, tokens.v)
    squares = _squared_surprise(inputs, errors)
    step = _clipped(tokens.step, squares, clip)
    passed_on = products(tokens.momentum)  # [B, H, C, C]: what is left at token j of the surprise of token i <= j
    remains = products(1 - tokens.forget)  # of what was written into the weights
    since_start = tokens.momentum.cumprod(-1)  # [B, H, C]: of the velocity before the chunk
    kept = (1 - tokens.forget).cumprod(-1)  # of the weights before it
    reached = remains @ passed_on * step[..., None, :]  # what token i has moved in M by token t, over -x_i e_i^T
    pushed = (remains @ since_start[..., None])[..., 0]  # and what the old velocity has
    late = passed_on[..., -1, :] * step  # the same for S at the end

    y = tokens.q
    for number, (x, e, w, s) in enumerate(zip(inputs, errors, carried.weights, carried.velocity, strict=True)):
        y = F.silu(y) if number else y
        y = kept[..., None] * (y @ w) + pushed[..., None] * (y @ s) - (reached * (y @ x.mT)) @ e
    last = [scalar[..., -1, None, None] for scalar in (kept, pushed, since_start)]
    weights, velocity = [], []
    for x, e, w, s in zip(inputs, errors, carried.weights, carried.velocity, strict=True):
        weights.append(last[0] * w + last[1] * s - (reached[..., -1, :, None] * x).mT @ e)
        velocity.append(last[2] * s - (late[..., None] * x).mT @ e)
    position = carried.position + tokens.step.shape[-1]
    return y, squares.sqrt(), Carried(weights, velocity, carried.anchor, position)


def products(factors: Tensor) -> Tensor:
    """``[..., C, C]`` with ``factors[i + 1] * ... * factors[j]`` at row j, column i <= j, and 0 above the diagonal.

    Multiplied up and not divided or taken from logarithms, so a factor of 0 is as good as any other, and so is its
    gradient.
    """
    size = factors.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool, device=factors.device).tril(-1)
    ones = torch.ones_like(factors)[..., None]
    return torch.where(later, factors[..., None], ones).cumprod(-2).tril()
