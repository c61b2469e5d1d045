"""A picture of every puzzle: which entries are read, which are written, and what goes where.

Drawn as SVG in the lab's colours. Every meaning that a colour has, a letter, a number or a word has as well.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labkit.explore import style
from labkit.explore.puzzles import specs
from labkit.explore.puzzles.registry import get

__all__ = ["Picture", "picture"]

CELL, GAP, TOP = 28, 22, 34  # pixels
READ, WRITTEN, KEPT = style.PALETTE["sky"], style.PALETTE["orange"], style.PALETTE["yellow"]
Cell = tuple[str, str]  # fill and text
PLAIN: Cell = ("#ffffff", "")
MASKED: Cell = ("#f0f0f0", "×")


@dataclass(frozen=True)
class Grid:
    """A matrix: cells row by row, its name above, its axes below, thick lines every so many rows and columns."""

    name: str
    axes: str
    cells: Sequence[Sequence[Cell]]
    block: tuple[int, int] | None = None


class Picture:
    """A drawing with words for one who cannot see it; a notebook shows both.

    Attributes:
        svg: the drawing.
        alt: what it shows, in words.
    """

    def __init__(self, parts: Sequence[Grid | str], alt: str) -> None:
        self.alt, self.svg = alt, _svg(parts, alt)

    def __repr__(self) -> str:
        return f"(a picture) {self.alt}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        words = f"<figcaption><small>{html.escape(self.alt)}</small></figcaption>"
        return {"text/plain": repr(self), "text/html": f"<figure style='margin:0'>{self.svg}{words}</figure>"}


def picture(name: str) -> Picture:
    """The picture of a puzzle. Raises KeyError for an unknown name."""
    return _DRAWN[get(name).name]()


def _svg(parts: Sequence[Grid | str], alt: str) -> str:
    """Matrices from left to right, with signs between them, all on one middle line."""
    grids = [part for part in parts if isinstance(part, Grid)]
    tallest = max(len(grid.cells) for grid in grids) * CELL
    middle, left, drawn = TOP + tallest / 2, float(GAP), []
    for part in parts:
        if isinstance(part, str):
            width = 8.4 * len(part) + 8
            drawn.append(_words(left + width / 2, middle + 5, part, 16))
        else:
            width = max(len(part.cells[0]) * CELL, 7.0 * max(len(part.name), len(part.axes)))
            own = len(part.cells[0]) * CELL
            drawn += _grid(part, left + (width - own) / 2, middle - len(part.cells) * CELL / 2)
        left += width + GAP
    height = TOP + tallest + 30
    font = style.TEMPLATE.layout.font
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {left:.0f} {height:.0f}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="{html.escape(alt)}" font-family="{html.escape(font.family)}" fill="{font.color}">'
        f"<title>{html.escape(alt)}</title>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(drawn)}</svg>'
    )


def _grid(grid: Grid, left: float, top: float) -> list[str]:
    rows, columns = len(grid.cells), len(grid.cells[0])
    drawn = [
        _words(left + columns * CELL / 2, top - 10, grid.name, 14, bold=True),
        _words(left + columns * CELL / 2, top + rows * CELL + 18, grid.axes, 11),
    ]
    for i, row in enumerate(grid.cells):
        for j, (fill, text) in enumerate(row):
            x, y = left + j * CELL, top + i * CELL
            drawn.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL}" height="{CELL}" fill="{fill}" stroke="#999999"/>'
            )
            if text:
                dark = sum(int(fill[at : at + 2], 16) for at in (1, 3, 5)) < 330
                drawn.append(_words(x + CELL / 2, y + CELL / 2 + 4, text, 11, colour="#ffffff" if dark else ""))
    if grid.block:
        down, across = grid.block
        for i in range(0, rows, down):
            for j in range(0, columns, across):
                wide, high = min(across, columns - j) * CELL, min(down, rows - i) * CELL
                drawn.append(
                    f'<rect x="{left + j * CELL:.1f}" y="{top + i * CELL:.1f}" width="{wide}" height="{high}" '
                    'fill="none" stroke="#000000" stroke-width="2"/>'
                )
    return drawn


def _words(x: float, y: float, text: str, size: int, *, bold: bool = False, colour: str = "") -> str:
    more = (' font-weight="bold"' if bold else "") + (f' fill="{colour}"' if colour else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="middle"{more}>{html.escape(text)}</text>'


def _fill(rows: int, columns: int, choose: Callable[[int, int], Cell]) -> list[list[Cell]]:
    return [[choose(i, j) for j in range(columns)] for i in range(rows)]


def _values(matrix: Tensor) -> list[list[Cell]]:
    """Numbers in cells, darker the larger they are."""

    def cell(i: int, j: int) -> Cell:
        value = float(matrix[i, j])
        share = min(abs(value), 1.0) if abs(value) > 5e-3 else 0.0
        parts = [round(255 + share * (int(style.PALETTE["blue"][at : at + 2], 16) - 255)) for at in (1, 3, 5)]
        text = f"{value:.1f}".replace("0.", ".") if share else "0"
        return "#" + "".join(f"{part:02x}" for part in parts), text

    return _fill(len(matrix), matrix.shape[1], cell)


def _ragged(rows: int, columns: int, high: int, wide: int, fill: str, text: str = "") -> list[list[Cell]]:
    """Cells of an array of `high` rows and `wide` columns, and crosses where blocks reach beyond it."""
    return _fill(rows, columns, lambda i, j: (fill, text) if i < high and j < wide else MASKED)


def _copy() -> Picture:
    programs = [[("#ffffff", f"p{j // 4}") for j in range(12)]]
    return Picture(
        [Grid("program", "who does it", programs, (1, 4)), Grid("x", "entry i", _ragged(1, 12, 1, 10, READ), (1, 4)),
         "→", Grid("y", "entry i", _ragged(1, 12, 1, 10, WRITTEN), (1, 4))],
        "Ten entries in three blocks of four. Programs p0, p1 and p2 copy one block each; the last two places of the "
        "third block, marked with crosses, lie beyond the array and are neither read nor written.",
    )  # fmt: skip


def _scale() -> Picture:
    g = torch.tensor([[-0.1], [-0.5], [-1.0], [-1.6], [-2.2]])
    decay = [*_values(g.exp()), *[[MASKED]] * 3]
    return Picture(
        [Grid("exp(g)", "row i", decay, (4, 1)), "×", Grid("x", "rows i, columns j", _ragged(8, 8, 5, 7, READ), (4, 4)),
         "=", Grid("y", "rows i, columns j", _ragged(8, 8, 5, 7, WRITTEN), (4, 4))],
        "A matrix of five rows and seven columns under four tiles of four by four. Each row is multiplied by one "
        "number of exp(g). The tiles reach three rows and one column beyond the matrix; these places bear crosses.",
    )  # fmt: skip


def _normalise() -> Picture:
    x = torch.tensor([[0.6, 0.8, 0.0], [0.2, 0.1, 0.2], [0.9, 0.0, 0.3], [0.0, 0.0, 0.0]])

    def with_crosses(matrix: Tensor) -> list[list[Cell]]:
        return [[*row, MASKED] for row in _values(matrix)]

    return Picture(
        [Grid("x", "rows i, channels j", with_crosses(x), (2, 4)), "→",
         Grid("norm", "row i", _values((x * x).sum(1, keepdim=True).sqrt()), (2, 1)), "→",
         Grid("y", "rows i, channels j", with_crosses(specs.normalise(x)), (2, 4))],
        "Four rows of three channels, two rows to a program, in tiles four wide, so that one column of crosses lies "
        "beyond the matrix. Each row becomes one number, its norm, and is divided by it; the row of zeros stays zero.",
    )  # fmt: skip


def _product() -> Picture:
    a = _fill(6, 8, lambda i, j: (READ, "1" if j < 3 else "2" if j < 6 else "3") if i < 3 else PLAIN)
    b = _fill(8, 6, lambda i, j: (READ, "1" if i < 3 else "2" if i < 6 else "3") if j < 3 else PLAIN)
    c = _fill(6, 6, lambda i, j: (WRITTEN, "") if i < 3 and j < 3 else PLAIN)
    return Picture(
        [Grid("a", "M rows, K columns", a, (3, 3)), "·", Grid("b", "K rows, N columns", b, (3, 3)), "=",
         Grid("c", "M rows, N columns", c, (3, 3))],
        "One program makes the upper left tile of c. It goes along the upper tiles of a and down the left tiles of b "
        "in three steps, numbered 1 to 3; the third is shorter. Each step adds a product of two tiles.",
    )  # fmt: skip


def _delta() -> Picture:
    state = _fill(4, 5, lambda i, j: (KEPT, "") if j < 3 else PLAIN)
    row = _fill(1, 3, lambda i, j: (READ, ""))
    after = _fill(4, 5, lambda i, j: (WRITTEN, "+") if j < 3 else PLAIN)
    return Picture(
        [Grid("k", "K", _fill(4, 1, lambda i, j: (READ, ""))), Grid("exp(g) S", "K rows, V columns", state),
         "→", Grid("v", "V", row), "−", Grid("S^T k", "V", _fill(1, 3, lambda i, j: (KEPT, ""))), "=",
         Grid("e", "V", _fill(1, 3, lambda i, j: (WRITTEN, ""))), "→",
         Grid("S + β k e^T", "K rows, V columns", after)],
        "One token at three of five columns of the state. The faded state is asked under k, the answer is taken from "
        "v, which leaves the error e, and beta times k times e is added to the same columns of the state.",
    )  # fmt: skip


def _decay() -> Picture:
    g = torch.tensor([[-0.2, -0.4, -1.0, -0.1, -0.3, -0.2]], dtype=torch.float64)
    return Picture(
        [Grid("g", "token i", _values(g.mT)), "→", Grid("G", "token i", _values(g.cumsum(1).mT)), "→",
         Grid("D", "row: later i, column: earlier j", _values(specs.decay(g, 6)[0]))],
        "Six log-decays g, their running sums G, and the six by six matrix D: ones on the diagonal, less and less to "
        "the left of it, as the tokens between have faded what was written, and zeros above the diagonal.",
    )  # fmt: skip


def _inverse() -> Picture:
    a = torch.tensor([[0, 0, 0, 0], [0.5, 0, 0, 0], [0.2, 0.8, 0, 0], [0.4, 0.3, 0.6, 0]], dtype=torch.float64)
    return Picture(
        [Grid("A", "row i, column j", _values(a)), "→",
         Grid("X = (I + A)⁻¹", "row i, column j", _values(specs.inverse(a)))],
        "A lower triangular matrix A of four rows with zeros on its diagonal, and the inverse X of I + A: ones on the "
        "diagonal, zeros above. Each row of X comes of the row of A beside it and the rows of X above it.",
    )  # fmt: skip


def _chain(sign: str, states: Sequence[str], inner: str, axes: str) -> list[Grid | str]:
    """State, chunk, state, chunk, state: three chunks of four tokens, the last with two."""
    parts: list[Grid | str] = [Grid(states[0], "K by V", _fill(3, 3, lambda i, j: (KEPT, "")))]
    for c in range(3):
        held = 2 if c == 2 else 4
        parts += [sign, Grid(f"{inner} {c}", axes, _ragged(4, 2, held, 2, READ)), sign]
        parts.append(Grid(states[c + 1], "K by V", _fill(3, 3, lambda i, j: (KEPT, ""))))
    return parts


def _chunked() -> Picture:
    return Picture(
        _chain("→", ["start", "S", "S", "end"], "chunk", "tokens"),
        "Ten tokens in three chunks of four; the last chunk has two tokens and two crosses. A state goes into the "
        "first chunk, and from each chunk one state goes to the next: nothing else crosses. The last one is stored.",
    )


def _backward() -> Picture:
    return Picture(
        _chain("←", ["grad_start", "dS", "dS", "grad_end"], "chunk", "tokens"),
        "The same three chunks with all arrows turned round: the gradient of the last state comes in on the right, "
        "goes through the chunks from the last to the first, and leaves on the left as that of the first state.",
    )


def _titans() -> Picture:
    anchor = _fill(3, 3, lambda i, j: (KEPT, "M"))
    tokens = _fill(4, 3, lambda i, j: (READ, str(i)))
    return Picture(
        [Grid("K M − V, twice", "tokens, D", tokens), "←", Grid("weights before the chunk", "D by D", anchor), "→",
         *[part for t in range(4) for part in (
             Grid(f"W {t}", f"with E {t}", _fill(3, 3, lambda i, j: (WRITTEN, ""))), "→")][:-1]],
        "A chunk of four tokens. The errors of all four come from the weights M before the chunk, in one product. Then "
        "the weights are moved token by token, W 0 to W 3, each by momentum, its own error and forgetting.",
    )  # fmt: skip


_DRAWN: dict[str, Callable[[], Picture]] = {
    "copy": _copy,
    "scale": _scale,
    "normalise": _normalise,
    "product": _product,
    "delta": _delta,
    "decay": _decay,
    "inverse": _inverse,
    "chunked": _chunked,
    "backward": _backward,
    "titans": _titans,
}
