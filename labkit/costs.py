"""What reading costs, worked out from a model's settings alone: operations and bytes, split into sleep and wake.

`labkit.budget` counts the operations of real calls, and tests hold the two equal. Counted are matrix products,
attention over every pair of positions and triangular solves, a multiplication and an addition as two; in bytes, what
has to move at least: every weight that is used once per reading, the state read and written, the cache read, and what
is added to it written, four bytes a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from labkit.kernels.gated_delta.chunked import SHORTEST_CHUNK
from labkit.memory.gated_delta import CHUNK
from labkit.models import SleepConfig

__all__ = ["Cost", "answer_cost", "cached", "read_cost", "sleep_cost", "thought_cost"]

NUMBER = 4  # bytes, float32


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes moved."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.flops * times, self.bytes * times)


def answer_cost(rows: pd.DataFrame, questions: float = 1.0, price: float = 1.0) -> pd.Series:
    """Operations of one answer when a sleep serves many questions, and those made while a person waits are dearer.

    ``flops_sleep / questions + price * flops_wake`` of every row, after the price of latency in sleep-time compute
    (arXiv 2504.13171). Where the question was known before (``asked``), it had a sleep of its own.
    """
    own = (rows["asked"] == "before") if "asked" in rows else pd.Series(False, index=rows.index)
    return rows["flops_sleep"] / own.map({True: 1.0, False: questions}) + price * rows["flops_wake"]


def sleep_cost(config: SleepConfig, context: int, passes: int) -> Cost:
    """Of sleeping on a context of so many tokens, each of its windows read `passes` times.

    Raises ValueError for a model with neural memories, whose cost `labkit.budget` counts instead.
    """
    whole, rest = divmod(context, config.window)
    total, past = Cost(), 0
    for length in [config.window] * whole + [rest] * (rest > 0):
        total = total + read_cost(config, length, past) * passes
        past = cached(config, past + length, passes)
    return total


def cached(config: SleepConfig, context: int, passes: int) -> int:
    """How many tokens of a context are in the cache after sleep."""
    if not passes or config.eviction == "hard":
        return 0
    return context if config.eviction == "keep" else min(context, config.window - 1)


def thought_cost(config: SleepConfig, trace: str, asks: int, thought: int, piece: int = 1, past: int = 0) -> Cost:
    """Of waking to one question of `asks` tokens, thinking R steps about it and answering (`labkit.tasks.thinking`).

    Args:
        trace: what a step of thought is; written steps of `piece` tokens are read one token at a time.
        past: tokens that sleep left in the cache.
    """
    if trace == "loops":
        first = read_cost(config, asks, past)
        return first * thought + read_cost(config, asks, past, answered=True)
    if trace == "filler":
        return read_cost(config, asks + thought, past, answered=True)
    total = read_cost(config, asks, past, answered=True)
    for written in range(thought * piece):
        total = total + read_cost(config, 1, past + asks + written, answered=True)
    return total


def read_cost(config: SleepConfig, length: int, past: int = 0, *, answered: bool = False) -> Cost:
    """Of one pass of all blocks over `length` tokens of one sequence, with `past` tokens in the cache.

    Args:
        answered: whether logits are made, as in `wake`.

    Raises ValueError for a model with neural memories.
    """
    total = Cost(0, NUMBER * length * config.dim)  # embeddings that are looked up
    hidden = int(config.mlp_ratio * config.dim)
    feed = _product(length, config.dim, 2 * hidden) + _product(length, hidden, config.dim)
    for kind in config.blocks:
        if kind == "attention":
            total = total + _attention(config, length, past)
        elif kind == "delta":
            total = total + _delta(config, length)
        else:
            raise ValueError(f"The cost of {kind!r} blocks is counted by labkit.budget, not worked out.")
        total = total + feed + Cost(0, 2 * NUMBER * config.dim)  # two normalisations
    if answered:
        total = total + _product(length, config.dim, config.vocab) + Cost(0, NUMBER * config.dim)
    return total


def _product(rows: int, inner: int, columns: int) -> Cost:
    """Rows times a matrix of weights, which is moved once."""
    return Cost(2 * rows * inner * columns, NUMBER * inner * columns)


def _attention(config: SleepConfig, length: int, past: int) -> Cost:
    d, seen = config.dim, past + length
    made = _product(length, d, 3 * d) + _product(length, d, d)
    taps = 3 * d * config.attention_conv if config.attention_conv > 1 else 0
    return made + Cost(4 * length * seen * d, NUMBER * (taps + 2 * seen * d + 2 * length * d))


def _delta(config: SleepConfig, length: int) -> Cost:
    assert config.key_dim is not None and config.value_dim is not None
    heads, k, v = config.heads, config.key_dim, config.value_dim
    mixed = heads * (2 * k + v)
    made = _product(length, config.dim, mixed + 2 * heads) + _product(length, config.dim, heads * v)
    made = made + _product(length, heads * v, config.dim)
    small = config.conv * (mixed + 2 * heads * config.conv_gates) + 3 * heads + v
    return made + Cost(heads * _memory(length, k, v), NUMBER * (small + 2 * heads * k * v))


def _memory(length: int, k: int, v: int) -> int:
    """Operations of one memory head: token by token for one token, else in chunks; see `kernels/gated_delta`."""
    if length <= 1:
        return 2 * 2 * k * v * length  # looked up and read; the write is an element-wise operation
    chunks = -(-length // max(CHUNK, SHORTEST_CHUNK))
    size = -(-length // chunks)
    between = 2 * size * size * k + size**3  # keys with keys, and the inverse
    scores = 2 * size * size * k + 2 * size * size * v  # queries with keys, and what they find
    solved = 2 * size * size * (k + v)
    states = 3 * 2 * size * k * v  # looked up, written, read
    return chunks * (between + scores + solved + states)
