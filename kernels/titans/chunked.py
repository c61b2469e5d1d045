"""The neural memory a chunk at a time: every gradient of a chunk is taken at one point, its *anchor*.

Shapes below: B batch, H heads, C tokens of a chunk, D width. ``README.md`` derives every line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

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

    def split(self, sizes: list[int]) -> list[Tokens]:
        """These tokens in pieces of these sizes; cut at once, so that a gradient is put together once."""
        return [Tokens(*piece) for piece in zip(*(t.split(sizes, dim=2) for t in vars(self).values()), strict=True)]


class Spread(NamedTuple):
    """What the gates of a piece of a chunk come to, whatever its tokens hold.

    Attributes:
        reach: ``[B, H, C, C]`` how much of the gradient of token i is in M at token t, before its step.
        pushed, kept: ``[B, H, C]`` how much of the velocity and of the weights before the piece.
        late: ``[B, H, C]`` how much of the gradient of each token is in S at the end; `since`, ``[B, H]``, of the
            velocity before.
    """

    reach: Tensor
    pushed: Tensor
    kept: Tensor
    late: Tensor
    since: Tensor


def chunked_neural_memory(
    tokens: Tokens, carried: Carried, chunk_size: int, limit: float | None, clip: float | None
) -> tuple[Tensor, Carried, Tensor]:
    """Write and read all tokens, going on with the chunk that is open.

    Returns ``y [B, H, T, D]``, what is carried on, and ``[B, H, T]`` the surprise of every token: the norm of its
    gradient over all weights of the memory.
    """
    outputs, surprises = [tokens.v[:, :, :0]], [tokens.step[:, :, :0]]
    sizes = _pieces(tokens.q.shape[2], carried.position, chunk_size)
    spreads = _spreads(tokens, sizes) if chunk_size > 1 else None
    for number, piece in enumerate(tokens.split(sizes)):
        if carried.position == 0:
            carried = Carried.begin(_limited(carried.weights, limit), _limited(carried.velocity, limit))
        if spreads is None:
            y, surprise, carried = _one(piece, carried, clip)
        else:
            y, surprise, carried = _several(piece, spreads[number], carried, clip)
        if carried.position == chunk_size:
            carried = Carried.begin(carried.weights, carried.velocity)
        outputs.append(y)
        surprises.append(surprise)
    return torch.cat(outputs, dim=2), carried, torch.cat(surprises, dim=2)


def _pieces(length: int, position: int, chunk_size: int) -> list[int]:
    """How many tokens go to the open chunk, to each whole one, and to the last."""
    first = min(length, chunk_size - position)
    whole, last = divmod(length - first, chunk_size)
    return [size for size in (first, *[chunk_size] * whole, last) if size]


def _spreads(tokens: Tokens, sizes: list[int]) -> list[Spread]:
    """The spread of every piece; pieces of one size in a row are made at once, in few and large operations."""
    runs = [(size, len(list(alike))) for size, alike in groupby(sizes)]
    lengths = [size * number for size, number in runs]
    gates = torch.stack([tokens.momentum, 1 - tokens.forget])
    found = []
    for (size, number), here in zip(runs, gates.split(lengths, dim=3), strict=True):
        reach, pushed, kept, passed_on, since = spread(here.unflatten(3, (number, size)))
        several = reach, pushed, kept, passed_on[..., -1, :], since[..., -1]
        found += [Spread(*one) for one in zip(*(t.unbind(2) for t in several), strict=True)]
    return found


def spread(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What momentum and staying, stacked ``[2, ..., C]``, come to between any two tokens of a chunk.

    Returns ``reach [..., C, C]``, ``pushed`` and ``kept [..., C]`` as in `Spread`; ``passed_on [..., C, C]``, how much
    of the gradient of token i is in S at token t, and ``since [..., C]``, of the velocity before the chunk.
    """
    passed_on, remains = between = products(gates)
    since, kept = gates[..., :1] * between[..., 0]  # the first token's factor included
    pushed = (remains @ since[..., None])[..., 0]
    return remains @ passed_on, pushed, kept, passed_on, since


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


def _several(tokens: Tokens, spread: Spread, carried: Carried, clip: float | None) -> tuple[Tensor, Tensor, Carried]:
    """The tokens of one chunk, or a part of them, at once."""
    inputs, errors = gradients(carried.anchor, tokens.k, tokens.v)
    squares = _squared_surprise(inputs, errors)
    step = _clipped(tokens.step, squares, clip)
    reached = spread.reach * step[..., None, :]  # what token i has moved in M by token t, over -x_i e_i^T
    late = spread.late * step  # the same for S at the end
    kept, pushed = spread.kept[..., None], spread.pushed[..., None]

    y = tokens.q
    for number, (x, e, w, s) in enumerate(zip(inputs, errors, carried.weights, carried.velocity, strict=True)):
        y = F.silu(y) if number else y
        y = kept * (y @ w) + pushed * (y @ s) - (reached * (y @ x.mT)) @ e
    last = kept[..., -1:, :], pushed[..., -1:, :], spread.since[..., None, None]
    weights, velocity = [], []
    for x, e, w, s in zip(inputs, errors, carried.weights, carried.velocity, strict=True):
        weights.append(last[0] * w + last[1] * s - (reached[..., -1, :, None] * x).mT @ e)
        velocity.append(last[2] * s - (late[..., None] * x).mT @ e)
    position = carried.position + tokens.step.shape[-1]
    return y, squares.sqrt(), Carried(weights, velocity, carried.anchor, position)


class _Products(torch.autograd.Function):
    """`products`, whose gradient is two matrix products where that of a running product divides or loops.

    With the factors f below the diagonal of L, the products are ``P = (I - L)^-1``; so ``dP = P dL P``, and the
    gradient of f_j is what lies below the diagonal in ``P^T G P^T``. Nothing is divided, so a factor of 0 is as good as
    any. And as this holds at any factors and the backward pass is made of products of P and G alone, PyTorch can
    differentiate it again.
    """

    @staticmethod
    def forward(ctx: Any, factors: Tensor) -> Tensor:
        size = factors.shape[-1]
        later = torch.ones(size, size, dtype=torch.bool, device=factors.device).tril(-1)
        ones = torch.ones_like(factors)[..., None]
        found = torch.where(later, factors[..., None], ones).cumprod(-2).tril()
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (found,) = ctx.saved_tensors
        within = (found.mT @ grad.tril() @ found.mT).diagonal(-1, -2, -1)
        return F.pad(within, (1, 0))


def products(factors: Tensor) -> Tensor:
    """``[..., C, C]`` with ``factors[i + 1] * ... * factors[j]`` at row j, column i <= j, and 0 above the diagonal.

    Multiplied up and not divided or taken from logarithms, so a factor of 0 is as good as any other, and so is its
    gradient.
    """
    return _Products.apply(factors)
