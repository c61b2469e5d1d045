"""What typical errors compute: the specs of the larger puzzles, each with one thing wrong.

A check compares a wrong result with these, so that it names an error only where the numbers say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from labkit.explore.puzzles import chunk_faults, specs
from labkit.explore.puzzles.core import Mistake

__all__ = ["BACKWARD", "CHUNKED", "DELTA", "TITANS"]

Tensors = dict[str, Tensor]


def delta(inputs: Tensors, scale: float, C: int, fault: str) -> tuple[Tensor, Tensor] | None:
    """`specs.delta` with the error called `fault`; None where it cannot be made at these sizes."""
    q, k, v, g, beta, start = (inputs[name] for name in ("q", "k", "v", "g", "beta", "start"))
    if fault == "transposed":
        told, end = specs.delta(q, k, v, g, beta, start, scale=scale)
        return (told, end.mT) if end.shape[1] == end.shape[2] else None
    start = torch.zeros_like(start) if fault == "start ignored" else start
    scale = 1.0 if fault == "no scale" else scale
    S, written = start, torch.zeros_like(start)
    first, o = start, []  # `first` is what is left of the chunk's first state
    for t in range(q.shape[1]):
        if t and t % C == 0:
            S = first + written if fault == "written unfaded" else S
            S = {"not carried": start, "emptied": torch.zeros_like(S)}.get(fault, S)
            first, written = S, torch.zeros_like(S)
        fade = torch.ones_like(g[:, t]) if fault == "no decay" else torch.exp(g[:, t])
        old, S, first = S, fade[:, None, None] * S, fade[:, None, None] * first
        seen = {"undecayed": old, "decay last": old, "first unseen": S - first}.get(fault, S)
        e = v[:, t] - (0 if fault == "no look-up" else torch.einsum("nkv,nk->nv", seen, k[:, t]))
        u = e if fault == "no beta" else beta[:, t, None] * e
        if fault == "no beta in A":  # what the chunk's earlier tokens wrote is looked up at full strength
            u = u + (beta[:, t, None] - 1) * torch.einsum("nkv,nk->nv", S - first, k[:, t])
        new = torch.einsum("nk,nv->nkv", k[:, t], u)
        before, S, written = S, S + (fade[:, None, None] * new if fault == "decay last" else new), written + new
        shown = {"read first": before, "first unread": S - first}.get(fault, S)
        o.append(scale * torch.einsum("nkv,nk->nv", shown, q[:, t]))
    return torch.stack(o, dim=1), first + written if fault == "written unfaded" else S


_DELTA = {
    "undecayed": "The error is measured on the memory before it faded: fade S first, then look up.",
    "decay last": "The decay comes after the write, so what was just written fades at once: fade first, then write.",
    "no beta": "The strength beta is missing: the error is written whole.",
    "no scale": "The factor scale is missing where the memory is read.",
    "no decay": "Nothing fades: exp(g) is missing.",
    "read first": "The memory is read before the write, so a token does not see what it has just stored.",
    "no look-up": "v is written, not the error v - S^T k: the look-up is missing.",
    "start ignored": "The first state is ignored: the memory starts empty.",
    "transposed": "The last state is stored transposed: rows are keys, columns are values.",
}
_CHUNKED = {
    "not carried": "Every chunk starts from the first state again: carry S from one chunk to the next.",
    "emptied": "Every chunk starts with an empty memory: carry S from one chunk to the next.",
    "no beta in A": "A has no beta: row i of A is beta_i (k_i . k_j) D_ij.",
    "first unseen": "The errors do not see the state before the chunk: the look-up (beta exp(G) K) S is missing.",
    "first unread": "The output does not see the state before the chunk: (exp(G) Q) S is missing.",
    "written unfaded": "What a chunk writes into the state has not faded: exp(G_C - G_j) is missing in front of k_j.",
}


def _of_delta(fault: str) -> Callable[[Tensors, Mapping[str, Any]], Tensors | None]:
    rule = chunk_faults.forward if fault in chunk_faults.FORWARD else delta

    def compute(inputs: Tensors, sizes: Mapping[str, Any]) -> Tensors | None:
        # Without chunks, one that is longer than any text.
        found = rule(inputs, sizes["scale"], sizes.get("C", 1 << 30), fault)
        return None if found is None else dict(zip(("o", "end"), found, strict=True))

    return compute


DELTA = tuple(Mistake(told, _of_delta(fault)) for fault, told in _DELTA.items())
CHUNKED = (*DELTA, *(Mistake(told, _of_delta(fault)) for fault, told in (_CHUNKED | chunk_faults.FORWARD).items()))


def backward(inputs: Tensors, scale: float, C: int, fault: str) -> tuple[Tensor, ...] | None:
    """`specs.backward` with the error called `fault`; None where that depends on how tokens are made up for."""
    own = {name: inputs[name] for name in ("q", "k", "v", "g", "beta", "before", "grad_o", "grad_end")}
    if fault in ("end ignored", "end only"):
        silent = "grad_end" if fault == "end ignored" else "grad_o"
        return specs.backward(**{**own, silent: torch.zeros_like(own[silent])}, scale=scale)
    if fault == "no scale":
        return specs.backward(**own, scale=1.0)
    if fault in ("not summed", "summed forward"):
        if inputs["g"].shape[1] % C:
            return None
        *first, grad_g, grad_beta, grad_start = specs.backward(**own, scale=scale)
        parts = list(grad_g.split(C, dim=1))
        local = [part - torch.cat([part[:, 1:], torch.zeros_like(part[:, :1])], dim=1) for part in parts]
        if fault == "summed forward":
            local = [part.cumsum(1) for part in local]
        return *first, torch.cat(local, dim=1), grad_beta, grad_start
    # The rest goes through the recurrence once more, with gradients cut somewhere.
    leaves = [own[name].detach().requires_grad_() for name in ("q", "k", "v", "g", "beta")]
    q, k, v, g, beta = leaves
    start = own["before"][:, 0].detach().requires_grad_()
    asked = k.detach() if fault == "keys written only" else k
    stored = k.detach() if fault == "keys looked up only" else k
    S, o = start, []
    for t in range(q.shape[1]):
        if fault == "not chained" and t and t % C == 0:
            S = S.detach()
        S = torch.exp(g[:, t])[:, None, None] * S
        e = v[:, t] - torch.einsum("nkv,nk->nv", S, asked[:, t])
        S = S + torch.einsum("n,nk,nv->nkv", beta[:, t], stored[:, t], e)
        o.append(scale * torch.einsum("nkv,nk->nv", S, q[:, t]))
    results = (torch.stack(o, dim=1), S)
    grads = torch.autograd.grad(results, [*leaves, start], (own["grad_o"], own["grad_end"]), allow_unused=True)
    return tuple(
        torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(grads, [*leaves, start], strict=True)
    )


_BACKWARD = {
    "end ignored": "The gradient of the last state is ignored: the chain begins with grad_end, not with zero.",
    "end only": "The gradient of the output is ignored.",
    "no scale": "The factor scale of the forward pass is missing in the gradients of what it multiplied.",
    "not summed": "grad_g is the gradient of the sums G, not of g: every g_j is in all G_i with i >= j of its chunk.",
    "summed forward": "grad_g is summed in the wrong direction: g_j is in the sums G_i with i >= j, not i <= j.",
    "not chained": "Nothing comes back from the later chunks: carry the gradient of the state from the last to the "
    "first.",
    "keys written only": "The gradient of k counts only what the keys wrote, not what they looked up.",
    "keys looked up only": "The gradient of k counts only what the keys looked up, not what they wrote.",
}
_GRADIENTS = ("grad_q", "grad_k", "grad_v", "grad_g", "grad_beta", "grad_start")


def _of_backward(fault: str) -> Callable[[Tensors, Mapping[str, Any]], Tensors | None]:
    rule = chunk_faults.backward if fault in chunk_faults.BACKWARD else backward

    def compute(inputs: Tensors, sizes: Mapping[str, Any]) -> Tensors | None:
        found = rule(inputs, sizes["scale"], sizes["C"], fault)
        return None if found is None else dict(zip(_GRADIENTS, found, strict=True))

    return compute


BACKWARD = tuple(Mistake(told, _of_backward(fault)) for fault, told in (_BACKWARD | chunk_faults.BACKWARD).items())


def titans(inputs: Tensors, C: int, fault: str) -> tuple[Tensor, Tensor, Tensor]:
    """`specs.titans` with the error called `fault`."""
    q, k, v, start = inputs["q"], inputs["k"], inputs["v"], inputs["start_s"]
    W, S, y = inputs["start_w"], torch.zeros_like(start) if fault == "start ignored" else start, []
    anchor = W
    for t in range(q.shape[1]):
        if t % C == 0:
            anchor = anchor if fault == "stale" else W
            S = torch.zeros_like(S) if fault == "velocity lost" and t else S
        gradient_at = W if fault == "running" else anchor
        factor = 1 if fault == "no two" else 2
        error = factor * (torch.einsum("nio,ni->no", gradient_at, k[:, t]) - v[:, t])
        θ, η, α = (inputs[name][:, t, None, None] for name in ("step", "momentum", "forget"))
        push = θ * torch.einsum("ni,no->nio", k[:, t], error)
        push = -push if fault == "uphill" else push
        S = η * (S - push) if fault == "momentum last" else (S if fault == "no momentum" else η * S) - push
        old = W
        kept = {"no forgetting": W, "exchanged": α * W}.get(fault, (1 - α) * W)
        W = (1 - α) * (W + S) if fault == "forget last" else kept + S
        y.append(torch.einsum("nio,ni->no", old if fault == "read first" else W, q[:, t]))
    return torch.stack(y, dim=1), W, S


_TITANS = {
    "running": "The gradient is taken at the weights of now: within a chunk it is taken at the weights before its "
    "first token.",
    "stale": "All chunks take their gradient at the first weights: move the anchor on when a chunk begins.",
    "no two": "The factor 2 of the gradient of a square is missing.",
    "momentum last": "Momentum also multiplies the newest gradient: in S = eta S - theta G it is on the old S alone.",
    "uphill": "The step goes uphill: S is eta S minus, not plus, theta times the gradient.",
    "no momentum": "The velocity is kept whole: eta is missing.",
    "forget last": "What was just written is forgotten at once: 1 - alpha is on the old weights alone.",
    "no forgetting": "Nothing is forgotten: 1 - alpha is missing.",
    "exchanged": "alpha stands for 1 - alpha: alpha is what is forgotten, 1 - alpha is what is kept.",
    "read first": "The memory is read before the write: y is M(q) after this token's step.",
    "start ignored": "The first velocity is ignored.",
    "velocity lost": "The velocity starts from zero in every chunk: carry it on.",
}


def _of_titans(fault: str) -> Callable[[Tensors, Mapping[str, Any]], Tensors | None]:
    def compute(inputs: Tensors, sizes: Mapping[str, Any]) -> Tensors | None:
        return dict(zip(("y", "end_w", "end_s"), titans(inputs, sizes["C"], fault), strict=True))

    return compute


TITANS = tuple(Mistake(told, _of_titans(fault)) for fault, told in _TITANS.items())
