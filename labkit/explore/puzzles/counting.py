"""What a kernel reads from and writes to global memory, seen through Triton's interpreter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labkit.explore.puzzles.guards import Guarded
from labkit.explore.puzzles.interpreter import InterpreterBuilder

__all__ = ["Traffic", "WildAccess", "counted"]


class WildAccess(Exception):
    """A kernel was about to touch memory that belongs to no array and no guard."""


@dataclass
class Traffic:
    """Elements and bytes of global memory that were touched; lanes whose mask is false do not count.

    Attributes:
        read_outside, written_outside: by name of the array, how many accesses fell beside it.
        undefined: by name of the array, how many lanes a masked load without ``other=`` did not read.
    """

    loads: int = 0
    stores: int = 0
    bytes_loaded: int = 0
    bytes_stored: int = 0
    read_outside: dict[str, int] = field(default_factory=dict)
    written_outside: dict[str, int] = field(default_factory=dict)
    undefined: dict[str, int] = field(default_factory=dict)

    def load(self, lanes: int, width: int) -> None:
        """Count `lanes` elements of `width` bytes as read."""
        self.loads, self.bytes_loaded = self.loads + lanes, self.bytes_loaded + lanes * width

    def store(self, lanes: int, width: int) -> None:
        """Count `lanes` elements of `width` bytes as written."""
        self.stores, self.bytes_stored = self.stores + lanes, self.bytes_stored + lanes * width


class _Map:
    """Which array an address belongs to, and whether it is inside of it."""

    def __init__(self, arrays: Mapping[str, Guarded]) -> None:
        placed = sorted((array.raw.data_ptr(), name) for name, array in arrays.items())
        self.names = [name for _, name in placed]
        self.starts = np.array([start for start, _ in placed], dtype=np.uint64)
        lengths = np.array([arrays[name].raw.numel() for name in self.names], dtype=np.int64)
        self.ends = self.starts + (4 * lengths).astype(np.uint64)
        self.first = np.concatenate([[0], np.cumsum(lengths)])
        self.inside = np.concatenate([arrays[name].inside.cpu().numpy() for name in self.names])

    def nearest(self, address: Any) -> str:
        """The array that an address belongs to, or else the last one before it."""
        return self.names[max(int(np.searchsorted(self.starts, address, side="right")) - 1, 0)]

    def beside(self, addresses: Any, doing: str) -> dict[str, int]:
        """How many of the addresses lie in the guards of each array. Raises `WildAccess` where there is no array."""
        which = np.searchsorted(self.starts, addresses, side="right") - 1
        if (which < 0).any() or (addresses >= self.ends[which]).any():
            raise WildAccess(f"It {doing} memory far outside of every array")
        entry = self.first[which] + ((addresses - self.starts[which]) // np.uint64(4)).astype(np.int64)
        out = which[~self.inside[entry]]
        return {self.names[i]: int((out == i).sum()) for i in np.unique(out)}


def _stand_in(dtype: Any, unread: float) -> Any:
    """`unread`; for NaN and whole numbers the largest, which in bfloat16, held as uint16, is NaN as well."""
    return unread if dtype.kind == "f" or not math.isnan(unread) else np.iinfo(dtype).max


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number


@contextmanager
def counted(arrays: Mapping[str, Guarded], unread: float = float("nan")) -> Iterator[Traffic]:
    """Count what interpreted kernels do inside the block; whatever happens there, nothing is counted after it.

    Args:
        arrays: all arrays that the kernels may touch. An access beside one of them is noted; one that is nowhere near
            raises `WildAccess` before it can do harm.
        unread: what a masked load without ``other=`` hands on where its mask is false. A compiled kernel may find
            anything there; NaN shows up in all that depends on it.
    """
    traffic, known = Traffic(), _Map(arrays)
    kept = {
        name: InterpreterBuilder.__dict__[name]
        for name in ("create_masked_load", "create_masked_store", "create_atomic_rmw")
    }

    def lanes(ptrs: Any, mask: Any) -> tuple[Any, int]:
        on = np.broadcast_to(mask.data, ptrs.data.shape).astype(bool)
        return ptrs.data[on].astype(np.uint64), max(1, ptrs.get_element_ty().primitive_bitwidth // 8)

    def load(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any, **more: Any) -> Any:
        addresses, width = lanes(ptrs, mask)
        _add(traffic.read_outside, known.beside(addresses, "reads"))
        traffic.load(len(addresses), width)
        values = kept["create_masked_load"](self, ptrs, mask, other, *rest, **more)
        if other is None and len(addresses) < ptrs.data.size:
            nearest = known.nearest(addresses[0] if len(addresses) else ptrs.data.flat[0])
            _add(traffic.undefined, {nearest: ptrs.data.size - len(addresses)})
            on, found = np.broadcast_to(mask.data, ptrs.data.shape).astype(bool), values.data
            values.data = np.where(on, found, _stand_in(found.dtype, unread)).astype(found.dtype)
        return values

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **more: Any) -> Any:
        addresses, width = lanes(ptrs, mask)
        _add(traffic.written_outside, known.beside(addresses, "writes"))
        traffic.store(len(addresses), width)
        return kept["create_masked_store"](self, ptrs, value, mask, *rest, **more)

    def update(self: Any, op: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **more: Any) -> Any:
        addresses, width = lanes(ptrs, mask)
        _add(traffic.written_outside, known.beside(addresses, "writes"))
        traffic.load(len(addresses), width)
        traffic.store(len(addresses), width)
        return kept["create_atomic_rmw"](self, op, ptrs, value, mask, *rest, **more)

    try:
        InterpreterBuilder.create_masked_load = load
        InterpreterBuilder.create_masked_store = store
        InterpreterBuilder.create_atomic_rmw = update
        yield traffic
    finally:
        for name, own in kept.items():
            setattr(InterpreterBuilder, name, own)
