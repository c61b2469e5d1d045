"""Arrays that lie in the middle of larger ones, so that an access outside of them is seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.explore.puzzles.interpreter import DEVICE

__all__ = ["EMPTY", "Guarded", "pitch"]

PADDING = 3  # guard entries after every row: a row stride that is no row length shows a column mask that is missing
AROUND = 64  # guard rows before the first row and after the last
# Bits of float32 NaNs that no arithmetic makes: what nobody has written yet, and what lies around an array.
EMPTY, GUARD = 0x7FC0E3E3, 0x7FC0A5A5


def pitch(width: int) -> int:
    """Entries from the start of one row to the start of the next, for rows of `width` entries."""
    return width + PADDING


@dataclass(frozen=True)
class Guarded:
    """One float32 array of a check, and the guards around it.

    Attributes:
        view: ``[..., width]``, what the kernel gets; its rows lie `pitch(width)` apart, one after the other over all
            leading dimensions.
        raw: the whole buffer, 1-D.
        inside: bool, shaped like `raw`: which entries belong to the array.
    """

    view: Tensor
    raw: Tensor
    inside: Tensor

    @classmethod
    def make(cls, shape: tuple[int, ...], values: Tensor | None = None, around: float | None = None) -> Guarded:
        """An array of `shape` with `values`, or one that says of every entry that nobody has written it.

        Args:
            around: what lies around it; NaN by default.
        """
        width, rows = shape[-1], math.prod(shape[:-1])
        row, first = pitch(width), AROUND * pitch(width)
        raw = torch.full((rows * row + 2 * first,), GUARD, dtype=torch.int32, device=DEVICE).view(torch.float32)
        if around is not None:
            raw.fill_(around)
        strides: tuple[int, ...] = (1,)
        for size in reversed(shape[1:]):
            strides = (strides[0] * (row if len(strides) == 1 else size), *strides)
        inside = torch.zeros(len(raw), dtype=torch.bool, device=DEVICE)
        inside.as_strided(shape, strides, first).fill_(True)
        view = raw.as_strided(shape, strides, first)
        if values is None:
            raw.view(torch.int32)[inside] = EMPTY
        else:
            view.copy_(values)
        return cls(view, raw, inside)

    @property
    def bits(self) -> Tensor:
        """The buffer bit for bit, NaNs included, as int32."""
        return self.raw.view(torch.int32)

    def unwritten(self) -> Tensor:
        """Bool, shaped like the view: entries that are as `make` left them."""
        where = self.bits.as_strided(self.view.shape, self.view.stride(), self.view.storage_offset())
        return where == EMPTY
