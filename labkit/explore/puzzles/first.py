"""Puzzles 1 to 4, 6 and 7: the pieces that chunked memories are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from labkit.explore.puzzles import specs
from labkit.explore.puzzles.core import Case, Mistake, Puzzle, cases, pitches, unit
from labkit.explore.puzzles.interpreter import triton

__all__ = ["COPY", "DECAY", "INVERSE", "NORMALISE", "PRODUCT", "SCALE"]

Tensors = dict[str, Tensor]
Sizes = Mapping[str, Any]
cdiv = triton.cdiv


def log_decays(case: Case, generator: torch.Generator, *shape: int) -> Tensor:
    """Log-decays between -0.5 and 0; where the case says so, -10,000 for some tokens, or for all (seed 0)."""
    g = -0.5 * torch.rand(shape, generator=generator)
    if "strong decay" in case.marks:
        strong = torch.rand(shape, generator=generator) < (1.0 if case.seed == 0 else 0.3)
        strong.view(-1)[0] = True
        g = torch.where(strong, -1e4, g)
    return g


def _marks(blocks: Mapping[str, str]) -> Any:
    """"ragged" and "several blocks" for sizes that are cut into blocks, both by name."""

    def marks(sizes: Sizes) -> set[str]:
        ragged = any(sizes[size] % sizes[block] for size, block in blocks.items())
        several = any(sizes[size] > sizes[block] for size, block in blocks.items())
        return ({"ragged"} if ragged else set()) | ({"several blocks"} if several else set())

    return marks


# ---------------------------------------------------------------- 1

COPY = Puzzle(
    name="copy", number=1, title="A masked copy",
    summary="Copy n numbers. Each program copies one block of BLOCK of them. Where n is no multiple of BLOCK, the last "
    "block reaches beyond the array, and a mask has to hold it back.",
    formula=r"y_i = x_i, \qquad 0 \le i < n",
    spec=specs.copy, outputs=("y",),
    draw=lambda case, generator: {"x": torch.randn(case.sizes["n"], generator=generator)},
    grid=lambda s: (cdiv(s["n"], s["BLOCK"]),),
    scalars=lambda s: {"n": s["n"], "BLOCK": s["BLOCK"]},
    cases=cases(*({"n": n, "BLOCK": 16} for n in (16, 5, 32, 37, 100)), marks=_marks({"n": "BLOCK"})),
    tolerance=0.0,
)  # fmt: skip

# ---------------------------------------------------------------- 2


def _draw_scale(case: Case, generator: torch.Generator) -> Tensors:
    rows, columns = case.sizes["rows"], case.sizes["columns"]
    return {"x": torch.randn(rows, columns, generator=generator), "g": log_decays(case, generator, rows)}


def _by_column(inputs: Tensors, sizes: Sizes) -> Tensors:
    x, g = inputs["x"], inputs["g"]
    across = torch.zeros(x.shape[1], dtype=x.dtype)
    across[: len(g)] = g[: len(across)]
    return {"y": torch.exp(across) * x}


SCALE = Puzzle(
    name="scale", number=2, title="Rows that fade",
    summary="Multiply every row of a matrix by its own decay. A program does a tile of BR rows and BC columns. Rows "
    "lie x_row entries apart, which is more than there are columns.",
    formula=r"y_{ij} = e^{g_i}\, x_{ij}, \qquad g_i \le 0",
    spec=specs.scale_rows, outputs=("y",), draw=_draw_scale,
    grid=lambda s: (cdiv(s["rows"], s["BR"]), cdiv(s["columns"], s["BC"])),
    scalars=lambda s: {
        "rows": s["rows"], "columns": s["columns"], **pitches(x_row=s["columns"]), "BR": s["BR"], "BC": s["BC"]
    },
    cases=cases(
        *({"rows": r, "columns": c, "BR": 16, "BC": 16} for r, c in ((16, 16), (32, 48), (5, 16), (40, 7), (19, 35))),
        {"rows": 19, "columns": 20, "BR": 16, "BC": 16, "special": 1},
        marks=_marks({"rows": "BR", "columns": "BC"}),
    ),
    mistakes=(
        Mistake("The rows are multiplied by g itself: take exp(g).",
                lambda i, s: {"y": i["g"][:, None] * i["x"]}),
        Mistake("The decay has the wrong sign: rows grow by exp(-g).",
                lambda i, s: {"y": torch.exp(-i["g"])[:, None] * i["x"]}),
        Mistake("The decay is taken by column: g belongs to the rows, so it is g[:, None], and its offsets are rows.",
                _by_column),
        Mistake("The decay is missing: this is x as it was.", lambda i, s: {"y": i["x"]}),
    ),
    tolerance=1e-6,
)  # fmt: skip

# ---------------------------------------------------------------- 3


def _divided(by: Callable[[Tensor], Tensor]) -> Any:
    """Rows over what `by` makes of the sums of their squares."""
    return lambda inputs, sizes: {"y": inputs["x"] / by((inputs["x"] ** 2).sum(1, keepdim=True))}


def _draw_normalise(case: Case, generator: torch.Generator) -> Tensors:
    x = torch.randn(case.sizes["rows"], case.sizes["columns"], generator=generator)
    if "zero rows" in case.marks:
        x[:: 2 + case.seed] = 0.0
        for row, norm in ((1, 1e-5), (5, 1e-7), (7, 2e-6)):  # above and below the least divisor, and close to it
            x[row] = norm * unit(x[row])
    return {"x": x}


NORMALISE = Puzzle(
    name="normalise", number=3, title="Keys of length one",
    summary="The gated delta rule wants keys of unit length. Each program takes BR whole rows, in a tile whose BC "
    "columns hold all of a row, and sums along the columns. A row of zeros stays zero.",
    formula=r"y_{ij} = \frac{x_{ij}}{\max\left(\sqrt{\sum_l x_{il}^2},\ 10^{-6}\right)}",
    spec=specs.normalise, outputs=("y",), draw=_draw_normalise,
    grid=lambda s: (cdiv(s["rows"], s["BR"]),),
    scalars=lambda s: {
        "rows": s["rows"], "columns": s["columns"], **pitches(x_row=s["columns"]), "BR": s["BR"], "BC": s["BC"]
    },
    cases=cases(
        *({"rows": r, "columns": c, "BR": 16, "BC": b} for r, c, b in ((16, 16, 16), (48, 64, 64), (5, 32, 32),
                                                                       (16, 23, 32), (37, 50, 64))),
        {"rows": 20, "columns": 16, "BR": 16, "BC": 16, "special": 3},
        marks=_marks({"rows": "BR", "columns": "BC"}),
    ),
    mistakes=(
        Mistake("The root is missing: rows are divided by the square of their norm.",
                lambda i, s: {"y": i["x"] / (i["x"] ** 2).sum(1, keepdim=True).clamp(min=1e-6)}),
        Mistake("The sum runs down the columns: sum along axis 1, over the channels of one row.",
                lambda i, s: {"y": i["x"] / torch.cat([
                    (part ** 2).sum(0, keepdim=True).sqrt().clamp(min=1e-6).expand_as(part)
                    for part in i["x"].split(s["BR"])])}),
        Mistake("The mean is taken instead of the sum.",
                lambda i, s: {"y": i["x"] / (i["x"] ** 2).mean(1, keepdim=True).sqrt().clamp(min=1e-6)}),
        Mistake("The entries are summed, not their squares.",
                lambda i, s: {"y": i["x"] / i["x"].sum(1, keepdim=True).clamp(min=1e-6)}),
        Mistake("Rows are multiplied by their norm, not divided.",
                lambda i, s: {"y": i["x"] * (i["x"] ** 2).sum(1, keepdim=True).sqrt()}),
        *(Mistake("The small number stands under the root: take the root first, then the larger of norm and 1e-6.", by)
          for by in (_divided(lambda square: (square + 1e-6).sqrt()),
                     _divided(lambda square: (square + 1e-12).sqrt()))),
        Mistake("1e-6 is added to the norm, which shortens rows that are small: take the larger of norm and 1e-6.",
                _divided(lambda square: square.sqrt() + 1e-6)),
        Mistake("Only rows of zeros are looked after: a row shorter than 1e-6 is divided by 1e-6 as well.",
                _divided(lambda square: torch.where(square > 0, square.sqrt(), 1.0))),
    ),
    tolerance=1e-6,
)  # fmt: skip

# ---------------------------------------------------------------- 4


def _draw_product(case: Case, generator: torch.Generator) -> Tensors:
    m, k, n = (case.sizes[name] for name in "MKN")
    return {"a": torch.randn(m, k, generator=generator), "b": torch.randn(k, n, generator=generator)}


def _part_of_product(first: bool) -> Any:
    def compute(inputs: Tensors, sizes: Sizes) -> Tensors:
        block, k = sizes["BK"], sizes["K"]
        some = slice(0, block) if first else slice((k - 1) // block * block, k)
        return {"c": inputs["a"][:, some] @ inputs["b"][some]}

    return compute


def _whole_blocks(inputs: Tensors, sizes: Sizes) -> Tensors:
    whole = sizes["K"] // sizes["BK"] * sizes["BK"]
    return {"c": inputs["a"][:, :whole] @ inputs["b"][:whole]}


PRODUCT = Puzzle(
    name="product", number=4, title="A product, tile by tile",
    summary="Multiply two matrices. A program makes one tile of BM rows and BN columns of the result; it goes along K "
    "in steps of BK, multiplies two tiles, and adds to what it has. It stores once.",
    formula=r"c_{mn} = \sum_k a_{mk}\, b_{kn}",
    spec=specs.product, outputs=("c",), draw=_draw_product,
    grid=lambda s: (cdiv(s["M"], s["BM"]), cdiv(s["N"], s["BN"])),
    scalars=lambda s: {
        **{name: s[name] for name in "MNK"}, **pitches(a_row=s["K"], b_row=s["N"]),
        **{name: s[name] for name in ("BM", "BN", "BK")},
    },
    cases=cases(
        *({"M": m, "K": k, "N": n, "BM": 16, "BN": 16, "BK": 16} for m, k, n in (
            (16, 16, 16), (32, 48, 16), (5, 16, 9), (16, 7, 16), (33, 41, 20))),
        marks=_marks({"M": "BM", "K": "BK", "N": "BN"}),
    ),
    mistakes=(
        Mistake("Only the first step along K is in the sum: let the offsets of both tiles move with the loop.",
                _part_of_product(True)),
        Mistake("Only the last step along K is left: add to the accumulator instead of replacing it.",
                _part_of_product(False)),
        Mistake("The last, shorter step along K is missing: the loop has to reach K, with masks in the last step.",
                _whole_blocks),
    ),
)  # fmt: skip

# ---------------------------------------------------------------- 6


def _draw_decay(case: Case, generator: torch.Generator) -> Tensors:
    return {"g": log_decays(case, generator, case.sizes["N"], case.sizes["T"])}


def _shifted(inputs: Tensors, sizes: Sizes) -> Tensors:
    """Token j's own decay counted as well: exp(G_i - G_(j-1))."""
    right, (n, length, size) = specs.decay(inputs["g"], sizes["C"]), (*inputs["g"].shape, sizes["C"])
    own = torch.zeros(n, length, size, dtype=right.dtype)
    for i in range(length):
        first = i - i % size
        own[:, i, : i - first + 1] = torch.exp(inputs["g"][:, first : i + 1])
    return {"decay": right * own}


def _strict(inputs: Tensors, sizes: Sizes) -> Tensors:
    right = specs.decay(inputs["g"], sizes["C"])
    place = torch.arange(right.shape[1]) % sizes["C"]
    return {"decay": torch.where(place[:, None] > torch.arange(sizes["C"]), right, 0.0)}


def _without_cumsum(inputs: Tensors, sizes: Sizes) -> Tensors:
    g, size = inputs["g"], sizes["C"]
    padded = torch.nn.functional.pad(g, (0, -g.shape[1] % size)).unflatten(1, (-1, size))
    out = (padded[..., :, None] - padded[..., None, :]).exp().tril().flatten(1, 2)
    return {"decay": out[:, : g.shape[1]]}


def _exchanged(inputs: Tensors, sizes: Sizes) -> Tensors:
    g, size = inputs["g"], sizes["C"]
    total = torch.nn.functional.pad(g, (0, -g.shape[1] % size)).unflatten(1, (-1, size)).cumsum(-1)
    out = (total[..., None, :] - total[..., :, None]).exp().tril().flatten(1, 2)
    return {"decay": out[:, : g.shape[1]]}


def _upper(inputs: Tensors, sizes: Sizes) -> Tensors:
    g, size = inputs["g"], sizes["C"]
    total = torch.nn.functional.pad(g, (0, -g.shape[1] % size)).unflatten(1, (-1, size)).cumsum(-1)
    out = (total[..., None, :] - total[..., :, None]).exp().triu().flatten(1, 2)
    return {"decay": out[:, : g.shape[1]]}


def _unmasked(inputs: Tensors, sizes: Sizes) -> Tensors:
    g, size = inputs["g"], sizes["C"]
    total = torch.nn.functional.pad(g, (0, -g.shape[1] % size)).unflatten(1, (-1, size)).cumsum(-1)
    out = (total[..., :, None] - total[..., None, :]).exp().flatten(1, 2)
    return {"decay": out[:, : g.shape[1]]}


DECAY = Puzzle(
    name="decay", number=6, title="Decay between two tokens",
    summary="What token j wrote has faded by the time of token i of the same chunk. Sum the log-decays once, and only "
    "exponentiate differences that are at most 0: a decay of e to the -10,000 must not overflow anywhere. A program "
    "does one chunk of one head; rows beyond T are not stored.",
    formula=r"G_i = \sum_{l \le i} g_l, \qquad D_{ij} = \begin{cases} e^{G_i - G_j} & j \le i \\ 0 & j > i\end{cases}",
    spec=specs.decay, outputs=("decay",), draw=_draw_decay, options=("C",),
    source="Gated DeltaNet (arXiv 2412.06464), section 3.3: the matrix Gamma.",
    grid=lambda s: (s["N"], cdiv(s["T"], s["C"])),
    scalars=lambda s: {"T": s["T"], **pitches(t_row=s["T"], c_row=s["C"]), "C": s["C"]},
    cases=cases(
        *({"N": n, "T": t, "C": 16} for n, t in ((1, 16), (2, 5), (1, 32), (3, 37))),
        {"N": 2, "T": 21, "C": 16, "special": 1},
        marks=lambda s: _marks({"T": "C"})(s) - {"several blocks"} | ({"several chunks"} if s["T"] > s["C"] else set())
        | ({"several heads"} if s["N"] > 1 else set()),
    ),
    mistakes=(
        Mistake("The matrix lies on the wrong side: row i is the later token, and j > i is 0.", _upper),
        Mistake("Row and column are exchanged in the difference: the exponent is G_i - G_j, which is at most 0.",
                _exchanged),
        Mistake("Above the diagonal nothing is masked: a token would see later ones.", _unmasked),
        Mistake("The diagonal is missing: a token does see what it wrote itself, undecayed.", _strict),
        Mistake("Token j's own decay is counted, but it came before j wrote: the exponent is G_i - G_j, with g_j in "
                "both sums.", _shifted),
        Mistake("The log-decays are not summed: take their running sum over the chunk first.", _without_cumsum),
    ),
    tolerance=1e-5,
)  # fmt: skip

# ---------------------------------------------------------------- 7


def _draw_inverse(case: Case, generator: torch.Generator) -> Tensors:
    """A as the gated delta rule makes it: beta_i k_i . k_j below the diagonal."""
    m, n = case.sizes["M"], case.sizes["n"]
    if "equal keys" in case.marks:
        return {"a": torch.full((m, n, n), 2.0).tril(-1)}
    k = unit(torch.randn(m, n, 8, generator=generator))
    beta = 2 * torch.rand(m, n, 1, generator=generator)
    return {"a": (beta * k @ k.mT).tril(-1)}


def _last_row(inputs: Tensors, sizes: Sizes) -> Tensors:
    right = specs.inverse(inputs["a"])
    return {"x": torch.cat([right[:, :-1], torch.eye(sizes["n"]).double()[-1:].expand_as(right[:, -1:])], dim=1)}


INVERSE = Puzzle(
    name="inverse", number=7, title="The inverse, row by row",
    summary="A chunk's errors depend on the errors before them, and that is a triangular system. Invert I + A: row i "
    "is the unit row, less what the rows above it contribute. A program does one matrix; BLOCK >= n.",
    formula=r"X = (I + A)^{-1}, \qquad X_{i} = I_{i} - \sum_{j < i} A_{ij} X_{j}",
    spec=specs.inverse, outputs=("x",), draw=_draw_inverse,
    source="Gated DeltaNet (arXiv 2412.06464), section 3.3: the matrix T of the WY form.",
    grid=lambda s: (s["M"],),
    scalars=lambda s: {"n": s["n"], **pitches(row=s["n"]), "BLOCK": s["BLOCK"]},
    cases=cases(
        *({"M": m, "n": n, "BLOCK": b} for m, n, b in ((1, 16, 16), (2, 5, 16), (3, 16, 16), (2, 27, 32))),
        {"M": 2, "n": 32, "BLOCK": 32, "special": 2},
        marks=lambda s: _marks({"n": "BLOCK"})(s) | ({"several blocks"} if s["M"] > 1 else set()),
    ),
    mistakes=(
        Mistake("This is the inverse of I - A: what the rows above contribute is subtracted.",
                lambda i, s: {"x": torch.linalg.inv(torch.eye(s["n"]).double() - i["a"])}),
        Mistake("This is I - A, the first two terms of the series: use the new rows above, not those of I.",
                lambda i, s: {"x": torch.eye(s["n"]).double() - i["a"]}),
        Mistake("The inverse is stored transposed.",
                lambda i, s: {"x": torch.linalg.inv(torch.eye(s["n"]).double() + i["a"]).mT}),
        Mistake("The last row is that of I: the loop ends one row too early.", _last_row),
        Mistake("The diagonal of ones is missing from the result.",
                lambda i, s: {"x": torch.linalg.inv(torch.eye(s["n"]).double() + i["a"]) - torch.eye(s["n"]).double()}),
    ),
    tolerance=1e-5,
    least=lambda s: s["M"] * s["n"] * (s["n"] - 1) // 2,  # what lies below the diagonal
)  # fmt: skip
