"""What every puzzle asks for, in PyTorch: a few lines each, one token after the other, in float64 when checked.

N counts heads (of all rows of a batch), T tokens, K and V are the widths of keys and values, C is the size of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["backward", "copy", "decay", "delta", "inverse", "normalise", "product", "scale_rows", "titans"]


def copy(x: Tensor) -> Tensor:
    """x [n]."""
    return x.clone()


def scale_rows(x: Tensor, g: Tensor) -> Tensor:
    """x [rows, columns], g [rows], a log-decay: at most 0."""
    return torch.exp(g)[:, None] * x


def normalise(x: Tensor) -> Tensor:
    """x [rows, columns]; a row of zeros stays zero."""
    norm = (x * x).sum(dim=1, keepdim=True).sqrt()
    return x / norm.clamp(min=1e-6)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K], b [K, N]."""
    return a @ b


def decay(g: Tensor, C: int) -> Tensor:
    """g [N, T]; gives [N, T, C]: for token i, what is left at i of what token j of the same chunk wrote."""
    out = g.new_zeros(*g.shape, C)
    for i in range(g.shape[1]):
        first = i - i % C
        for j in range(first, i + 1):
            out[:, i, j - first] = torch.exp(g[:, j + 1 : i + 1].sum(dim=1))
    return out


def inverse(a: Tensor) -> Tensor:
    """a [M, n, n], zero on and above the diagonal."""
    return torch.linalg.inv(torch.eye(a.shape[-1], dtype=a.dtype) + a)


def delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, start: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """q, k [N, T, K], v [N, T, V], g, beta [N, T], start [N, K, V]; gives o [N, T, V] and the last state."""
    S, o = start, []
    for t in range(q.shape[1]):
        S = torch.exp(g[:, t])[:, None, None] * S
        e = v[:, t] - torch.einsum("nkv,nk->nv", S, k[:, t])
        S = S + torch.einsum("n,nk,nv->nkv", beta[:, t], k[:, t], e)
        o.append(scale * torch.einsum("nkv,nk->nv", S, q[:, t]))
    return torch.stack(o, dim=1), S


def backward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, before: Tensor,
    grad_o: Tensor, grad_end: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """before [N, chunks, K, V]; gives the gradients of q, k, v, g, beta and start, from those of o and the end."""
    leaves = [t.detach().requires_grad_() for t in (q, k, v, g, beta, before[:, 0])]
    results = delta(*leaves, scale=scale)
    return torch.autograd.grad(results, leaves, (grad_o, grad_end))


def titans(
    q: Tensor, k: Tensor, v: Tensor, step: Tensor, momentum: Tensor, forget: Tensor,
    start_w: Tensor, start_s: Tensor, C: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """q, k, v [N, T, D], step, momentum, forget [N, T], start_w, start_s [N, D, D]; gives y, and W and S at the end."""
    W, S, anchor, y = start_w, start_s, start_w, []
    for t in range(q.shape[1]):
        anchor = W if t % C == 0 else anchor  # the weights before the chunk
        error = 2 * (torch.einsum("nio,ni->no", anchor, k[:, t]) - v[:, t])
        θ, η, α = (gate[:, t, None, None] for gate in (step, momentum, forget))
        S = η * S - θ * torch.einsum("ni,no->nio", k[:, t], error)
        W = (1 - α) * W + S
        y.append(torch.einsum("nio,ni->no", W, q[:, t]))
    return torch.stack(y, dim=1), W, S
