"""Solutions of the puzzles on whole chunks. The tests run them; the notebook does not show them."""

from __future__ import annotations

from kernel_puzzles.solutions import between, invert, put_rows, rows_of
from labkit.explore.puzzles import tl, triton


@triton.jit
def chunked_kernel(
    q, k, v, g, beta, start, o, end, T, K, V, k_row, v_row, t_row, scale,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    n, i, deep, wide = tl.program_id(0), tl.arange(0, C), tl.arange(0, BK), tl.arange(0, BV)
    state = rows_of(start + n * K * v_row, deep, wide, K, V, v_row)
    for first in range(0, T, C):
        rows = first + i
        keys = rows_of(k + n * T * k_row, rows, deep, T, K, k_row)
        asked = rows_of(q + n * T * k_row, rows, deep, T, K, k_row)
        values = rows_of(v + n * T * v_row, rows, wide, T, V, v_row)
        strength = tl.load(beta + n * t_row + rows, mask=rows < T, other=0.0)
        own = tl.load(g + n * t_row + rows, mask=rows < T, other=0.0)
        total = tl.cumsum(own.to(tl.float64), 0)
        last = tl.sum(own.to(tl.float64), 0)
        decay = between(total, C)
        rise, fall = tl.exp(total).to(tl.float32), tl.exp(last - total).to(tl.float32)
        near = tl.dot(keys, tl.trans(keys), input_precision="ieee") * decay
        overlap = tl.where(i[:, None] > i[None, :], strength[:, None] * near, 0.0)
        seen = rise[:, None] * tl.dot(keys, state, input_precision="ieee")
        error = tl.dot(invert(overlap, C), strength[:, None] * (values - seen), input_precision="ieee")
        scores = tl.dot(asked, tl.trans(keys), input_precision="ieee") * decay
        told = rise[:, None] * tl.dot(asked, state, input_precision="ieee")
        told = told + tl.dot(scores, error, input_precision="ieee")
        put_rows(o + n * T * v_row, rows, wide, T, V, v_row, scale * told)
        kept = tl.trans(fall[:, None] * keys)
        state = tl.exp(last).to(tl.float32) * state + tl.dot(kept, error, input_precision="ieee")
    put_rows(end + n * K * v_row, deep, wide, K, V, v_row, state)


@triton.jit
def backward_kernel(
    q, k, v, g, beta, before, errors, inverse, grad_o, grad_end,
    grad_q, grad_k, grad_v, grad_g, grad_beta, grad_start,
    T, K, V, k_row, v_row, t_row, scale, c_row, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    n, i, deep, wide = tl.program_id(0), tl.arange(0, C), tl.arange(0, BK), tl.arange(0, BV)
    after = rows_of(grad_end + n * K * v_row, deep, wide, K, V, v_row)
    chunks = tl.cdiv(T, C)
    for back in range(chunks):
        c = chunks - 1 - back
        rows = c * C + i
        keys = rows_of(k + n * T * k_row, rows, deep, T, K, k_row)
        asked = rows_of(q + n * T * k_row, rows, deep, T, K, k_row)
        values = rows_of(v + n * T * v_row, rows, wide, T, V, v_row)
        error = rows_of(errors + n * T * v_row, rows, wide, T, V, v_row)
        told = scale * rows_of(grad_o + n * T * v_row, rows, wide, T, V, v_row)
        solved = rows_of(inverse + n * T * c_row, rows, i, T, C, c_row)
        state = rows_of(before + (n * chunks + c) * K * v_row, deep, wide, K, V, v_row)
        strength = tl.load(beta + n * t_row + rows, mask=rows < T, other=0.0)
        own = tl.load(g + n * t_row + rows, mask=rows < T, other=0.0)
        total, last = tl.cumsum(own.to(tl.float64), 0), tl.sum(own.to(tl.float64), 0)
        decay = between(total, C)
        rise, fall = tl.exp(total).to(tl.float32), tl.exp(last - total).to(tl.float32)
        fade = tl.exp(last).to(tl.float32)
        near = tl.dot(keys, tl.trans(keys), input_precision="ieee") * decay
        scores = tl.dot(asked, tl.trans(keys), input_precision="ieee") * decay

        of_error = tl.dot(tl.trans(scores), told, input_precision="ieee")
        of_error += fall[:, None] * tl.dot(keys, after, input_precision="ieee")
        pulled = tl.dot(tl.trans(solved), of_error, input_precision="ieee")
        lower = i[:, None] > i[None, :]
        of_overlap = tl.where(lower, -tl.dot(pulled, tl.trans(error), input_precision="ieee"), 0.0)
        of_scores = tl.dot(told, tl.trans(error), input_precision="ieee")
        through = tl.dot(pulled, tl.trans(state), input_precision="ieee")
        by_state = tl.dot(told, tl.trans(state), input_precision="ieee")
        kept_for = fall[:, None] * tl.dot(error, tl.trans(after), input_precision="ieee")

        grad = tl.dot(of_scores * decay, keys, input_precision="ieee") + rise[:, None] * by_state
        put_rows(grad_q + n * T * k_row, rows, deep, T, K, k_row, grad)
        put_rows(grad_v + n * T * v_row, rows, wide, T, V, v_row, strength[:, None] * pulled)
        looked = rise * tl.sum(keys * through, 1)
        grad = tl.sum(of_overlap * near, 1) + tl.sum(pulled * values, 1) - looked
        tl.store(grad_beta + n * t_row + rows, grad, mask=rows < T)
        by_key = strength[:, None] * of_overlap * decay
        grad = tl.dot(by_key + tl.trans(by_key), keys, input_precision="ieee") + kept_for
        grad += tl.dot(tl.trans(of_scores * decay), asked, input_precision="ieee")
        grad -= (strength * rise)[:, None] * through
        put_rows(grad_k + n * T * k_row, rows, deep, T, K, k_row, grad)
        moved = of_overlap * strength[:, None] * near + of_scores * scores
        gone = tl.sum(keys * kept_for, 1)
        gate = tl.sum(moved, 1) - tl.sum(moved, 0) - strength * looked - gone
        gate += rise * tl.sum(asked * by_state, 1)
        gate += tl.where(i == C - 1, tl.sum(gone, 0) + fade * tl.sum(state * after), 0.0)
        gate = tl.sum(gate, 0) - tl.cumsum(gate, 0) + gate
        tl.store(grad_g + n * t_row + rows, gate, mask=rows < T)

        after = fade * after + tl.dot(tl.trans(rise[:, None] * asked), told, input_precision="ieee")
        after -= tl.dot(tl.trans((strength * rise)[:, None] * keys), pulled, input_precision="ieee")
    put_rows(grad_start + n * K * v_row, deep, wide, K, V, v_row, after)


@triton.jit
def titans_kernel(
    q, k, v, step, momentum, forget, start_w, start_s, y, end_w, end_s, T, D, d_row, t_row,
    C: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    n, i, d = tl.program_id(0), tl.arange(0, C), tl.arange(0, BD)
    weights = rows_of(start_w + n * D * d_row, d, d, D, D, d_row)
    velocity = rows_of(start_s + n * D * d_row, d, d, D, D, d_row)
    for first in range(0, T, C):
        rows = first + i
        keys = rows_of(k + n * T * d_row, rows, d, T, D, d_row)
        values = rows_of(v + n * T * d_row, rows, d, T, D, d_row)
        errors = 2 * (tl.dot(keys, weights, input_precision="ieee") - values)
        for t in range(first, tl.minimum(first + C, T)):
            here = (rows == t)[:, None]
            key, error = tl.sum(tl.where(here, keys, 0.0), 0), tl.sum(tl.where(here, errors, 0.0), 0)
            length, inertia = tl.load(step + n * t_row + t), tl.load(momentum + n * t_row + t)
            lost = tl.load(forget + n * t_row + t)
            velocity = inertia * velocity - length * key[:, None] * error[None, :]
            weights = (1 - lost) * weights + velocity
            asked = tl.load(q + (n * T + t) * d_row + d, mask=d < D, other=0.0)
            told = tl.sum(weights * asked[:, None], 0)
            tl.store(y + (n * T + t) * d_row + d, told, mask=d < D)
    put_rows(end_w + n * D * d_row, d, d, D, D, d_row, weights)
    put_rows(end_s + n * D * d_row, d, d, D, D, d_row, velocity)
