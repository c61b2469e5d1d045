"""The settings of a sleeping language model and of its rivals; every one is checked, in a sentence, on creation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf
from typing import Any

from labkit.kernels.titans import WIDEST_CHUNK
from labkit.memory.titans import MOST_LAYERS

TITANS = ("lmm", "mac", "mag", "mal")
BLOCKS = ("attention", "delta", *TITANS)
EVICTIONS = ("hard", "sliding", "keep")
CARRIES = ("both", "state", "hidden")
WRITES = ("attended", "input")


@dataclass(frozen=True)
class SleepConfig:
    """Shape and habits of a `SleepLM`.

    Attributes:
        vocab: number of token ids.
        window: L, the most tokens one sleep reads.
        dim: width of the residual stream; `heads` must divide it.
        heads: heads of every attention and every memory layer.
        pattern, repeat: the blocks are ``pattern * repeat``, each "attention", "delta" (a gated delta memory), or one
            of Titans': "lmm" (a neural memory alone), "mac", "mag", "mal" (joined to attention in three ways).
        key_dim, value_dim: a memory head holds a ``[key_dim, value_dim]`` matrix; None takes ``dim // heads``.
        mlp_ratio: hidden width of the SwiGLU layer over `dim`.
        conv: tokens seen by the memory's short causal convolution.
        eviction: what sleep leaves besides the fast weights. "hard": nothing (the paper's setting). "sliding": keys
            and values of the newest L - 1 positions, and attention never looks further back. "keep": the whole cache,
            which makes the model a ceiling rather than a sleeper.
        reinject: between passes ``h <- norm(h) + embed(window)`` instead of ``h <- h``.
        carry: what goes from one pass to the next: "both" the hidden states and the fast weights, only the "state",
            or only the "hidden" states. Anything but "both" is an ablation.
        segment: tokens of a "mac" segment, and what attention in "mag" and "mal" reaches; None takes the window. A
            multiple of `chunk_size`, at most `window`.
        memory_layers, expansion, chunk_size, max_step, momentum, forgetting: of Titans' memories; see
            `labkit.memory.NeuralMemory`.
        persistent: learned tokens that attention in Titans' blocks always sees.
        attention_conv: tokens seen by a short causal convolution of the attention blocks' queries, keys and values; 1
            is attention as it is usually written. (Attention inside Titans' blocks has none.)
        associative: whether a gated delta memory, and attention with such a convolution, begins with keys like queries,
            from the token before, as Titans' memories do (`labkit.memory.association`).
        conv_gates: whether the gates of a gated delta memory see the tokens of its convolution, as those of Titans' do.
        write: what a "mac" memory stores, "attended" (the paper) or the block's "input".
    """

    vocab: int
    window: int
    dim: int = 64
    heads: int = 2
    pattern: tuple[str, ...] = ("attention", "delta")
    repeat: int = 2
    key_dim: int | None = None
    value_dim: int | None = None
    mlp_ratio: float = 2.0
    conv: int = 3
    eviction: str = "hard"
    reinject: bool = True
    carry: str = "both"
    segment: int | None = None
    memory_layers: int = 2
    expansion: int = 2
    chunk_size: int = 16
    max_step: float | None = None
    momentum: bool = True
    forgetting: bool = True
    persistent: int = 4
    write: str = "attended"
    attention_conv: int = 1
    associative: bool = False
    conv_gates: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.pattern, str) or not isinstance(self.pattern, list | tuple):
            raise ValueError(f"pattern must be a list of names out of {BLOCKS}, but it is {self.pattern!r}.")
        object.__setattr__(self, "pattern", tuple(self.pattern))
        filled = {"key_dim": lambda: self.dim // self.heads, "value_dim": lambda: self.dim // self.heads}
        filled["segment"] = lambda: self.window
        shape = ("vocab", "window", "dim", "heads", "repeat")
        sizes = (*shape, "conv", "attention_conv", "memory_layers", "expansion", "chunk_size")
        for name in (*sizes, *filled):
            value = getattr(self, name)
            if value is None and name in filled:
                object.__setattr__(self, name, filled[name]())
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, but it is {value!r}.")
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"dim={self.dim} must be a multiple of 2 * heads={2 * self.heads}, since rotary positions turn "
                "pairs of channels within a head."
            )
        unknown = [name for name in self.pattern if name not in BLOCKS]
        if unknown or not self.pattern:
            raise ValueError(f"pattern must name one or more of {BLOCKS}, but it is {self.pattern}.")
        if self.eviction not in EVICTIONS:
            raise ValueError(f"eviction must be one of {EVICTIONS}, but it is {self.eviction!r}.")
        if self.carry not in CARRIES:
            raise ValueError(f"carry must be one of {CARRIES}, but it is {self.carry!r}.")
        for name in ("reinject", "momentum", "forgetting", "associative", "conv_gates"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, but it is {getattr(self, name)!r}.")
        if isinstance(self.mlp_ratio, bool) or not isinstance(self.mlp_ratio, int | float) or self.mlp_ratio == inf:
            raise ValueError(f"mlp_ratio must be a finite number, but it is {self.mlp_ratio!r}.")
        if not self.mlp_ratio * self.dim >= 1:
            raise ValueError(f"mlp_ratio={self.mlp_ratio!r} leaves the hidden layer empty; take 2.0, say.")

        if self.memory_layers > MOST_LAYERS or self.chunk_size > WIDEST_CHUNK:
            raise ValueError(
                f"memory_layers={self.memory_layers} must be at most {MOST_LAYERS} and chunk_size={self.chunk_size} at "
                f"most {WIDEST_CHUNK}."
            )
        step = self.max_step
        if step is not None and (isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < inf):
            raise ValueError(f"max_step must be a finite number above 0, or None, but it is {step!r}.")
        if isinstance(self.persistent, bool) or not isinstance(self.persistent, int) or self.persistent < 0:
            raise ValueError(f"persistent must be a whole number of at least 0, but it is {self.persistent!r}.")
        if self.write not in WRITES:
            raise ValueError(f"write must be one of {WRITES}, but it is {self.write!r}.")
        if set(self.pattern) & set(TITANS):
            self._check_segment()

    def _check_segment(self) -> None:
        assert self.segment is not None
        if self.segment > self.window or self.segment % self.chunk_size:
            raise ValueError(
                f"segment={self.segment} must be a multiple of chunk_size={self.chunk_size} and at most "
                f"window={self.window}, so that no chunk crosses from one segment into the next."
            )

    @property
    def blocks(self) -> tuple[str, ...]:
        """The kind of every block, first to last."""
        return self.pattern * self.repeat

    @property
    def state_size(self) -> int:
        """Numbers that outlive a sleep, for one sequence: the fast weights of all memory layers, velocities included.

        An open chunk or segment of a neural memory holds copies of its weights beside them.
        """
        assert self.key_dim is not None and self.value_dim is not None
        delta = self.heads * self.key_dim * self.value_dim
        width = self.dim // self.heads
        sides = [width, *[self.expansion * width] * (self.memory_layers - 1), width]
        neural = 2 * self.heads * sum(a * b for a, b in pairwise(sides))
        return sum(delta if kind == "delta" else neural for kind in self.blocks if kind != "attention")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values; ``SleepConfig(**config.as_dict())`` gives the same configuration."""
        return {**asdict(self), "pattern": list(self.pattern)}
