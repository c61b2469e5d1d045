"""The settings of a sleeping language model and of its rivals; every one is checked, in a sentence, on creation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import Any

BLOCKS = ("attention", "delta")
EVICTIONS = ("hard", "sliding", "keep")
CARRIES = ("both", "state", "hidden")


@dataclass(frozen=True)
class SleepConfig:
    """Shape and habits of a `SleepLM`.

    Attributes:
        vocab: number of token ids.
        window: L, the most tokens one sleep reads.
        dim: width of the residual stream; `heads` must divide it.
        heads: heads of every attention and every memory layer.
        pattern, repeat: the blocks are ``pattern * repeat``, each "attention" or "delta" (a gated delta memory).
        key_dim, value_dim: a memory head holds a ``[key_dim, value_dim]`` matrix; None takes ``dim // heads``.
        mlp_ratio: hidden width of the SwiGLU layer over `dim`.
        conv: tokens seen by the memory's short causal convolution.
        eviction: what sleep leaves besides the fast weights. "hard": nothing (the paper's setting). "sliding": keys
            and values of the newest L - 1 positions, and attention never looks further back. "keep": the whole cache,
            which makes the model a ceiling rather than a sleeper.
        reinject: between passes ``h <- norm(h) + embed(window)`` instead of ``h <- h``.
        carry: what goes from one pass to the next: "both" the hidden states and the fast weights, only the "state",
            or only the "hidden" states. Anything but "both" is an ablation.
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

    def __post_init__(self) -> None:
        if isinstance(self.pattern, str) or not isinstance(self.pattern, list | tuple):
            raise ValueError(f"pattern must be a list of names out of {BLOCKS}, but it is {self.pattern!r}.")
        object.__setattr__(self, "pattern", tuple(self.pattern))
        for name in ("vocab", "window", "dim", "heads", "repeat", "conv", "key_dim", "value_dim"):
            value = getattr(self, name)
            optional = name in ("key_dim", "value_dim")
            if value is None and optional:
                object.__setattr__(self, name, self.dim // self.heads)
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
        if not isinstance(self.reinject, bool):
            raise ValueError(f"reinject must be True or False, but it is {self.reinject!r}.")
        if isinstance(self.mlp_ratio, bool) or not isinstance(self.mlp_ratio, int | float) or self.mlp_ratio == inf:
            raise ValueError(f"mlp_ratio must be a finite number, but it is {self.mlp_ratio!r}.")
        if not self.mlp_ratio * self.dim >= 1:
            raise ValueError(f"mlp_ratio={self.mlp_ratio!r} leaves the hidden layer empty; take 2.0, say.")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The kind of every block, first to last."""
        return self.pattern * self.repeat

    @property
    def state_size(self) -> int:
        """Numbers held by the fast weights of all memory layers, for one sequence."""
        assert self.key_dim is not None and self.value_dim is not None
        return self.blocks.count("delta") * self.heads * self.key_dim * self.value_dim

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values; ``SleepConfig(**config.as_dict())`` gives the same configuration."""
        return {**asdict(self), "pattern": list(self.pattern)}
