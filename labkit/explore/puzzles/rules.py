"""Puzzles 5 and 8 to 10: memories, token by token and a chunk at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from labkit.explore.puzzles import faults, specs
from labkit.explore.puzzles.core import Case, Puzzle, cases, pitches, unit
from labkit.explore.puzzles.first import log_decays
from labkit.explore.puzzles.interpreter import triton
from labkit.kernels.tiles import block_of

__all__ = ["BACKWARD", "CHUNKED", "STEP", "TITANS"]

Tensors = dict[str, Tensor]
Sizes = Mapping[str, Any]
cdiv = triton.cdiv
CHUNK = 16


def _draw_tokens(case: Case, generator: torch.Generator) -> Tensors:
    """Keys of unit length, beta in [0, 2], a first state where the case has one."""
    n, t, k, v = (case.sizes[name] for name in "NTKV")
    keys, beta = unit(torch.randn(n, t, k, generator=generator)), 2 * torch.rand(n, t, generator=generator)
    start = torch.randn(n, k, v, generator=generator)
    if "equal keys" in case.marks:
        keys, beta = keys[:, :1].expand(n, t, k), torch.full((n, t), 2.0)
    g = log_decays(case, generator, n, t)
    return {
        "q": torch.randn(n, t, k, generator=generator),
        "k": keys,
        "v": torch.randn(n, t, v, generator=generator),
        "g": torch.zeros(n, t) if "equal keys" in case.marks else g,
        "beta": beta,
        "start": start if "state" in case.marks else torch.zeros(n, k, v),
    }


def _numbers(s: Sizes) -> dict[str, Any]:
    """What every kernel of the gated delta rule gets beside its arrays."""
    return {
        "T": s["T"], "K": s["K"], "V": s["V"], **pitches(k_row=s["K"], v_row=s["V"], t_row=s["T"]),
        "scale": s["K"] ** -0.5,
    }  # fmt: skip


def _marks(s: Sizes) -> set[str]:
    marks = {"several heads"} if s["N"] > 1 else set()
    widths = [s[name] for name in ("K", "V", "D") if name in s]
    if any(width % 16 for width in widths) or ("C" in s and s["T"] % s["C"]):
        marks.add("ragged")
    if "C" in s and s["T"] > s["C"]:
        marks.add("several chunks")
    return marks


def _sizes(n: int, t: int, k: int, v: int, **more: int) -> dict[str, int]:
    return {"N": n, "T": t, "K": k, "V": v, **more}


STEP = Puzzle(
    name="delta", number=5, title="The gated delta rule, token by token",
    summary="A memory that is one matrix: fade, look up, write what was wrong, read. A program keeps BV columns of one "
    "head's state in registers and goes through the tokens; columns go with no other column.",
    formula=r"S \leftarrow e^{g_t} S, \quad e = v_t - S^\top k_t, \quad S \leftarrow S + \beta_t k_t e^\top, \quad "
    r"o_t = s\, S^\top q_t",
    source="Gated DeltaNet (arXiv 2412.06464), equation 10, transposed: here S is [K, V].",
    spec=specs.delta, outputs=("o", "end"), draw=_draw_tokens, options=("scale",),
    grid=lambda s: (s["N"], cdiv(s["V"], s["BV"])),
    scalars=lambda s: {**_numbers(s), "BK": block_of(s["K"]), "BV": s["BV"]},
    cases=cases(
        _sizes(1, 6, 16, 16, BV=16), _sizes(2, 5, 16, 16, BV=16, state=1), _sizes(1, 9, 16, 32, BV=16),
        _sizes(2, 7, 5, 20, BV=16, state=1), _sizes(2, 9, 12, 10, BV=16, state=1, special=1),
        _sizes(1, 20, 8, 8, BV=16, state=1, special=2),
        marks=lambda s: _marks(s) | ({"several blocks"} if s["V"] > s["BV"] else set()),
    ),
    mistakes=faults.DELTA,
)  # fmt: skip

_CHUNKED_CASES = cases(
    _sizes(1, 16, 16, 16, C=CHUNK), _sizes(1, 32, 16, 16, C=CHUNK), _sizes(2, 5, 16, 16, C=CHUNK, state=1),
    _sizes(2, 21, 9, 20, C=CHUNK, state=1), _sizes(1, 21, 16, 16, C=CHUNK, state=1, special=1),
    _sizes(1, 32, 8, 8, C=CHUNK, state=1, special=2),
    marks=_marks,
)  # fmt: skip

CHUNKED = Puzzle(
    name="chunked", number=8, title="The gated delta rule, a chunk at a time",
    summary="The same function as puzzle 5, in matrix products: puzzle 6 gives D, puzzle 7 the inverse, and only the "
    "state goes from chunk to chunk. A program does one head. Zeros in place of missing tokens change nothing.",
    formula=r"\begin{aligned} A_{ij} &= \beta_i\, (k_i \cdot k_j)\, D_{ij} \ (j < i), \qquad "
    r"U = (I + A)^{-1} \left(\beta V - (\beta e^{G} K) S\right) \\ "
    r"O &= s \left((e^{G} Q) S + (Q K^\top \odot D)\, U\right), \qquad "
    r"S \leftarrow e^{G_C} S + (e^{G_C - G} K)^\top U \end{aligned}",
    source="Gated DeltaNet (arXiv 2412.06464), section 3.3; derived in kernels/gated_delta/README.md, 1 to 6.",
    spec=specs.delta, outputs=("o", "end"), draw=_draw_tokens, options=("scale",),
    grid=lambda s: (s["N"],),
    scalars=lambda s: {**_numbers(s), "C": s["C"], "BK": block_of(s["K"]), "BV": block_of(s["V"])},
    cases=_CHUNKED_CASES, mistakes=faults.CHUNKED, tolerance=5e-5,
)  # fmt: skip


def _draw_backward(case: Case, generator: torch.Generator) -> Tensors:
    """The tokens, what the forward pass has kept, and gradients of its results."""
    own, size = _draw_tokens(case, generator), case.sizes["C"]
    q, k, v, g, beta, state = (own[name].double() for name in ("q", "k", "v", "g", "beta", "start"))
    n, length, _ = q.shape
    before, errors, inverses = [], torch.zeros_like(v), torch.zeros(n, length, size, dtype=torch.float64)
    for first in range(0, length, size):
        here = slice(first, first + size)
        before.append(state)
        decay = specs.decay(g[:, here], size)
        count = decay.shape[1]
        decay = decay[:, :, :count]
        a = (beta[:, here, None] * (k[:, here] @ k[:, here].mT) * decay).tril(-1)
        inverses[:, here, :count] = torch.linalg.inv(torch.eye(count, dtype=torch.float64) + a)
        total = g[:, here].cumsum(1)
        seen = torch.einsum("nkv,nck->ncv", state, k[:, here]) * total.exp()[..., None]
        errors[:, here] = inverses[:, here, :count] @ (beta[:, here, None] * (v[:, here] - seen))
        _, state = specs.delta(q[:, here], k[:, here], v[:, here], g[:, here], beta[:, here], state, scale=1.0)
    own = {name: own[name] for name in ("q", "k", "v", "g", "beta")}
    own |= {"before": torch.stack(before, 1).float(), "errors": errors.float(), "inverse": inverses.float()}
    own["grad_o"] = torch.randn(v.shape, generator=generator)
    own["grad_end"] = torch.randn(state.shape, generator=generator)
    return own


BACKWARD = Puzzle(
    name="backward", number=9, title="Backwards through the chunks",
    summary="The gradients of puzzle 8, the last chunk first. The forward pass has kept the state before every chunk, "
    "the errors U and the inverse X, row by row of tokens. Write dS for the gradient of the state after the chunk, and "
    "dO for s times that of the output.",
    formula=r"\begin{aligned} dU &= (Q K^\top \odot D)^\top dO + (e^{G_C - G} K)\, dS, \qquad R = X^\top dU, "
    r"\qquad dA = -R\, U^\top \ (j < i), \qquad dP = dO\, U^\top \\ "
    r"dQ &= (dP \odot D) K + e^{G} dO\, S^\top, \qquad dV = \beta R, \qquad "
    r"d\beta = \textstyle\sum_j dA \odot D \odot K K^\top + R \cdot V - e^{G} k \cdot (R S^\top) \\ "
    r"dK &= (B + B^\top) K + (dP \odot D)^\top Q - \beta e^{G} R S^\top + e^{G_C - G} U dS^\top, \qquad "
    r"B = \beta\, dA \odot D \\ "
    r"dG_i &= \textstyle\sum_j M_{ij} - \sum_j M_{ji} - \beta e^{G} k \cdot (R S^\top) + e^{G} q \cdot (dO\, S^\top) "
    r"- z_i, \qquad M = dA \odot A + dP \odot Q K^\top \odot D, \qquad z = e^{G_C - G} k \cdot (U dS^\top) \\ "
    r"dG_C &\mathrel{+}= \textstyle\sum_i z_i + e^{G_C} \langle S, dS\rangle, \qquad dg_j = \sum_{i \ge j} dG_i, "
    r"\qquad dS \leftarrow e^{G_C} dS + (e^{G} Q)^\top dO - (\beta e^{G} K)^\top R \end{aligned}",
    source="The chain rule on puzzle 8; kernels/gated_delta/chunked.py has it in PyTorch.",
    spec=specs.backward, options=("scale",), extra=("errors", "inverse"),
    outputs=("grad_q", "grad_k", "grad_v", "grad_g", "grad_beta", "grad_start"), draw=_draw_backward,
    grid=lambda s: (s["N"],),
    scalars=lambda s: {
        **_numbers(s), **pitches(c_row=s["C"]), "C": s["C"], "BK": block_of(s["K"]), "BV": block_of(s["V"])
    },
    cases=_CHUNKED_CASES, mistakes=faults.BACKWARD, tolerance=1e-4,
)  # fmt: skip


def _draw_titans(case: Case, generator: torch.Generator) -> Tensors:
    n, t, d = (case.sizes[name] for name in "NTD")
    own = {name: torch.randn(n, t, d, generator=generator) for name in "qkv"}
    own["k"] = unit(own["k"])
    for name, most in (("step", 0.2), ("momentum", 0.9), ("forget", 0.2)):
        own[name] = most * torch.rand(n, t, generator=generator)
    own["start_w"] = 0.3 * torch.randn(n, d, d, generator=generator)
    velocity = 0.1 * torch.randn(n, d, d, generator=generator)
    own["start_s"] = velocity if "state" in case.marks else torch.zeros_like(velocity)
    return own


TITANS = Puzzle(
    name="titans", number=10, title="A Titans chunk",
    summary="A linear memory that learns by gradient descent with momentum and forgetting. Within a chunk all "
    "gradients are taken at the weights M before its first token, so the errors E of a chunk are one product; "
    "what follows may go token by token. A program does one head.",
    formula=r"\begin{aligned} E &= 2\,(K M - V), \qquad S_t = \eta_t S_{t-1} - \theta_t\, k_t E_t^\top, \\ "
    r"W_t &= (1 - \alpha_t) W_{t-1} + S_t, \qquad y_t = W_t^\top q_t \end{aligned}",
    source="Titans (arXiv 2501.00663), equations 10, 13 and 14, in chunks as in section 3.2.",
    spec=specs.titans, outputs=("y", "end_w", "end_s"), draw=_draw_titans, options=("C",),
    grid=lambda s: (s["N"],),
    scalars=lambda s: {
        "T": s["T"], "D": s["D"], **pitches(d_row=s["D"], t_row=s["T"]), "C": s["C"], "BD": block_of(s["D"])
    },
    cases=cases(
        *({"N": n, "T": t, "D": d, "C": CHUNK, "state": state} for n, t, d, state in (
            (1, 16, 16, 0), (1, 32, 16, 0), (2, 5, 16, 1), (1, 16, 11, 1), (2, 21, 20, 1))),
        marks=_marks,
    ),
    mistakes=faults.TITANS,
)  # fmt: skip
