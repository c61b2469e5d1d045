"""Rule 110: what does a cell of the automaton hold after t steps?"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .base import Exam, Task, draw_split, kept_back, whole

_ENUMERATED = 16  # up to this width every held-out row is counted, above it a sample of 2**14 of them
_WIDEST = 62  # rows are hashed as the bits of one int64


def advance(rows: Tensor) -> Tensor:
    """One step of Rule 110 on a ring: rows [..., width] of 0 and 1 -> the same shape.

    A cell becomes 1 if it or its right neighbour is 1, unless the three of left neighbour, cell and right
    neighbour all are (the table 01101110 from neighbourhood 111 down to 000).
    """
    left, right = rows.roll(1, -1), rows.roll(-1, -1)
    return (rows | right) & (1 - (left & rows & right))


def held_out(rows: Tensor) -> Tensor:
    """Which rows [..., width] of bits belong to a held-out rotation class: bool [...].

    All rotations of a row are one class. A class is named by the smallest number any of its rotations spells.
    """
    width = rows.shape[-1]
    bits = rows.reshape(-1, width).numpy().astype(np.uint64)
    number = (bits << np.arange(width - 1, -1, -1, dtype=np.uint64)).sum(axis=-1, dtype=np.uint64)
    turn = np.arange(width, dtype=np.uint64)
    mask = np.uint64(2**width - 1)
    turned = number[..., None] >> turn | (number[..., None] << (np.uint64(width) - turn) & mask)
    return kept_back(turned.min(axis=-1), width).view(rows.shape[:-1])


def _all_rows(width: int) -> Tensor:
    number = torch.arange(2**width).unsqueeze(-1)
    return number >> torch.arange(width - 1, -1, -1) & 1


def _draw_rows(n: int, width: int, generator: torch.Generator, *, from_held_out: bool) -> Tensor:
    """n rows [n, width], each evenly and with replacement from all rows of one side of the split."""
    return draw_split(
        n,
        lambda m: torch.randint(2, (m, width), generator=generator),
        held_out,
        from_held_out=from_held_out,
    )


@lru_cache
def _majority(width: int, steps: int) -> tuple[float, ...]:
    """For each step 1..steps: accuracy of always saying the bit more common there in held-out rows."""
    if width <= _ENUMERATED:
        rows = _all_rows(width)
        rows = rows[held_out(rows)]
    else:
        rows = _draw_rows(2**14, width, torch.Generator().manual_seed(0), from_held_out=True)
    shares = []
    for _ in range(steps):
        rows = advance(rows)
        ones = rows.double().mean().item()
        shares.append(max(ones, 1 - ones))
    return tuple(shares)


class Rule110(Task):
    """Rows of the automaton Rule 110 on a ring, then questions "what is cell c of row r after t steps?".

    Rule 110 can carry out any computation, so no general shortcut to the t-th row is to be hoped for: a
    deeper step asks for more work in sequence on the same few bits. "Do Language Models Need Sleep?" (arXiv
    2605.26099) asks for the first cell after the last step only and does not say how rows end. Here rows are
    rings, every cell of every step can be asked, so that the whole picture can be read back, and the rows of
    an exam are no rotations of rows trained on.

    Tokens: bits are 0 and 1; string r is 2 + r; step t is 2 + strings + t - 1; cell c, from 0 at the left, is
    2 + strings + steps + c. Window r: ``string_r b_0 ... b_(width-1)``. Question: ``string_r step_t cell_c``,
    asked at ``cell_c``; in training the bit follows.

    Example (``s0`` is the string, ``t2`` a step, ``c4`` a cell; 001110 becomes 011010, then 111110):

    >>> task = Rule110(width=6, steps=2, queries=2)
    >>> print(task.describe(task.batch(1, torch.Generator().manual_seed(4))))
    tokens s0 0 0 1 1 1 0 | s0 t2 c4 1 s0 t1 c2 1
    labels  . . . . . . . |  .  .  1 .  .  .  1 .
    depth   . . . . . . . |  .  .  2 .  .  .  1 .

    The split: rows that are rotations of each other form one class, and a hash of the class holds about one
    in 8 out: of 16 cells 540 of the 4,116 classes, or 8,584 of the 65,536 rows. A row held out is never the
    row given in training; it may come up as a later row of some other row's picture.

    Args:
        width: cells of a row, 4 to 62.
        steps: the deepest question.
        strings: rows to remember, one window each.
        queries: questions per training sequence.

    Raises:
        TypeError: a parameter is not a whole number.
        ValueError: a parameter is out of range.
    """

    name = "rule110"

    def __init__(self, width: int = 16, steps: int = 8, strings: int = 1, queries: int = 24) -> None:
        # Three cells have four classes, of which the hash holds none out.
        whole("width", width, 4, _WIDEST)
        for key, value in (("steps", steps), ("strings", strings), ("queries", queries)):
            whole(key, value, 1)
        super().__init__(
            params={"width": width, "steps": steps, "strings": strings, "queries": queries},
            vocab=2 + strings + steps + width,
            max_depth=steps,
            window=width + 1,
            context=strings * (width + 1),
            queries=queries,
        )
        self.width, self.steps, self.strings = width, steps, strings

    def chance(self, depth: int) -> float:
        """1 / 2: a bit."""
        whole("depth", depth, 1, self.steps)
        return 0.5

    def floor(self, depth: int) -> float:
        """Accuracy of always saying the bit that is more common after ``depth`` steps of the held-out rows.

        Counted over all of them up to 16 cells; for wider rows over 16,384 drawn with a fixed seed.
        """
        whole("depth", depth, 1, self.steps)
        return _majority(self.width, self.steps)[depth - 1]

    def token_name(self, token: int) -> str:
        """Bits as they are, strings as s0, steps as t1, cells as c0."""
        whole("token", token, 0, self.vocab - 1)
        if token < 2:
            return str(token)
        token -= 2
        if token < self.strings:
            return f"s{token}"
        token -= self.strings
        return f"t{token + 1}" if token < self.steps else f"c{token - self.steps}"

    def encode(self, text: str) -> Tensor:
        """Context tokens of typed rows: one line of ``width`` characters 0 and 1 for each of the ``strings``.

        Raises:
            TypeError: text is not a string.
            ValueError: another number of rows, another width, or other characters; it says which.
        """
        if not isinstance(text, str):
            raise TypeError(f"A row is typed as text of 0 and 1; this is {type(text).__name__}.")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) != self.strings:
            raise ValueError(
                f"Type {self._rows()} of {self.width} characters 0 and 1, each on a line of its own; "
                f"here are {len(lines)}."
            )
        return self._windows(torch.stack([self._bits(line) for line in lines]).unsqueeze(0))[0]

    def decode(self, context: Tensor) -> str:
        """The rows of a context [C] as text: what ``encode`` turns back into it."""
        self._check_context(context)
        rows = context.view(self.strings, -1)[:, 1:].tolist()
        return "\n".join("".join(map(str, row)) for row in rows)

    def encode_question(self, step: int, cell: int, string: int = 0) -> Tensor:
        """Tokens [3] of "what is this cell (from 0) of this string (from 0) after ``step`` steps?"."""
        whole("step", step, 1, self.steps)
        whole("cell", cell, 0, self.width - 1)
        whole("string", string, 0, self.strings - 1)
        first = 2 + self.strings
        return torch.tensor([2 + string, first + step - 1, first + self.steps + cell], dtype=torch.int64)

    def picture(self, row: str | Tensor) -> Tensor:
        """Space-time picture [steps + 1, width] of one row, typed or as bits [width]; the row comes first."""
        if isinstance(row, str):
            row = self._bits(row.strip())
        if not isinstance(row, Tensor) or row.is_floating_point():
            raise TypeError("A row is text of 0 and 1 or a tensor of whole numbers.")
        if row.shape != (self.width,):
            raise ValueError(f"A row has the shape [{self.width}]; this one has {list(row.shape)}.")
        if ((row != 0) & (row != 1)).any():
            raise ValueError("A row holds something other than 0 and 1.")
        return self._pictures(row.to(torch.int64))

    def held_out(self, row: str | Tensor) -> bool:
        """Whether a row, typed or as bits [width], is one that exams draw from and training never does."""
        return bool(held_out(self.picture(row)[0].cpu()))

    def _bits(self, line: str) -> Tensor:
        """One typed row as bits [width]."""
        stranger = next((mark for mark in line if mark not in "01"), None)
        if stranger is not None:
            raise ValueError(f"'{stranger}' is no cell; a row consists of 0 and 1 only.")
        if len(line) != self.width:
            raise ValueError(f"The row {line} has {len(line)} cells; it should have {self.width}.")
        return torch.tensor([int(mark) for mark in line])

    def _rows(self) -> str:
        return "one row" if self.strings == 1 else f"{self.strings} rows"

    def _pictures(self, rows: Tensor) -> Tensor:
        """[..., width] -> [..., steps + 1, width]."""
        pictures = [rows]
        for _ in range(self.steps):
            pictures.append(advance(pictures[-1]))
        return torch.stack(pictures, dim=-2)

    def _windows(self, rows: Tensor) -> Tensor:
        """Bits [n, strings, width] -> context [n, strings * (width + 1)]."""
        marks = torch.arange(2, 2 + self.strings).view(1, -1, 1).expand(rows.shape[0], -1, -1)
        return torch.cat([marks, rows], dim=-1).flatten(1)

    def _check_context(self, context: Tensor) -> None:
        if context.shape != (self.context,):
            raise ValueError(
                f"A context of {self._rows()} has {self.context} tokens; this one has {len(context)}."
            )
        windows = context.view(self.strings, -1)
        if windows[:, 0].tolist() != list(range(2, 2 + self.strings)):
            raise ValueError("Each window starts with the token of its string, in order; these do not.")
        if ((windows[:, 1:] != 0) & (windows[:, 1:] != 1)).any():
            raise ValueError("A row holds something other than 0 and 1.")

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        rows = _draw_rows(n * self.strings, self.width, generator, from_held_out=held_out)
        return self._windows(rows.view(n, self.strings, self.width))

    def _questions(self, context: Tensor) -> Exam:
        """Every cell of step 1, 2, ... of string 0, then of string 1, and so on."""
        n = context.shape[0]
        rows = context.view(n, self.strings, -1)[:, :, 1:]
        answers = self._pictures(rows)[:, :, 1:].flatten(1)
        grid = torch.cartesian_prod(
            torch.arange(2, 2 + self.strings), torch.arange(1, self.steps + 1), torch.arange(self.width)
        ).to(context.device)
        step = grid[:, 1].clone()
        grid[:, 1] += 1 + self.strings
        grid[:, 2] += 2 + self.strings + self.steps
        return Exam(context, grid.expand(n, -1, -1), answers, step.expand(n, -1), window=self.window)
