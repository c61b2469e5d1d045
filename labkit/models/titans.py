"""The architectures of Titans (arXiv 2501.00663, section 4) as mixers of a block: LMM, MAC, MAG and MAL.

| equation of the paper | here |
|---|---|
| 21, 22: retrieve; attend over persistent, retrieved, segment | `Titans._mac_segment`, `SegmentAttention.forward` |
| 24: write the attention's output into the memory | `Titans._mac_segment`, ``written`` |
| 25: gate the output by what the memory says of it | `Titans._gated` |
| 26 to 28: attention over a sliding window beside the memory | `Titans.forward`, "mag" |
| 29 to 31: the memory, then attention over a sliding window | `Titans.forward`, "mal" |
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.memory import MemoryState, NeuralMemory
from labkit.models.config import TITANS, SleepConfig
from labkit.models.layers import rotate
from labkit.models.state import Memories

__all__ = ["SegmentAttention", "Titans"]

Cache = tuple[tuple[Tensor, Tensor], ...]


class SegmentAttention(nn.Module):
    """Softmax attention of tokens to persistent tokens, to what was retrieved with each of them, and to one another.

    Token i sees the persistent tokens, all cached positions, and positions up to i of the tokens and of what was
    retrieved: what was retrieved with a later token would tell of that token. Persistent tokens are learned and have no
    position; a retrieved vector has the position of the token it was retrieved with.

    Args:
        dim, heads: width and number of heads.
        persistent: learned tokens in front (N_p), 0 for none.
        reach: how many positions a token sees, itself included; None sees all that the cache holds.
        residual: add the tokens themselves to a learned share, one number per channel, of what attention gives.
    """

    def __init__(self, dim: int, heads: int, persistent: int, reach: int | None, *, residual: bool = False) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.persistent = nn.Parameter(0.5 * torch.randn(persistent, dim))
        # small at first: untrained attention is a mean of its window, beside which no token would stand out
        self.share = nn.Parameter(torch.full((dim,), 0.1)) if residual else None

    def empty(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, 0, H, D]``."""
        none = self.query.weight.new_zeros(batch_size, 0, self.heads, self.query.out_features // self.heads)
        return none, none

    def forward(self, x: Tensor, cache: Cache, retrieved: Tensor | None = None) -> tuple[Tensor, Cache]:
        """``x [B, T, dim]``; `cache` holds a pair for the tokens and, with `retrieved`, a second one for these.

        Returns ``y [B, T, dim]`` and the cache with the new positions.
        """
        q = self._heads(self.query(x))
        streams = [x] if retrieved is None else [x, retrieved]
        after = tuple(
            (torch.cat([k, self._heads(self.key(s))], dim=1), torch.cat([v, self._heads(self.value(s))], dim=1))
            for s, (k, v) in zip(streams, cache, strict=True)
        )
        past, scale = cache[0][0].shape[1], q.shape[-1] ** -0.5
        here = torch.arange(past, past + x.shape[1], device=x.device)[:, None]
        there = torch.arange(past + x.shape[1], device=x.device)
        unseen = there > here if self.reach is None else (there > here) | (there <= here - self.reach)
        turned = rotate(q, past)
        scores = [_scores(turned, rotate(k, 0)).masked_fill(unseen, -torch.inf) for k, _ in after]
        # not by calling the layers: a parameter as a layer's input upsets PyTorch's counter of operations
        always = [self._heads(F.linear(self.persistent, layer.weight))[None] for layer in (self.key, self.value)]
        k, v = (t.expand(x.shape[0], -1, -1, -1) for t in always)
        scores.append(_scores(q, k))
        values = [*(v for _, v in after), v]
        weights = (scale * torch.cat(scores, dim=-1)).softmax(dim=-1)
        y = torch.einsum("bhts,bshd->bthd", weights, torch.cat(values, dim=1))
        y = self.out(y.flatten(-2))
        return y if self.share is None else x + self.share * y, after

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bthd,bshd->bhts", q, k)


class Titans(nn.Module):
    """One Titans mixer: a neural memory, and how attention over a short stretch is joined to it.

    "lmm": the memory alone. "mal": the memory, then attention over a sliding window of what it gave. "mag": attention
    over a sliding window beside the memory, which gates it. "mac": segment by segment, retrieve from the memory as it
    was before the segment, attend over what was retrieved and the segment, write what attention gave, gate by the
    memory's answer to that. With ``write="input"`` "mac" writes the segment instead of what attention made of it, the
    order of a common re-implementation.
    """

    def __init__(self, kind: str, config: SleepConfig) -> None:
        super().__init__()
        assert kind in TITANS and config.segment is not None
        self.kind, self.segment, self.write = kind, config.segment, config.write
        self.memory = NeuralMemory(
            config.dim,
            heads=config.heads,
            layers=config.memory_layers,
            expansion=config.expansion,
            chunk_size=config.chunk_size,
            momentum=config.momentum,
            forgetting=config.forgetting,
            conv=config.conv,
            max_step=config.max_step,
        )
        if kind != "lmm":
            reach = None if kind == "mac" else self.segment
            residual = kind != "mag"  # there attention is a gate, and stands beside the tokens' own way
            self.attention = SegmentAttention(config.dim, config.heads, config.persistent, reach, residual=residual)
        if kind in ("mac", "mag"):
            self.attended_norm = nn.RMSNorm(config.dim, eps=1e-6)
            self.recalled_norm = nn.RMSNorm(config.dim, eps=1e-6)

    def init_state(self, batch_size: int) -> Memories:
        """Fast: the memory's weights, then its velocity. Tails: the convolution's, the anchor, and for "mac" the
        weights before the segment; at the start of a chunk or segment these last two are not looked at."""
        state = self.memory.init_state(batch_size)
        zeros = tuple(torch.zeros_like(w) for w in state.weights)
        tails = (state.tail, *zeros, *(zeros if self.kind == "mac" else ()))
        caches = {"lmm": 0, "mal": 1, "mag": 1, "mac": 2}[self.kind]
        cache = tuple(self.attention.empty(batch_size) for _ in range(caches))
        return Memories((*state.weights, *state.velocity), cache, tails)

    def renewed(self, fast: tuple[Tensor, ...], tails: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tails with the anchor, and for "mac" the weights before the segment, taken from the weights as they are."""
        weights = fast[: len(self.memory.initial)]
        return (tails[0], *weights, *(weights if self.kind == "mac" else ()))

    def forward(self, x: Tensor, before: Memories, position: int) -> tuple[Tensor, Memories]:
        """``x [B, T, dim]``, of which the first token is number `position` since the last clearing."""
        if self.kind == "mac":
            return self._mac(x, before, position)
        recalled, memory = self._remember(x, before, position)
        if self.kind == "lmm":
            return recalled, memory._replace(cache=())
        if self.kind == "mal":  # equations 29 to 31
            y, cache = self._slide(recalled, before.cache)
        else:  # equations 26 to 28
            y, cache = self._slide(x, before.cache)
            y = self._gated(y, recalled)
        return y, memory._replace(cache=cache)

    def _remember(self, x: Tensor, before: Memories, position: int) -> tuple[Tensor, Memories]:
        """Write and read `x` in the memory; what it leaves, with an empty cache."""
        layers = len(self.memory.initial)
        weights, velocity = before.fast[:layers], before.fast[layers:]
        phase = position % self.memory.chunk_size
        anchor = before.tails[1 : 1 + layers] if phase else weights
        y, after = self.memory(x, MemoryState(weights, velocity, anchor, before.tails[0], phase))
        return y, Memories((*after.weights, *after.velocity), (), (after.tail, *after.anchor))

    def _slide(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Attention over a sliding window, a stretch of at most `segment` tokens at a time."""
        outputs = [x[:, :0]]
        for part in x.split(self.segment, dim=1):
            y, cache = self.attention(part, cache)
            seen = max(0, cache[0][0].shape[1] - self.segment + 1)
            cache = tuple((k[:, seen:], v[:, seen:]) for k, v in cache)
            outputs.append(y)
        return torch.cat(outputs, dim=1), cache

    def _mac(self, x: Tensor, before: Memories, position: int) -> tuple[Tensor, Memories]:
        layers = len(self.memory.initial)
        outputs, start = [x[:, :0]], before.tails[1 + layers :]
        for part, first in _segments(x, position, self.segment):
            if first % self.segment == 0:
                start = before.fast[:layers]
                before = before._replace(cache=tuple(self.attention.empty(x.shape[0]) for _ in range(2)))
            y, before = self._mac_segment(part, before, start, first)
            outputs.append(y)
        return torch.cat(outputs, dim=1), before._replace(tails=(*before.tails[: 1 + layers], *start))

    def _mac_segment(
        self, x: Tensor, before: Memories, start: tuple[Tensor, ...], position: int
    ) -> tuple[Tensor, Memories]:
        """Some tokens of one segment; `start` are the memory's weights before it."""
        retrieved = self.memory.recall(x, start)  # equation 21, and 22 below
        attended, cache = self.attention(x, before.cache, retrieved)
        written = attended if self.write == "attended" else x
        recalled, memory = self._remember(written, before, position)  # equation 24
        return self._gated(attended, recalled), memory._replace(cache=cache)  # equation 25

    def _gated(self, attended: Tensor, recalled: Tensor) -> Tensor:
        """``⊗``: both sides normalised with learned weights, what was attended through a sigmoid, multiplied."""
        return torch.sigmoid(self.attended_norm(attended)) * self.recalled_norm(recalled)


def _segments(x: Tensor, position: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """The tokens of x cut where segments end, each part with the position of its first token."""
    first = 0
    while first < x.shape[1]:
        last = min(first + size - position % size, x.shape[1])
        yield x[:, first:last], position
        position += last - first
        first = last
