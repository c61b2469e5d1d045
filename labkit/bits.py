"""Bits per byte of a language model on real text, by how much it read before."""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from labkit.checkpoints import load, task_of
from labkit.haystack import never_write
from labkit.intervals import LEVEL, Interval
from labkit.machine import device_called
from labkit.models import SleepLM
from labkit.results import add_rows, read_rows
from labkit.tasks import Text
from labkit.tasks.text import all_bytes

__all__ = ["READ", "bits_per_byte", "block_bits", "compressed", "fewer_bits", "read", "report", "store"]

READ = (64, 192, 448, 960, 1984)
"""Bytes slept on before a block: of the models in data/recipes one window, then 3, 7 (as in training), 15, 31."""

BLOCK = 64  # bytes predicted in one go, awake
STRETCH = 64  # neighbouring blocks that count as one instance of an interval: 4 KiB


def bits_per_byte(
    name: str,
    seeds: Sequence[int],
    *,
    reads: Sequence[int] = READ,
    passes: int = 1,
    writes: bool = True,
    device: str = "cpu",
    folder: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """How many bits a trained model needs for each byte of the text that is held out for exams, by what it read before.

    Every block of 64 bytes is predicted once: the model sleeps on the bytes in front of it, window by window, then
    predicts the block awake, each byte from all before it. Blocks near the beginning, that the longest of `reads` does
    not fit in front of, are left out of all, so that every row tells of the same bytes.

    Args:
        name, seeds: checkpoints of a recipe whose task is "text".
        reads: bytes slept on before a block.
        passes: N for every window.
        writes: False is the control in which neural memories are read and never written.
        device: where the models run.

    Returns:
        One row for each seed and number of bytes read: ``bits`` per byte, with its 95% interval ``low`` to ``high``,
        and ``stretches``, the bits of each stretch of 4 KiB. These are the unit of intervals, since neighbouring blocks
        resemble each other: Student's t over stretches, which tells nothing of other seeds. Two models met the same
        stretches, so `fewer_bits` compares them pair by pair.

    Raises ValueError, in a sentence, for a checkpoint of another task, and for texts longer than what is held out.
    """
    place = device_called(device)
    reads = sorted(set(reads))
    text = all_bytes(held_out=True)
    blocks = (len(text) - reads[-1] - 1) // BLOCK if reads else 0
    if not reads or reads[0] < 0 or blocks < 2 * STRETCH:
        most = len(text) - 2 * STRETCH * BLOCK - 1
        raise ValueError(f"Bytes to read before a block are one number or several from 0 to {most}, not {reads}.")
    rows = []
    for seed in seeds:
        model, card = load(name, seed, folder)
        if not isinstance(task_of(card), Text):
            raise ValueError(f"{name} was trained on {task_of(card)!r}; bits per byte are those of models of text.")
        if not writes:
            never_write(model)
        total = blocks * sum(read + BLOCK for read in reads)
        with tqdm(total=total, unit="B", unit_scale=True, delay=2, disable=not progress, desc=name) as bar:
            found = [block_bits(model.to(place), text, blocks, read, passes, bar) for read in reads]
        for read, bits in zip(reads, found, strict=True):
            told = _interval(stretches := _stretches(bits))
            row = {"checkpoint": name, "weights": card["sha256"][:12], "seed": seed, "read": read, "passes": passes}
            row |= {"writes": writes, "bytes": bits.size * BLOCK}
            row |= {"bits": float(bits.mean()), "low": told.low, "high": told.high}
            row |= {"device": place.type, "stretches": " ".join(f"{bit:.5f}" for bit in stretches)}
            rows.append(row)
    return pd.DataFrame(rows)


@torch.inference_mode()
def block_bits(
    model: SleepLM, text: Tensor, blocks: int, read: int, passes: int = 1, bar: tqdm | None = None, batch: int = 128
) -> NDArray[np.float64]:
    """Bits per byte ``[blocks]`` of the last `blocks` blocks of ``text [bytes]``, after sleeping on `read` bytes.

    The last byte in front of a block is not slept on but read awake: it is what the first one is predicted from.
    """
    model.eval()
    device = next(model.parameters()).device
    first = len(text) - blocks * BLOCK
    found = []
    for start in range(0, blocks, batch):
        begin = first + BLOCK * torch.arange(start, min(start + batch, blocks)).unsqueeze(1)
        bytes_ = text[begin - 1 - read + torch.arange(read + 1 + BLOCK)].to(device)
        logits = model(bytes_[:, :-1], context=read, passes=passes).logits
        nats = F.cross_entropy(logits.float().transpose(1, 2), bytes_[:, -BLOCK:], reduction="none")
        found.append(nats.double().mean(1).cpu().numpy() / math.log(2))
        if bar is not None:
            bar.update(len(begin) * (read + BLOCK))
    return np.concatenate(found)


def compressed() -> tuple[float, str]:
    """Bits for each held-out byte of the better of two compressors that read the text of the lessons first, and which.

    Of bzip2 and LZMA, as they come with Python.
    """
    known, new = (bytes(all_bytes(held_out=held_out).tolist()) for held_out in (False, True))
    tools: dict[str, Callable[[bytes], bytes]] = {"bzip2": bz2.compress, "LZMA": lzma.compress}
    return min((8 * (len(tool(known + new)) - len(tool(known))) / len(new), name) for name, tool in tools.items())


def fewer_bits(rows: pd.DataFrame, than: pd.DataFrame) -> Interval:
    """How many bits per byte one row of `bits_per_byte` needs less than another, with its paired 95% interval."""
    own, other = (np.array(row["stretches"].iloc[0].split(), dtype=np.float64) for row in (rows, than))
    if own.shape != other.shape:
        raise ValueError("The two rows tell of different bytes; measure both after the same numbers of bytes.")
    return _interval(other - own)


def _stretches(bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each stretch of blocks; the rest of the last one is joined to it."""
    whole = len(bits) // STRETCH
    return np.array([part.mean() for part in np.split(bits, STRETCH * np.arange(1, whole))])


def _interval(stretches: NDArray[np.float64]) -> Interval:
    """Their mean, with Student's t over them."""
    low, high = stats.ttest_1samp(stretches, 0.0).confidence_interval(LEVEL)
    return Interval(float(stretches.mean()), float(low), float(high))


def store(rows: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV; the rows of other seeds, bytes read, controls or passes that lie there stay."""
    add_rows(path, rows, ["writes", "passes", "seed", "read"], read)


def read(path: str | Path) -> pd.DataFrame:
    """A stored table; errors are those of `labkit.results.read_rows`."""
    return read_rows(path, "bits", {"checkpoint", "read", "bits", "stretches", "writes", "passes"})


def report(rows: pd.DataFrame) -> str:
    """The table as text, and what a compressor makes of the same bytes."""
    shown = rows[["seed", "read", "bits", "low", "high"]].round(3)
    first = rows.iloc[0]
    control = "" if first["writes"] else ", nothing written"
    return (
        f"{first['checkpoint']}: bits per byte of {first['bytes']} held-out bytes after reading so many, "
        f"N = {first['passes']}{control}.\n{shown.to_string(index=False)}\n"
        "{1}, which read the lessons' text first, needs {0:.3f}.".format(*compressed())
    )
