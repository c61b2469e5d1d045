"""What typical errors compute in puzzles 8 and 9, where they can only be made a chunk at a time.

With no error, called "", these are `specs.delta` and `specs.backward` once more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labkit.explore.puzzles import specs

__all__ = ["BACKWARD", "FORWARD", "backward", "forward"]

Tensors = dict[str, Tensor]

#: Errors of the forward pass, and what is said of them.
FORWARD = {
    "old unfaded": "The old state has not faded over the chunk: exp(G_C) is missing in front of S where S is updated.",
    "look-up unfaded": "The errors look up a state that has not faded: exp(G) is missing in (beta exp(G) K) S.",
    "read unfaded": "The output reads a state that has not faded: exp(G) is missing in (exp(G) Q) S.",
    "X transposed": "The inverse stands transposed: U is (I + A)^-1 times what beta multiplies, as puzzle 7 gives it.",
    "scores bare": "The scores lack the matrix D: in Q K^T * D it fades them, and hides later tokens.",
    "scores unfaded": "The scores hide later tokens but have not faded: multiply Q K^T by D.",
}

#: Errors of the backward pass, and what is said of them.
BACKWARD = {
    "no beta": "grad_v lacks beta: dV is beta R, not R.",
    "not transposed": "The inverse is not transposed on the way back: R is X^T dU, not X dU.",
    "sign": "dA has the wrong sign: the derivative of an inverse brings a minus, dA = -R U^T.",
    "unfaded": "The gradient of the state has not faded on its way back over a chunk: exp(G_C) is missing in front of "
    "dS.",
}


def _chunks(length: int, size: int) -> Iterator[slice]:
    """Where each chunk lies; the last may be shorter."""
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))


def _fading(g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of one chunk: D [N, c, c], exp(G) and exp(G_C - G) [N, c, 1], exp(G_C) [N, 1, 1]."""
    total = g.cumsum(1)
    decay = (total[:, :, None] - total[:, None, :]).tril().exp().tril()
    return decay, total.exp()[..., None], (total[:, -1:] - total).exp()[..., None], total[:, -1:, None].exp()


def forward(inputs: Tensors, scale: float, C: int, fault: str) -> tuple[Tensor, Tensor]:
    """The formulas of puzzle 8 with the error called `fault`."""
    S, o = inputs["start"], []
    for here in _chunks(inputs["q"].shape[1], C):
        q, k, v, beta = (inputs[name][:, here] for name in ("q", "k", "v", "beta"))
        D, rise, fall, fade = _fading(inputs["g"][:, here])
        A = (beta[..., None] * (k @ k.mT) * D).tril(-1)
        X = specs.inverse(A)
        X = X.mT if fault == "X transposed" else X
        U = X @ (beta[..., None] * (v - (1.0 if fault == "look-up unfaded" else rise) * (k @ S)))
        scores = q @ k.mT
        scores = {"scores bare": scores, "scores unfaded": scores.tril()}.get(fault, scores * D)
        o.append(scale * ((1.0 if fault == "read unfaded" else rise) * (q @ S) + scores @ U))
        S = (1.0 if fault == "old unfaded" else fade) * S + (fall * k).mT @ U
    return torch.cat(o, dim=1), S


def backward(inputs: Tensors, scale: float, C: int, fault: str) -> tuple[Tensor, ...]:
    """The formulas of puzzle 9 with the error called `fault`."""
    length, dS = inputs["q"].shape[1], inputs["grad_end"]
    of: dict[str, list[Tensor]] = {name: [] for name in ("q", "k", "v", "g", "beta")}
    for c, here in reversed(list(enumerate(_chunks(length, C)))):
        q, k, v, U, X, dO = (inputs[name][:, here] for name in ("q", "k", "v", "errors", "inverse", "grad_o"))
        beta, S, dO, X = inputs["beta"][:, here, None], inputs["before"][:, c], scale * dO, X[:, :, : q.shape[1]]
        D, rise, fall, fade = _fading(inputs["g"][:, here])
        near, scores = k @ k.mT * D, q @ k.mT * D
        dU = scores.mT @ dO + fall * (k @ dS)
        R = X @ dU if fault == "not transposed" else X.mT @ dU
        dA = (1 if fault == "sign" else -1) * (R @ U.mT).tril(-1)
        dP = dO @ U.mT
        looked, asked, kept = R @ S.mT, rise * (dO @ S.mT), fall * (U @ dS.mT)
        seen, gone, B = rise * (k * looked).sum(2, keepdim=True), (k * kept).sum(2), beta * dA * D
        of["q"].insert(0, (dP * D) @ k + asked)
        of["k"].insert(0, (B + B.mT) @ k + (dP * D).mT @ q - beta * rise * looked + kept)
        of["v"].insert(0, R if fault == "no beta" else beta * R)
        of["beta"].insert(0, (dA * near).sum(2) + (R * v).sum(2) - seen[..., 0])
        M = dA * beta * near + dP * scores
        dG = M.sum(2) - M.sum(1) - (beta * seen)[..., 0] + (q * asked).sum(2) - gone
        last = gone.sum(1, keepdim=True) + (fade * S * dS).sum((1, 2))[:, None]
        dG = torch.cat([dG[:, :-1], dG[:, -1:] + last], dim=1)
        of["g"].insert(0, dG.flip(1).cumsum(1).flip(1))
        dS = (1.0 if fault == "unfaded" else fade) * dS + (rise * q).mT @ dO - (beta * rise * k).mT @ R
    return *(torch.cat(parts, dim=1) for parts in of.values()), dS
