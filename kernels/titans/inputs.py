"""What the neural memory expects of its arguments."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from labkit.kernels.tensors import check_tensors

WIDEST_CHUNK = 512


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    momentum: Tensor,
    forget: Tensor,
    lists: Mapping[str, Sequence[Tensor]],
    chunk_size: int,
) -> None:
    """Refuse wrong types, dtypes, shapes and devices with a sentence that names the argument.

    Args:
        lists: the weights first, then what must be shaped like them, by name.

    Values are not looked at: a NaN in one row of the batch must stay in that row, and a scan over every input would
    cost as much as a small chunk.
    """
    named = {"q": q, "k": k, "v": v, "step": step, "momentum": momentum, "forget": forget}
    _check_kinds(named, lists)
    for name, tensor in named.items():
        shape = list(q.shape) if name in ("q", "k", "v") else list(q.shape[:3])
        if list(tensor.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} to go with q of shape {list(q.shape)}, but its shape is "
                f"{list(tensor.shape)}."
            )
    _check_lists(q, lists)
    whole = isinstance(chunk_size, numbers.Integral) and not isinstance(chunk_size, bool)
    if not (whole and 1 <= chunk_size <= WIDEST_CHUNK):
        raise ValueError(f"chunk_size must be a whole number from 1 to {WIDEST_CHUNK}, but it is {chunk_size!r}.")


def checked_bounds(limit: float | None, clip: float | None) -> tuple[float | None, float | None]:
    """Limit and clip as Python's numbers; one that bounds nothing is refused with a sentence that names it."""
    for name, number in (("limit", limit), ("clip", clip)):
        real = isinstance(number, numbers.Real) and not isinstance(number, bool)
        if number is not None and not (real and 0 < number < math.inf):
            raise ValueError(f"{name} must be a finite number above 0, or None for none, but it is {number!r}.")
    return None if limit is None else float(limit), None if clip is None else float(clip)


def check_reading(q: Tensor, weights: Sequence[Tensor]) -> None:
    """Refuse queries that a network cannot be asked, with a sentence that names the argument."""
    _check_kinds({"q": q}, {"weights": weights})
    _check_lists(q, {"weights": weights})


def _check_kinds(named: Mapping[str, Tensor], lists: Mapping[str, Sequence[Tensor]]) -> None:
    for name, several in lists.items():
        if not isinstance(several, list | tuple) or not several:
            kind = "empty" if isinstance(several, list | tuple) else f"a {type(several).__name__}"
            raise TypeError(f"{name} must be a list of tensors, one for each layer of the memory, but it is {kind}.")
    check_tensors({**named, **{f"{name}[{i}]": t for name, several in lists.items() for i, t in enumerate(several)}})
    q = named["q"]
    if q.ndim != 4 or q.shape[-1] == 0:
        raise ValueError(f"q must have shape [B, T, H, D] with D at least 1, but its shape is {list(q.shape)}.")


def _check_lists(q: Tensor, lists: Mapping[str, Sequence[Tensor]]) -> None:
    batch, _, heads, width = q.shape
    (first, weights), *others = lists.items()
    between = [w.shape[-1] if w.ndim == 4 else -1 for w in weights[:-1]]
    for i, (tensor, rows, columns) in enumerate(zip(weights, [width, *between], [*between, width], strict=True)):
        if list(tensor.shape) != [batch, heads, rows, columns]:
            raise ValueError(
                f"{first}[{i}] must have shape [B, H, in, out], here {[batch, heads, rows, columns]}, so that the "
                f"layers lead from {width} channels to {width}, but its shape is {list(tensor.shape)}."
            )
    shapes = [list(w.shape) for w in weights]
    for name, several in others:
        if [list(t.shape) for t in several] != shapes:
            raise ValueError(
                f"{name} must have the shapes of {first}, {shapes}, but its shapes are "
                f"{[list(t.shape) for t in several]}."
            )


def state_dtype(q: Tensor) -> torch.dtype:
    """The dtype that weights and velocity are kept in: float64 for float64 inputs, else float32."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32
