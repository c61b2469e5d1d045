"""What reading costs, worked out from a model's settings alone: operations and bytes, split into sleep and wake.

`labkit.budget` counts the operations of real calls, and tests hold the two equal. Counted are matrix products,
attention over every pair of positions and triangular solves, a multiplication and an addition as two; in bytes, what
has to move at least: every weight that is used once per reading, the state read and written, the cache read, and what
is added to it written, four bytes a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from labkit.kernels.gated_delta.chunked import SHORTEST_CHUNK
from labkit.memory.gated_delta import CHUNK
from labkit.models import SleepConfig

__all__ = ["Cost", "answer_cost", "position_after", "read_cost", "sleep_cost", "thought_cost"]

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
    """Of sleeping on a context of so many tokens, each of its windows read `passes` times."""
    whole, rest = divmod(context, config.window)
    total, past = Cost(), 0
    for length in [config.window] * whole + [rest] * (rest > 0):
        total = total + read_cost(config, length, past) * passes
        past = position_after(config, past + length, passes)
    return total


def position_after(config: SleepConfig, context: int, passes: int) -> int:
    """How many tokens count as read, after sleep on a context: none where it cleared everything but fast weights."""
    return 0 if not passes or config.eviction == "hard" else context


def thought_cost(config: SleepConfig, trace: str, asks: int, thought: int, piece: int = 1, past: int = 0) -> Cost:
    """Of waking to one question of `asks` tokens, thinking R steps about it and answering (`labkit.tasks.thinking`).

    Args:
        trace: what a step of thought is; written steps of `piece` tokens are read one token at a time.
        past: tokens that count as read after sleep; see `position_after`.
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
    """Of one pass of all blocks over `length` tokens of one sequence.

    Args:
        past: tokens that were read before and not cleared. A sliding window's cache holds the newest of them.
        answered: whether logits are made, as in `wake`.
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
            total = total + _titans(config, kind, length, past)
        total = total + feed + Cost(0, 2 * NUMBER * config.dim)  # two normalisations
    if answered:
        total = total + _product(length, config.dim, config.vocab) + Cost(0, NUMBER * config.dim)
    return total


def _product(rows: int, inner: int, columns: int) -> Cost:
    """Rows times a matrix of weights, which is moved once."""
    return Cost(2 * rows * inner * columns, NUMBER * inner * columns)


def _attention(config: SleepConfig, length: int, past: int) -> Cost:
    kept = min(past, config.window - 1) if config.eviction == "sliding" else past
    d, seen = config.dim, kept + length
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
    return made + Cost(heads * _delta_memory(length, k, v), NUMBER * (small + 2 * heads * k * v))


def _delta_memory(length: int, k: int, v: int) -> int:
    """Operations of one head of a gated delta memory: one token by itself, more in chunks; see its kernel."""
    if length <= 1:
        return 2 * 2 * k * v * length  # looked up and read; the write is an element-wise operation
    chunks = -(-length // max(CHUNK, SHORTEST_CHUNK))
    size = -(-length // chunks)
    between = 2 * size * size * k + size**3  # keys with keys, and the inverse
    scores = 2 * size * size * k + 2 * size * size * v  # queries with keys, and what they find
    solved = 2 * size * size * (k + v)
    states = 3 * 2 * size * k * v  # looked up, written, read
    return chunks * (between + scores + solved + states)


def _titans(config: SleepConfig, kind: str, length: int, past: int) -> Cost:
    """One of Titans' mixers; see `labkit.models.titans` for what is done in which order."""
    d, segment = config.dim, config.segment
    assert segment is not None
    if kind == "lmm":
        return _neural_memory(config, length, past)
    streams = 2 if kind == "mac" else 1
    weights = 4 * d * d + config.persistent * d + d * (kind != "mag") + 2 * d * (kind != "mal")  # shares; norms
    total = Cost(0, NUMBER * weights)
    if kind != "mac":  # a sliding window is cut from the first token of a reading on
        total = total + _neural_memory(config, length, past)
        for first in range(0, length, segment):
            part = min(segment, length - first)
            total = total + _segment_attention(config, part, min(past + first, segment - 1), streams)
        return total
    first = 0
    while first < length:  # a segment ends where it would have ended without a break between readings
        position = past + first
        part = min(segment - position % segment, length - first)
        total = total + _segment_attention(config, part, position % segment, streams)
        asked = 3 * 2 * part * d * d + 2 * part * _memory_size(config)  # queries, gate and output; the memory itself
        written = _neural_memory(config, part, position)
        total = total + Cost(asked + written.flops, written.bytes if first == 0 else 0)
        first += part
    return total


def _segment_attention(config: SleepConfig, length: int, kept: int, streams: int) -> Cost:
    """Attention over learned tokens, `kept` positions of a cache and `length` new ones, in one or two streams.

    Its weights are not among the bytes.
    """
    d, learned, seen = config.dim, config.persistent, streams * (kept + length)
    made = (2 + 2 * streams) * 2 * length * d * d + 2 * 2 * learned * d * d  # queries, output, keys and values
    return Cost(made + 4 * length * (seen + learned) * d, NUMBER * (2 * seen * d + 2 * streams * length * d))


def _memory_size(config: SleepConfig) -> int:
    """Numbers in the networks of one neural memory, over its heads."""
    return config.heads * sum(rows * columns for rows, columns in _layers(config))


def _layers(config: SleepConfig) -> list[tuple[int, int]]:
    width = config.dim // config.heads
    return list(pairwise([width, *[config.expansion * width] * (config.memory_layers - 1), width]))


def _neural_memory(config: SleepConfig, length: int, position: int) -> Cost:
    """A neural memory that is written by `length` tokens, the first of which is number `position`, and read."""
    d, heads, layers, chunk = config.dim, config.heads, _layers(config), config.chunk_size
    made = _product(length, d, 3 * d + 3 * heads) + _product(length, d, d) + _product(length, d, d)
    small = config.conv * (3 * d + 3 * heads) + 3 * heads + d // heads
    size, back = _memory_size(config), _memory_size(config) - heads * layers[0][0] * layers[0][1]
    slopes = 2 * length * (size + back)  # forward, and back to the first layer's output
    flops, first = 0, 0
    while first < length:
        piece = min(chunk - (position + first) % chunk, length - first)
        if chunk == 1:  # written by element-wise operations
            flops += 2 * size
        else:
            spread = heads * (2 * piece**3 + 2 * piece**2)
            within = heads * 2 * piece**2 * sum(rows + columns for rows, columns in layers)
            flops += spread + within + 4 * 2 * piece * size  # reads weights and velocity, writes both
        first += piece
    return made + Cost(slopes + flops, NUMBER * (small + 4 * size))
