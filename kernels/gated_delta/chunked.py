"""The gated delta rule a chunk at a time, as fast as a CPU does it: few large products, and a backward pass by hand.

The same function as ``plain.py``, whose lines ``README.md`` derives; there too is what is derived here. Shapes below: n
chunks, N rows times heads, C tokens per chunk, K and V widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.kernels.gated_delta.inputs import start
from labkit.kernels.gated_delta.plain import STRONGEST_DECAY
from labkit.kernels.gated_delta.solve import solve_unit_lower
from labkit.kernels.gradients import first_only

# Shorter chunks are slower and add more roundings up; in longer ones the gradient of g, a small difference of large
# sums, would lose the fifth digit in float32.
SHORTEST_CHUNK, WIDEST_CHUNK = 16, {torch.float32: 32, torch.float64: 128}

# A row of the batch whose inverses have no row sum above this keeps five digits in float32. Unit keys at random come to
# 3 or so; equal keys with beta = 2, at which a rounding error returns at every token, to twice the chunk.
TAME = 8.0

# Tokens times rows times heads, of one chunk without gradients, up to which operations cost more to start than to work
# out. At 512 and K = V = 32 a CPU is as fast in fewer operations of more float64; below that it is faster, at 64 twice.
SMALL = 512

# A compiled graph cannot look at its numbers: texts of up to so many tokens are taken for tame, longer ones for wild.
SHORT_TEXT = 64


def chunked_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    scale: float,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """The chunk-parallel form of `gated_delta_rule`; arguments and results are the same (2412.06464, section 3.3)."""
    out_dtype = v.dtype
    q, k, v, g, beta, state = start(q, k, v, g, beta, initial_state)
    batch, length, heads, _ = q.shape
    if length == 0:
        return torch.zeros_like(v).to(out_dtype), state
    chunks = -(-length // min(max(chunk_size, SHORTEST_CHUNK), WIDEST_CHUNK[q.dtype]))
    # a compiled graph for any length would be cut in two at this question, and has little to start anyway
    if chunks == 1 and not torch.compiler.is_compiling() and batch * heads * length <= SMALL:
        if not _needs_gradient(q, k, v, g, beta, state):
            q, k, v, g, beta = (t.transpose(1, 2) for t in (q, k, v, g, beta))
            o, state = _small_chunk(q, k, v, g, beta, state, scale)
            return o.transpose(1, 2).to(out_dtype), state
    size = -(-length // chunks)  # as even as can be: 33 tokens are 17 and 16, not 32 and 1
    tokens = [_split(t, size) for t in (q, k, v, g.clamp(min=STRONGEST_DECAY), beta)]
    state = state.flatten(0, 1)
    between = _between_tokens(tokens[1], *tokens[3:])
    if q.dtype == torch.float64:
        o, state = _chunks(*tokens, state, *between, scale)
    elif torch.compiler.is_compiling():
        o, state = _in_dtype(torch.float64 if length > SHORT_TEXT else torch.float32, tokens, state, between, scale)
    else:
        o, state = _as_each_row_needs(tokens, state, between, scale)
    o = o.to(out_dtype).unflatten(1, (batch, heads)).permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :length]
    return o, state.unflatten(0, (batch, heads))


def _needs_gradient(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in inputs)


def _small_chunk(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`_forward` of one chunk ``[B, H, C, ...]`` in few and small operations: the same products, nothing for later.

    What the inverse is multiplied with is summed in float64, as in ``plain.py``: that keeps a wild row's digits, so
    none is looked for.
    """
    total, long = g.clamp(min=STRONGEST_DECAY).double().cumsum(-1), k.double()
    decay = (total[..., :, None] - total[..., None, :]).exp_().tril_()
    rise = total.exp_()
    overlap = (long @ long.mT).mul_(decay).mul_(beta[..., None]).tril_(-1)
    one = torch.eye(g.shape[-1], dtype=overlap.dtype, device=g.device).expand_as(overlap)
    solved = solve_unit_lower(overlap, one) * beta[..., None, :]
    lookup = ((solved * rise[..., None, :]) @ long).to(q.dtype)
    error = (solved @ v.double()).to(q.dtype) - lookup @ state
    rise, decay = rise.to(q.dtype)[..., None], decay.to(q.dtype)
    scores = (q @ k.mT).mul_(decay)
    o = (q @ state).mul_(rise).add_(scores @ error).mul_(scale)
    kept = (k * decay[..., -1, :, None]).mT
    return o, (kept @ error).addcmul_(state, rise[..., -1:, :])


def _split(t: Tensor, size: int) -> Tensor:
    """``[B, T, H, ...]`` to ``[n, N, C, ...]``; the last chunk is filled with zeros, which write nothing."""
    missing = -t.shape[1] % size
    if missing:
        t = F.pad(t, (0, 0) * (t.ndim - 2) + (0, missing))
    t = t.unflatten(1, (-1, size)).transpose(0, 1).transpose(2, 3)  # [n, B, H, C, ...]
    return t.flatten(1, 2).contiguous()


@torch.no_grad()
def _between_tokens(k: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """What gates and keys of a chunk come to, in float64; their gradients are in `_Chunks`.

    Decay since its start and until its end ``[n, N, C]``, from column to row ``[n, N, C, C]``, ``(I + overlap)^-1``.
    """
    total, long = F.pad(g.double().cumsum(-1), (1, 0)), k.double()  # 0 before the first token
    decay = (total[..., :, None] - total[..., None, :]).exp_().tril_()  # what overflows lies above the diagonal
    rise, fall, decay = decay[..., 1:, 0], decay[..., -1, 1:], decay[..., 1:, 1:]
    # Each token's error depends on the errors before it: (I + overlap) E = what was to be written.
    overlap = (long @ long.mT).mul_(decay).mul_(beta[..., None]).tril_(-1)
    one = torch.eye(g.shape[-1], dtype=overlap.dtype, device=g.device).expand_as(overlap)
    return rise, fall, decay, solve_unit_lower(overlap, one)


def _as_each_row_needs(
    tokens: Sequence[Tensor], state: Tensor, between: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """In float32, but for the rows whose inverses would make its roundings grow; no row depends on another."""
    *_, solved = between
    wild = solved.abs().sum(-1).amax((0, 2)) > TAME  # [N]
    if not wild.any():
        return _in_dtype(torch.float32, tokens, state, between, scale)
    if wild.all():
        return _in_dtype(torch.float64, tokens, state, between, scale)
    parts = []
    for dtype, rows in ((torch.float32, ~wild), (torch.float64, wild)):
        some = ([t[:, rows] for t in several] for several in (tokens, between))
        parts.append(_in_dtype(dtype, next(some), state[rows], next(some), scale))
    back = wild.sort(stable=True).indices.argsort()
    outputs, states = zip(*parts, strict=True)
    return torch.cat(outputs, dim=1)[:, back], torch.cat(states)[back]


def _in_dtype(
    dtype: torch.dtype, tokens: Sequence[Tensor], state: Tensor, between: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """`_chunks` in a precision of its own; what comes out is float32."""
    o, state = _chunks(*(t.to(dtype) for t in (*tokens, state, *between)), scale)
    return o.float(), state.float()


def _chunks(*inputs):  # type: ignore[no-untyped-def]
    """o ``[n, N, C, V]`` and the last state ``[N, K, V]``, as `_forward`; with a way back where one is asked for."""
    if _needs_gradient(*inputs[:6]):
        return _Chunks.apply(*inputs)
    return _forward(*inputs)[:2]


def _forward(q, k, v, g, beta, state, rise, fall, decay, solved, scale):  # type: ignore[no-untyped-def]
    """o, the last state, what backward needs; from tokens ``[n, N, C, ...]``, a first state, what is between tokens."""
    fade = rise[..., -1:, None]
    lookup = (solved * (beta * rise)[..., None, :]) @ k

    # The chain through the states: what was wrong, and what is left of it when the chunk ends.
    error = (solved * beta[..., None, :]) @ v
    left = (k * fall[..., None]).mT
    states = q.new_empty(len(q) + 1, *state.shape)
    states[0] = state
    for c in range(len(q)):
        error[c].baddbmm_(lookup[c], states[c], alpha=-1)
        torch.mul(states[c], fade[c], out=states[c + 1]).baddbmm_(left[c], error[c])
    before, state = states[:-1], states[-1].clone()
    scores = (q @ k.mT).mul_(decay).mul_(scale)
    o = (q @ before).mul_((rise * scale)[..., None]).add_(scores @ error)
    return o, state, (q, k, v, beta, rise, fall, decay, solved, lookup, before, error, scores)


class _Chunks(torch.autograd.Function):
    """`_forward` with its gradient written down."""

    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
        o, state, needed = _forward(*inputs)
        ctx.save_for_backward(*needed)
        ctx.scale = inputs[-1]
        return o, state

    @staticmethod
    @first_only("The chunked form of the gated delta rule", 'backend="recurrent"')
    def backward(ctx, grad_o, grad_state):  # type: ignore[no-untyped-def]
        with torch.autocast(grad_o.device.type, enabled=False):  # whatever is on where backward is called
            return _Chunks.gradients(ctx, grad_o, grad_state)

    @staticmethod
    def gradients(ctx, grad_o, grad_state):  # type: ignore[no-untyped-def]
        """Gradients of all inputs, those of the gates between tokens through k, g and beta."""
        q, k, v, beta, rise, fall, decay, solved, lookup, before, error, scores = ctx.saved_tensors
        rising, falling, strength = (rise * ctx.scale)[..., None], fall[..., None], beta[..., None]
        fade = rise[..., -1:]

        # The chain through the states, the last chunk first: gradients of the states after each chunk, and of errors.
        left, wrong = k * falling, scores.mT @ grad_o
        states = q.new_empty(len(q) + 1, *grad_state.shape)
        torch.matmul((q * rising).mT, grad_o, out=states[:-1])
        states[-1] = grad_state
        for c in reversed(range(len(q))):
            wrong[c].baddbmm_(left[c], states[c + 1])
            states[c].baddbmm_(lookup[c].mT, wrong[c], alpha=-1).addcmul_(states[c + 1], fade[c][..., None])
        grad_state, after = states[0].clone(), states[1:]

        # Of what the errors were solved from, and of the two matrices between tokens.
        pulled = solved.mT @ wrong
        del left, wrong  # here and below: what is not needed any more would be most of the memory
        of_overlap = (pulled @ error.mT).tril_(-1).neg_()
        of_scores = grad_o @ error.mT
        through, asked, kept_for = pulled @ before.mT, grad_o @ before.mT, error @ after.mT  # [n, N, C, K]
        faded = torch.linalg.vecdot(before.flatten(-2), after.flatten(-2))
        del states, after
        by_key, by_query = of_overlap * decay, of_scores * decay * ctx.scale

        alike = k @ k.mT
        looked = rise * (k * through).sum(-1)
        gone = fall * (k * kept_for).sum(-1)
        of_strength = (by_key * alike).sum(-1)
        by_key *= strength
        moved = by_key * alike + of_scores * scores
        grad_g = moved.sum(-1) - moved.sum(-2) - beta * looked + (asked * q).sum(-1) * rising[..., 0] - gone
        grad_g[..., -1] += gone.sum(-1) + fade[..., 0] * faded
        grad_g = grad_g.flip(-1).cumsum(-1).flip(-1)  # a log-decay is in all sums from its own on
        grad_beta = of_strength - looked + (pulled * v).sum(-1)
        grad_q = by_query @ k + asked.mul_(rising)
        grad_k = (by_key + by_key.mT) @ k + by_query.mT @ q
        grad_k += kept_for.mul_(falling) - through.mul_((beta * rise)[..., None])
        return grad_q, grad_k, pulled * strength, grad_g, grad_beta, grad_state, *[None] * 5
