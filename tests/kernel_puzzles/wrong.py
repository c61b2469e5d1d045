"""Typical wrong answers to the kernel puzzles: solutions with one thing changed, and what must be said of them."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any, NamedTuple

from kernel_puzzles import solutions, solutions_chunks

__all__ = ["WRONG", "Wrong", "solution", "wrong_kernel"]


class Wrong(NamedTuple):
    """A wrong answer.

    Attributes:
        puzzle: its name.
        old, new: what stands in the solution, once, and what stands there instead.
        told: a part of the message that must come.
    """

    puzzle: str
    old: str
    new: str
    told: str


def module_of(puzzle: str) -> Any:
    """The module with the solution of a puzzle."""
    return solutions if hasattr(solutions, f"{puzzle}_kernel") else solutions_chunks


def solution(puzzle: str) -> Any:
    """The kernel that solves a puzzle."""
    return getattr(module_of(puzzle), f"{puzzle}_kernel")


def wrong_kernel(wrong: Wrong, folder: Path) -> Any:
    """The wrong answer as a kernel, out of a file in `folder`, where Triton finds its source."""
    right = inspect.getsource(solution(wrong.puzzle).fn)
    assert right.count(wrong.old) == 1, f"{wrong.old!r} stands {right.count(wrong.old)} times in {wrong.puzzle}"
    text = Path(module_of(wrong.puzzle).__file__).read_text().replace(right, right.replace(wrong.old, wrong.new))
    path = folder / "answer.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("answer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"{wrong.puzzle}_kernel")


WRONG = (
    # 1
    Wrong("copy", "tl.load(x + i, mask=i < n)", "tl.load(x + i)", "reads outside of x"),
    Wrong("copy", "tl.store(y + i, values, mask=i < n)", "tl.store(y + i, values)", "wrote outside of y"),
    Wrong("copy", "tl.program_id(0) * BLOCK + ", "", "were never written, the first at [16]"),
    Wrong("copy", "tl.store(y", "tl.store(x", "Nothing was written"),
    Wrong("copy", "tl.store(y + i, values, mask=i < n)",
          "tl.store(y + i, values, mask=i < n)\n    tl.store(x + i, 2 * values, mask=i < n)",
          "wrote into its input x; write into y only"),
    Wrong("copy", "mask=i < n)\n    tl", "mask=i < n) + 1\n    tl", "cannot be told from the numbers"),
    Wrong("copy", "tl.load(x + i,", "tl.load(x + 1000000 * i,", "far outside of every array"),
    # 2
    Wrong("scale", "tl.load(x + at, mask=inside)", "tl.load(x + at, mask=(i < rows)[:, None])", "reads outside of x"),
    Wrong("scale", "tl.store(y + at, values * decay[:, None], mask=inside)",
          "tl.store(y + at, values * decay[:, None], mask=(j < columns)[None, :])", "wrote outside of y"),
    Wrong("scale", "tl.store(y + at, values * decay[:, None], mask=inside)",
          "tl.store(y + at, 2 * values * decay[:, None], mask=(j < columns)[None, :])", "Besides, at rows = 5"),
    Wrong("scale", "tl.exp(tl.load(g + i, mask=i < rows, other=0.0))", "tl.load(g + i, mask=i < rows, other=0.0)",
          "take exp(g)"),
    Wrong("scale", "tl.exp(tl.load", "tl.exp(-tl.load", "wrong sign"),
    Wrong("scale", "at = i[:, None] * x_row", "at = i[:, None] * columns",
          "All blocks are full here, so look at the offsets of the store"),
    Wrong("scale", "decay[:, None]", "1.0", "The decay is missing"),
    # 3
    Wrong("normalise", "tl.sqrt(tl.sum(values * values, 1))", "tl.sum(values * values, 1)", "The root is missing"),
    Wrong("normalise", "tl.sum(values * values, 1)", "tl.sum(values, 1)",
          "entries of y are no numbers"),
    Wrong("normalise", "tl.maximum(norm, 1e-6)", "norm", "Only cases in which rows are zero or nearly zero are wrong"),
    Wrong("normalise", "tl.sqrt(tl.sum(values * values, 1))", "tl.sqrt(tl.sum(values * values, 1) + 1e-6)",
          "The small number stands under the root"),
    Wrong("normalise", "tl.sqrt(tl.sum(values * values, 1))", "tl.sqrt(tl.sum(values * values, 1) + 1e-12)",
          "The small number stands under the root"),
    Wrong("normalise", "tl.sqrt(tl.sum(values * values, 1))", "tl.sqrt(tl.maximum(tl.sum(values * values, 1), 1e-6))",
          "The small number stands under the root"),
    Wrong("normalise", "tl.maximum(norm, 1e-6)", "(norm + 1e-6)", "1e-6 is added to the norm"),
    Wrong("normalise", "tl.maximum(norm, 1e-6)", "tl.where(norm > 0, norm, 1.0)",
          "Only rows of zeros are looked after"),
    Wrong("normalise", "mask=inside, other=0.0)", "mask=inside)",
          "that reaches the result (loads of x). Say other=0.0"),
    Wrong("normalise", "(values * values, 1))\n", "(values * values, 1) / columns)\n", "The mean is taken"),
    Wrong("normalise", "mask=inside, other=0.0)", "mask=inside, other=1.0)",
          "Only cases in which a size is no multiple of its block are wrong"),
    # 4
    Wrong("product", "total +=", "total =", "Only the last step along K is left"),
    Wrong("product", "inner = first + tl", "inner = tl", "Only cases in which there is more than one block are wrong"),
    Wrong("product", "range(0, K, BK)", "range(0, BK, BK)", "Only the first step along K"),
    Wrong("product", "range(0, K, BK)", "range(0, K - K % BK, BK)", "The last, shorter step along K is missing"),
    Wrong("product", "rows_of(a, i, inner, M, K, a_row)", "rows_of(a, i, inner, M, K + 1, a_row)",
          "reads outside of a"),
    Wrong("product", "put_rows(c, i, j, M, N, b_row", "put_rows(c, i, j, M, N + 1, b_row", "wrote outside of c"),
    # 5
    Wrong("delta", "        error = value - tl.sum(state * key[:, None], 0)\n", "",
          "name 'error' is not defined (in line "),
    Wrong("delta", "(strength * key)", "key", "beta is missing"),
    Wrong("delta", "value - tl.sum(state * key[:, None], 0)", "value", "the look-up is missing"),
    Wrong("delta", "told = scale * ", "told = ", "The factor scale is missing"),
    Wrong("delta", "state * tl.exp(tl.load(g + n * t_row + t))", "state", "Nothing fades"),
    Wrong("delta", "rows_of(start + n * K * v_row, i, j, K, V, v_row)", "tl.zeros([BK, BV], dtype=tl.float32)",
          "The first state is ignored"),
    Wrong("delta", "rows_of(start + n * K", "rows_of(start + 0 * K",
          "Only cases in which there is more than one head are wrong"),
    Wrong("delta", "k_row + i, mask=i < K, other=0.0)\n        asked", "k_row + i, mask=i < K)\n        asked",
          "that reaches the result (loads of k). Say other=0.0"),
    # 6
    Wrong("decay", "total[:, None] - total[None, :], 0.0)", "total[None, :] - total[:, None], 0.0)",
          "Row and column are exchanged in the difference"),
    Wrong("decay", "own = tl.load(g + n * t_row + rows, mask=rows < T, other=0.0)\n    total = tl.cumsum(own",
          "own = tl.load(g + n * t_row + rows, mask=rows < T)\n"
          "    total = tl.sum(own.to(tl.float64), 0) - tl.cumsum(-own",
          "that reaches the result (loads of g). Say other=0.0"),
    Wrong("decay", "i[:, None] >= i[None, :]", "i[:, None] > i[None, :]", "The diagonal is missing"),
    Wrong("decay", "tl.where(lower, tl.exp(apart), 0.0)", "tl.exp(total[:, None] - total[None, :])",
          "Above the diagonal nothing is masked"),
    Wrong("decay", "own.to(tl.float64)", "own", "Only cases in which some log-decay is -10,000 are wrong"),
    Wrong("decay", "tl.exp(apart)", "tl.exp(total)[:, None] * tl.exp(-total)[None, :]",
          "Only cases in which some log-decay is -10,000 are wrong"),
    Wrong("decay", "total = tl.cumsum(own.to(tl.float64), 0)", "total = own.to(tl.float64)", "not summed"),
    Wrong("decay", "total[:, None] - total[None, :], 0.0)", "total[:, None] - (total - own)[None, :], 0.0)",
          "Token j's own decay is counted"),
    # 7
    Wrong("inverse", "solved - new[None, :]", "solved + new[None, :]", "This is the inverse of I - A"),
    Wrong("inverse", "new = tl.sum(own[:, None] * solved, 0)", "new = own", "This is I - A"),
    Wrong("inverse", "range(1, n)", "range(1, n - 1)", "The last row is that of I"),
    Wrong("inverse", "mask=i < r, other=0.0)", "mask=i < r)", "that reaches the result (loads of a). Say other=0.0"),
    Wrong("inverse", "put_rows(x + first, i, i, n, n, row, solved)",
          "put_rows(x + first, i, i, n, n, row, tl.trans(solved))", "stored transposed"),
    Wrong("inverse",
          "for r in range(1, n):\n        own = tl.load(a + first + r * row + i, mask=i < r, other=0.0)\n"
          "        new = tl.sum(own[:, None] * solved, 0)\n"
          "        solved = tl.where((i == r)[:, None], solved - new[None, :], solved)\n",
          "power = rows_of(a + first, i, i, n, n, row)\n    solved -= power\n    for _ in range(4):\n"
          "        power = tl.dot(power, power)\n        solved += tl.dot(solved, power)\n",
          "squaring A looks right on random keys and is worthless here"),
    # 8
    Wrong("chunked", "strength[:, None] * near, 0.0)", "near, 0.0)", "A has no beta"),
    Wrong("chunked", "        error = tl.dot(invert(overlap, C),",
          "        eye = tl.where(i[:, None] == i[None, :], 1.0, 0.0)\n        solved, power = eye - overlap, overlap\n"
          "        for _ in range(3):\n            power = tl.dot(power, power)\n"
          "            solved = tl.dot(solved, eye + power)\n        error = tl.dot(solved,",
          "squaring A looks right on random keys and is worthless here"),
    Wrong("chunked", "strength[:, None] * (values - seen)", "strength[:, None] * values",
          "The errors do not see the state"),
    Wrong("chunked", "state = tl.exp(last).to(tl.float32) * state + ",
          "state = rows_of(start + n * K * v_row, deep, wide, K, V, v_row) * tl.exp(last).to(tl.float32) + ",
          "Only cases in which there is more than one chunk are wrong"),
    Wrong("chunked", "told = rise[:, None] * tl.dot(asked, state, input_precision=\"ieee\")", "told = 0.0",
          "The output does not see the state"),
    Wrong("chunked", "tl.trans(fall[:, None] * keys)", "tl.trans(keys)",
          "What a chunk writes into the state has not faded"),
    Wrong("chunked", "scale * told", "told", "The factor scale is missing"),
    Wrong("chunked", "    for first in range(0, T, C):\n",
          "    for first in range(0, T, C):\n        state = rows_of(start + n * K * v_row, deep, wide, K, V, v_row)\n",
          "Every chunk starts from the first state again"),
    Wrong("chunked", "scores = tl.dot(asked, tl.trans(keys), input_precision=\"ieee\") * decay",
          "scores = tl.where(i[:, None] > i[None, :], tl.dot(asked, tl.trans(keys)) * decay, 0.0)",
          "does not see what it has just stored"),
    Wrong("chunked", "put_rows(o + n * T * v_row, rows, wide, T, V", "put_rows(o + n * T * v_row, rows, wide, T + 1, V",
          "It wrote outside of o"),
    Wrong("chunked", "state = tl.exp(last).to(tl.float32) * state", "state = state",
          "The old state has not faded over the chunk"),
    Wrong("chunked", "seen = rise[:, None] * ", "seen = ", "The errors look up a state that has not faded"),
    Wrong("chunked", "told = rise[:, None] * ", "told = ", "The output reads a state that has not faded"),
    Wrong("chunked", "tl.dot(invert(overlap, C)", "tl.dot(tl.trans(invert(overlap, C))",
          "The inverse stands transposed"),
    Wrong("chunked", "scores = tl.dot(asked, tl.trans(keys), input_precision=\"ieee\") * decay",
          "scores = tl.dot(asked, tl.trans(keys), input_precision=\"ieee\")", "The scores lack the matrix D"),
    Wrong("chunked", "scores = tl.dot(asked, tl.trans(keys), input_precision=\"ieee\") * decay",
          "scores = tl.where(i[:, None] >= i[None, :], tl.dot(asked, tl.trans(keys), input_precision=\"ieee\"), 0.0)",
          "The scores hide later tokens but have not faded"),
    Wrong("chunked", "beta + n * t_row + rows, mask=rows < T, other=0.0)", "beta + n * t_row + rows, mask=rows < T)",
          "that reaches the result (loads of beta). Say other=0.0"),
    Wrong("chunked", "state = rows_of(start + n * K * v_row, deep, wide, K, V, v_row)",
          "state = 2 * rows_of(start + n * K * v_row, deep, wide, K, V, v_row)",
          "Only cases in which the memory is not empty at the start are wrong"),
    # 9
    Wrong("backward", "v_row, strength[:, None] * pulled)", "v_row, pulled)", "grad_v lacks beta"),
    Wrong("backward", "tl.dot(tl.trans(solved), of_error", "tl.dot(solved, of_error", "R is X^T dU"),
    Wrong("backward", "-tl.dot(pulled, tl.trans(error)", "tl.dot(pulled, tl.trans(error)", "dA has the wrong sign"),
    Wrong("backward", "after = fade * after", "after = after", "The gradient of the state has not faded"),
    Wrong("backward", "gate = tl.sum(gate, 0) - tl.cumsum(gate, 0) + gate", "gate = gate + 0.0", "not of g"),
    Wrong("backward", "gate = tl.sum(gate, 0) - tl.cumsum(gate, 0) + gate", "gate = tl.cumsum(gate, 0)",
          "summed in the wrong direction"),
    Wrong("backward", "after = rows_of(grad_end + n * K * v_row, deep, wide, K, V, v_row)",
          "after = tl.zeros([BK, BV], dtype=tl.float32)", "The gradient of the last state is ignored"),
    Wrong("backward", "told = scale * rows_of", "told = rows_of", "The factor scale of the forward pass is missing"),
    Wrong("backward", "by_key + tl.trans(by_key)", "by_key", "Right: grad_q"),
    # 10
    Wrong("titans", "inertia * velocity - length", "inertia * velocity + length", "The step goes uphill"),
    Wrong("titans", "(1 - lost) * weights", "lost * weights", "alpha stands for 1 - alpha"),
    Wrong("titans", "errors = 2 * (", "errors = (", "The factor 2"),
    Wrong("titans", "inertia * velocity - length * key[:, None] * error[None, :]",
          "inertia * (velocity - length * key[:, None] * error[None, :])",
          "Momentum also multiplies the newest gradient"),
    Wrong("titans", "(1 - lost) * weights + velocity", "(1 - lost) * (weights + velocity)",
          "What was just written is forgotten at once"),
    Wrong("titans", "rows_of(start_s + n * D * d_row, d, d, D, D, d_row)", "tl.zeros([BD, BD], dtype=tl.float32)",
          "The first velocity is ignored"),
    Wrong("titans", "        errors = 2 * (tl.dot(keys, weights, input_precision=\"ieee\") - values)\n        for",
          "        if first == 0:\n            old = weights\n"
          "        errors = 2 * (tl.dot(keys, old, input_precision=\"ieee\") - values)\n        for",
          "All chunks take their gradient at the first weights"),
    Wrong("titans", "error = tl.sum(tl.where(here, keys, 0.0), 0), tl.sum(tl.where(here, errors, 0.0), 0)",
          "error = tl.sum(tl.where(here, keys, 0.0), 0), tl.sum(tl.where(here, values, 0.0), 0)\n"
          "            error = 2 * (tl.sum(weights * key[:, None], 0) - error)",
          "The gradient is taken at the weights of now"),
)  # fmt: skip
