"""What a sleeping model knows at one moment, as an immutable value that can be kept, copied, cut out and stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "labkit-sleep-state-1"


class Memories(NamedTuple):
    """What blocks read and write: the tensors of a `SleepState`, without its counters; of all blocks or of one."""

    fast: tuple[Tensor, ...]
    cache: tuple[tuple[Tensor, Tensor], ...]
    tails: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class SleepState:
    """The memory of a batch of sequences. A model never changes one; it returns another.

    Attributes:
        fast: the fast weights of each memory layer: a gated delta memory's ``[B, H, K, V]``; a neural memory's weights,
            then its velocity, ``[B, H, in, out]`` for each of its layers.
        cache: keys and values of each attention layer since the last sleep, two ``[B, P, H, D]``; keys are stored
            before rotation, so that a long session loses no precision in its positions.
        tails: the last inputs of each memory layer's convolution, ``[B, conv - 1, channels]``; of a neural memory also
            the weights before the open chunk, and in "mac" those before the open segment.
        position: tokens read since the cache was last cleared.
    """

    fast: tuple[Tensor, ...]
    cache: tuple[tuple[Tensor, Tensor], ...]
    tails: tuple[Tensor, ...]
    position: int
    batch_size: int

    def map(self, function: Callable[[Tensor], Tensor]) -> SleepState:
        """The state with `function` applied to every tensor."""
        return SleepState(
            fast=tuple(function(t) for t in self.fast),
            cache=tuple((function(k), function(v)) for k, v in self.cache),
            tails=tuple(function(t) for t in self.tails),
            position=self.position,
            batch_size=self.batch_size,
        )

    def detach(self) -> SleepState:
        """The same numbers, cut from the graph that made them."""
        return self.map(torch.Tensor.detach)

    def clone(self) -> SleepState:
        """A copy that shares no memory with this one."""
        return self.map(torch.clone)

    def to(self, *args: object, **kwargs: object) -> SleepState:
        """The state on another device or in another dtype; arguments as for ``torch.Tensor.to``."""
        return self.map(lambda t: t.to(*args, **kwargs))  # type: ignore[call-overload]

    def select(self, rows: Tensor) -> SleepState:
        """The state of the given rows of the batch, in that order; a row may be taken more than once.

        Args:
            rows: ``[n]`` int64, each from 0 to ``batch_size - 1`` (else torch raises an IndexError).
        """
        chosen = self.map(lambda t: t.index_select(0, rows))
        return SleepState(chosen.fast, chosen.cache, chosen.tails, self.position, int(rows.numel()))

    @property
    def nbytes(self) -> int:
        """Bytes held by all tensors of the state."""
        return sum(t.numel() * t.element_size() for t in self._named().values())

    def save(self, path: str | Path) -> None:
        """Write the state as safetensors, beside `path` first and then in its place; its folder is made if need be.

        Raises ValueError for a state with NaN or infinity in it, which `load` would refuse, and leaves the file that
        is there; OSError where nothing can be written.
        """
        tensors = {name: t.detach().contiguous() for name, t in self._named().items()}
        _refuse_broken(tensors, "The state")
        header = {"format": FORMAT, "position": str(self.position), "batch_size": str(self.batch_size)}
        header["sha256"] = _digest(tensors, header)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        try:
            save_file(tensors, beside, metadata=header)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    @staticmethod
    def load(path: str | Path) -> SleepState:
        """Read a state written by `save`.

        Raises:
            FileNotFoundError, ValueError: a sentence, when there is no such file, it is no state of this kind,
                it is cut short or was changed, or it holds NaN or infinity.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no state file {path}; save one with state.save(path).")
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}); save the state again.") from error
        if header.get("format") != FORMAT:
            raise ValueError(f"{path} is not a saved sleep state: its format is {header.get('format')!r}.")
        if header.pop("sha256", None) != _digest(tensors, header):
            raise ValueError(f"{path} was changed after it was saved: its hash is wrong; save the state again.")
        _refuse_broken(tensors, str(path))
        kinds = [name.split(".")[0] for name in tensors]
        return SleepState(
            fast=tuple(tensors[f"fast.{i}"] for i in range(kinds.count("fast"))),
            cache=tuple((tensors[f"keys.{i}"], tensors[f"values.{i}"]) for i in range(kinds.count("keys"))),
            tails=tuple(tensors[f"tails.{i}"] for i in range(kinds.count("tails"))),
            position=int(header["position"]),
            batch_size=int(header["batch_size"]),
        )

    def _named(self) -> dict[str, Tensor]:
        named = {f"fast.{i}": t for i, t in enumerate(self.fast)}
        named |= {f"keys.{i}": k for i, (k, _) in enumerate(self.cache)}
        named |= {f"values.{i}": v for i, (_, v) in enumerate(self.cache)}
        return named | {f"tails.{i}": t for i, t in enumerate(self.tails)}


def _refuse_broken(tensors: dict[str, Tensor], what: str) -> None:
    broken = [name for name, t in tensors.items() if not t.isfinite().all()]
    if broken:
        raise ValueError(f"{what} holds NaN or infinity in {broken[0]}, which would poison what is read next.")


def _digest(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """SHA-256 of everything a file holds, so that a changed byte is noticed."""
    found = hashlib.sha256(repr(sorted(header.items())).encode())
    for name, t in sorted(tensors.items()):
        found.update(repr((name, t.dtype, tuple(t.shape))).encode())
        found.update(t.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
