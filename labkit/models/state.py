"""What a sleeping model knows at one moment, as an immutable value that can be kept, copied, cut out and stored."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
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
        write_sealed(Path(path), seal(*self.parts(), FORMAT, "The state"))

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
        return SleepState.from_parts(*unseal(path.read_bytes(), FORMAT, str(path), "sleep state"))

    def parts(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All tensors by name, and what else there is to know, as text."""
        return self._named(), {"position": str(self.position), "batch_size": str(self.batch_size)}

    @staticmethod
    def from_parts(tensors: dict[str, Tensor], header: dict[str, str]) -> SleepState:
        """The state that these `parts` are of; other tensors and headers beside them are not looked at."""
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


def seal(tensors: dict[str, Tensor], header: dict[str, str], kind: str, what: str) -> bytes:
    """A safetensors file, as bytes, whose header holds its format `kind` and the hash of all that is in it.

    Raises ValueError, in a sentence about `what`, for NaN and infinity.
    """
    tensors = {name: t.detach().contiguous().clone() for name, t in tensors.items()}  # a file shares no memory
    _refuse_broken(tensors, what)
    header = {**header, "format": kind}
    return save(tensors, metadata={**header, "sha256": _digest(tensors, header)})


def unseal(data: bytes, kind: str, where: str, noun: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of what `seal` made.

    Raises ValueError, in a sentence that begins with `where`, for bytes that are cut short, changed, of another kind
    than a `noun`, or with NaN or infinity in them.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{where} is not a whole safetensors file ({error}); save the {noun} again.") from error
    if header.get("format") != kind:
        raise ValueError(f"{where} is not a saved {noun}: its format is {header.get('format')!r}.")
    if header.pop("sha256", None) != _digest(tensors, header):
        raise ValueError(f"{where} was changed after it was saved: its hash is wrong; save the {noun} again.")
    _refuse_broken(tensors, where)
    return tensors, header


def write_sealed(path: Path, data: bytes) -> None:
    """Put `data` in place of the file `path` in one step; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")  # its own for every call, also in one process
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the name on an empty file
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


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
